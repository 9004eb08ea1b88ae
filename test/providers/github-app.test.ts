import { createServer } from 'node:http'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { credentialOf } from '../../src/providers/github-app/credential.js'
import { PERMISSIONS } from '../../src/providers/github-app/permissions.js'
import { githubApp } from '../../src/providers/github-app.js'
import type { Provider } from '../../src/providers/provider.js'
import type { Scope } from '../../src/types.js'
import { waitFor } from '../support/wait.js'
import { type Answer, refusal } from './fake-github.js'
import {
  APP_ID,
  asHolder,
  CLIENT_ID,
  type GitHubUpstream,
  OTHER_KEY,
  PRIVATE_KEY,
  PRIVATE_KEY_PKCS8,
  startGitHubUpstream,
} from './github-upstream.js'
import { plan, requestOf, SHORT_MS, TIMEOUT_MS } from './harness.js'

const CREATE = 'POST /app/installations/{installation_id}/access_tokens'
const REVOKE = 'DELETE /installation/token'
const PROBE = 'GET /installation/repositories'
const HOUR_MS = 3_600_000
const context = { name: 'github', instance: 'test', timeoutMs: TIMEOUT_MS, concurrency: 2 }
const params = (change: object = {}) =>
  githubApp.params.parse({ owner: 'acme', repositories: ['app', 'docs'], permissions: { contents: 'write' }, ...change })

describe('the github-app provider', () => {
  let github: GitHubUpstream
  let provider: Provider
  const options = (change: object = {}) => githubApp.options.parse({ app_id: APP_ID, private_key: PRIVATE_KEY, api_url: github.apiUrl, ...change })
  const open = (change: object = {}) => githubApp.open(options(change), context)
  const request = (given = params(), scope: Scope = {}, ms = TIMEOUT_MS) => requestOf(provider, plan({ scope }), given, ms)
  const mint = (given = params(), scope: Scope = {}) => provider.mint(request(given, scope))
  const tokenOf = ({ credential }: Awaited<ReturnType<typeof mint>>) => String(credential.fields.token)
  beforeEach(async () => {
    github = await startGitHubUpstream()
    provider = await open()
  })
  afterEach(async () => {
    await provider.close()
    await github.stop()
  })

  it('asks for each token anew: no two mints are given the same one, at once or after each other', async () => {
    const atOnce = await Promise.all([1, 2, 3, 4].map(() => mint()))
    const tokens = [...atOnce, await mint(), await mint()].map(tokenOf)
    expect(new Set(tokens).size).toBe(6)
    expect(github.live().sort()).toEqual([...tokens].sort())
  })

  it('never asks for a token without naming repositories and permissions', async () => {
    await mint()
    await mint(params(), { repositories: 'docs', permissions: 'contents:read' })
    await mint(params({ owner: undefined, installation: 101, repositories: [9001, 9003] }), { repositories: ['9003'] })
    expect(github.asked).toEqual([
      { installation: 101, repositories: ['app', 'docs'], permissions: { contents: 'write' } },
      { installation: 101, repositories: ['docs'], permissions: { contents: 'read' } },
      { installation: 101, repository_ids: [9003], permissions: { contents: 'write' } },
    ])
  })

  it('finds the installation of an organization or of a user, and the one that took its place', async () => {
    const { credential } = await mint(params({ owner: 'octocat', repositories: ['app'], permissions: { contents: 'read' } }))
    expect(credential.fields.repositories).toEqual(['Octocat/app'])
    expect(await asHolder(credential, 'GET', 'octocat/app')).toBe(200)
    await mint()
    github.installation.id = 777
    await expect(mint()).rejects.toMatchObject({ kind: 'refused' })
    expect(tokenOf(await mint())).toMatch(/^ghs_/)
  })

  it('tells that a token lives for its hour, whatever was asked for, and for no longer', async () => {
    const from = Date.now()
    const { credential, usableUntil = 0, expiresAt } = await mint()
    expect(expiresAt).toBeUndefined()
    expect(usableUntil).toBeGreaterThan(from + HOUR_MS - 1000)
    expect(usableUntil).toBeLessThanOrEqual(Date.now() + HOUR_MS)
    github.setAhead(usableUntil - Date.now() - 1000)
    expect(await asHolder(credential, 'GET', 'acme/app')).toBe(200)
    github.setAhead(usableUntil - Date.now())
    expect(await asHolder(credential, 'GET', 'acme/app')).toBe(401)
    github.setAhead(0)
    const long = await provider.mint({ ...request(), expiresAt: Date.now() + 2 * HOUR_MS })
    expect(long.usableUntil).toBeUndefined()
    expect(long.expiresAt).toBeLessThanOrEqual(Date.now() + HOUR_MS)
  })

  it('gives back what GitHub makes too late, trying again where that fails', async () => {
    let release: () => void = () => undefined
    github.next(CREATE, async (usual) => {
      await new Promise<void>((resolve) => {
        release = resolve
      })
      return usual()
    })
    github.next(REVOKE, () => refusal(502, 'Bad Gateway'))
    await expect(provider.mint(request(params(), {}, SHORT_MS))).rejects.toMatchObject({ kind: 'timeout' })
    release()
    await waitFor('the late token', () => github.log().includes('access_tokens 201'))
    await waitFor('its end', () => github.live().length === 0)
    expect(github.log().match(/DELETE \/installation\/token \d+/g)).toEqual(['DELETE /installation/token 502', 'DELETE /installation/token 204'])
  })

  it('asks for no token when its time was over before it knew the installation', async () => {
    let release: () => void = () => undefined
    github.next('GET /orgs/{org}/installation', async (usual) => {
      await new Promise<void>((resolve) => {
        release = resolve
      })
      return usual()
    })
    await expect(provider.mint(request(params(), {}, SHORT_MS))).rejects.toMatchObject({ kind: 'timeout' })
    release()
    await waitFor('the answer', () => github.log().includes('/orgs/acme/installation 200'))
    await mint()
    expect(github.asked).toHaveLength(1)
  })

  it('closes at once though a mint is unanswered', async () => {
    github.next(CREATE, () => new Promise(() => undefined))
    const behind = await open()
    const late = requestOf(behind, plan(), params(), SHORT_MS)
    await expect(behind.mint(late)).rejects.toMatchObject({ kind: 'timeout' })
    const from = performance.now()
    await behind.close()
    expect(performance.now() - from).toBeLessThan(1000)
  })

  it.each<[string, (body: Record<string, unknown>) => object]>([
    ['more permissions', (body) => ({ ...body, permissions: { contents: 'write', issues: 'read' } })],
    ['a higher level', (body) => ({ ...body, permissions: { contents: 'admin' } })],
    ['a level nobody knows', (body) => ({ ...body, permissions: { contents: 'maintain' } })],
    ['permissions it does not tell', (body) => ({ ...body, permissions: undefined })],
    ['all repositories', (body) => ({ ...body, repository_selection: 'all' })],
    ['repositories it does not tell', (body) => ({ ...body, repositories: undefined })],
    ['no repositories', (body) => ({ ...body, repositories: [] })],
    ['a repository that was not asked for', (body) => ({ ...body, repositories: [{ id: 9003, name: 'secret', full_name: 'acme/secret' }] })],
    ["another owner's repository of that name", (body) => ({ ...body, repositories: [{ id: 1, name: 'app', full_name: 'evil/app' }] })],
    ['a life of two hours', (body) => ({ ...body, expires_at: new Date(Date.now() + 2 * HOUR_MS).toISOString() })],
    ['a life without end', (body) => ({ ...body, expires_at: 'never' })],
  ])('hands out no token with %s, and gives it back', async (_what, change) => {
    github.next(CREATE, (usual) => {
      const answer = usual()
      return { ...answer, body: change(Object(answer.body)) }
    })
    await expect(mint()).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('given back') })
    expect(github.asked).toHaveLength(1)
    expect(github.live()).toEqual([])
  })

  it('says of a token that it could not give back that it was made, and gives it back in the end', async () => {
    github.next(CREATE, (usual) => ({ ...usual(), status: 201, body: { ...Object(usual().body), repository_selection: 'all' } }))
    github.next(REVOKE, () => new Promise(() => undefined))
    const short = await githubApp.open(options(), { ...context, timeoutMs: SHORT_MS })
    await expect(short.mint(requestOf(short, plan(), params(), SHORT_MS))).rejects.toMatchObject({ kind: 'broken' })
    const [first] = github.live()
    expect(first).toBeDefined()
    await waitFor('its end', () => github.log().includes('DELETE /installation/token 204'))
    await short.close()
  })

  it.each<[string, Answer]>([
    ["a proxy's 401", { status: 401, body: { message: 'Bad credentials' }, isProxys: true }],
    ["a proxy's 404", { status: 404, body: '<html>', isProxys: true }],
    ["a proxy's 204", { status: 204, isProxys: true }],
    ["a proxy's 200", { status: 200, body: {}, isProxys: true }],
    ['a redirect', { status: 302, headers: { location: 'https://example.com/' } }],
    ['a request whose token was dropped on the way', refusal(401, 'Requires authentication')],
    ['a 404 of its own', refusal(404, 'Not Found')],
    ['a 403', refusal(403, 'Resource not accessible by integration')],
    ['a 500', refusal(500, 'Server Error')],
    ['a rate limit', refusal(403, 'secondary rate limit', { 'retry-after': '60' })],
  ])('takes %s neither for a revoked token nor for a dead one', async (_what, answer) => {
    const { handle = {} } = await mint()
    github.next(REVOKE, () => answer)
    await expect(provider.revoke(handle, TIMEOUT_MS)).rejects.toMatchObject({ name: 'ProviderError' })
    github.next(PROBE, () => (answer.status === 200 ? { ...answer, isProxys: true } : answer))
    await expect(provider.verify?.(handle, TIMEOUT_MS)).rejects.toMatchObject({ name: 'ProviderError' })
    expect(github.live()).toHaveLength(1)
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    expect(await provider.verify?.(handle, TIMEOUT_MS)).toBe('dead')
  })

  it('revokes for another broker, and takes an expired token for absent', async () => {
    const [one, two] = [await mint(), await mint()]
    const other = await open()
    expect(await other.revoke(one.handle ?? {}, TIMEOUT_MS)).toBe('revoked')
    await other.close()
    github.setAhead(HOUR_MS + 1000)
    expect(await provider.revoke(two.handle ?? {}, TIMEOUT_MS)).toBe('absent')
  })

  it.each([{}, { token: '' }, { token: 'ghs_a\r\nx-evil: 1' }, { token: 7 }, { token: 'ä' }, { token: 'x'.repeat(20_000) }])(
    'sends nothing for the handle %j',
    async (handle) => {
      await expect(provider.revoke(handle, TIMEOUT_MS)).rejects.toMatchObject({ name: 'ProviderError', kind: 'invalid' })
      expect(github.log()).toBe('')
    },
  )

  it('tells throttling apart, by each of the ways in which GitHub says it', async () => {
    for (const answer of [
      refusal(429, 'Too Many Requests'),
      refusal(403, 'API rate limit exceeded', { 'x-ratelimit-remaining': '0' }),
      refusal(403, 'Forbidden', { 'retry-after': '60' }),
      refusal(403, 'You have exceeded a secondary rate limit.'),
    ]) {
      github.next(CREATE, () => answer)
      await expect(mint()).rejects.toMatchObject({ kind: 'throttled' })
    }
    github.limit(0)
    await expect(mint()).rejects.toMatchObject({ kind: 'throttled' })
  })

  it('follows no redirect', async () => {
    let asked = 0
    const elsewhere = createServer((_request, response) => {
      asked++
      response.end()
    })
    await new Promise<void>((resolve) => elsewhere.listen(0, '127.0.0.1', resolve))
    const address = elsewhere.address()
    const location = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}/`
    for (const status of [301, 302, 307, 308]) {
      github.next(CREATE, () => ({ status, headers: { location } }))
      await expect(mint()).rejects.toMatchObject({ kind: 'broken' })
    }
    expect(asked).toBe(0)
    await new Promise((resolve) => elsewhere.close(resolve))
  })

  it('takes the key in either form, also with escaped line breaks, and an app by its client id', async () => {
    for (const change of [{ private_key: PRIVATE_KEY_PKCS8 }, { private_key: PRIVATE_KEY.replaceAll('\n', '\\n') }, { app_id: CLIENT_ID }]) {
      const one = await open(change)
      await one.check([{ name: 'a', params: params() }])
      await one.close()
    }
  })

  it('finds the API of a server below its path', async () => {
    const one = await open({ api_url: `${github.apiUrl}/api/v3/` })
    await one.check([{ name: 'a', params: params() }])
    const { handle = {}, credential } = await one.mint(requestOf(one, plan(), params(), TIMEOUT_MS))
    expect(credential.env.GITHUB_API_URL).toBe(`${github.apiUrl}/api/v3`)
    expect(await asHolder(credential, 'GET', 'acme/app')).toBe(200)
    expect(await one.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    expect(github.log().split('\n')).toHaveLength(github.log().match(/ \/api\/v3\//g)?.length ?? 0)
    await one.close()
  })

  it('refuses what is no key or no address of an API, without repeating the key', () => {
    const cut = PRIVATE_KEY.slice(0, 800)
    for (const private_key of ['', 'secret', cut, '-----BEGIN RSA PRIVATE KEY-----']) {
      const parsed = githubApp.options.safeParse({ app_id: 1, private_key })
      expect(parsed.success).toBe(false)
      expect(private_key.length > 1 && inspect(parsed.error, { depth: null }).includes(private_key)).toBe(false)
    }
    const ways = [
      'http://github.example',
      'https://u:p@github.example',
      'https://github.example/?a',
      'https://github.example/#a',
      'ftp://x',
      'github.example',
    ]
    for (const api_url of ways) expect(githubApp.options.safeParse({ app_id: 1, private_key: PRIVATE_KEY, api_url }).success).toBe(false)
    expect(githubApp.options.safeParse({ app_id: '1; DROP', private_key: PRIVATE_KEY }).success).toBe(false)
    expect(options({ api_url: 'https://github.example/api/v3/' }).api_url).toBe('https://github.example/api/v3')
  })

  it('lets a role make lasting access only where it says so, and read in any case', () => {
    for (const name of PERMISSIONS) {
      const of = (level: string, allow = false) =>
        githubApp.params.safeParse({ owner: 'a', repositories: ['b'], permissions: { [name]: level }, allow_lasting_access: allow }).success
      // Those that GitHub has to write or to read alone.
      expect({ name, read: of('read') }).toEqual({ name, read: !['workflows', 'profile'].includes(name) })
      expect({ name, write: of('write', true) }).toEqual({ name, write: !['organization_events', 'organization_plan'].includes(name) })
    }
    expect(() => params({ permissions: { contents: 'read', administration: 'write' } })).toThrow(
      /administration: write can make access that outlives/,
    )
  })

  describe('check', () => {
    const roles = (change: object = {}) => [{ name: 'triage', params: params(change) }]

    it('leaves nothing', async () => {
      await provider.check([...roles(), ...roles(), ...roles()])
      expect(github.asked).toEqual([])
      expect(github.log().match(/installation/g)).toHaveLength(1)
    })

    it('finds what the installation lacks', async () => {
      const change = { permissions: { contents: 'write', pull_requests: 'write', checks: 'read' } }
      await expect(provider.check(roles(change))).rejects.toMatchObject({
        kind: 'refused',
        message: expect.stringMatching(/"triage".*pull_requests: write, checks: read/),
      })
      await expect(provider.check(roles({ owner: 'nobody' }))).rejects.toMatchObject({
        kind: 'refused',
        message: expect.stringContaining('installed'),
      })
      github.installation.suspended = true
      await expect(provider.check(roles())).rejects.toMatchObject({ message: expect.stringContaining('suspended') })
      await expect(mint()).rejects.toMatchObject({ kind: 'refused' })
    })

    it('finds a wrong key and a wrong app, without repeating the key', async () => {
      for (const change of [{ private_key: OTHER_KEY }, { app_id: 4712 }]) {
        const wrong = await open(change)
        const error = await wrong.check().catch((thrown: unknown) => thrown)
        expect(error).toMatchObject({ name: 'ProviderError', kind: 'refused', message: expect.stringContaining('docs/providers/github-app.md') })
        expect(inspect(error, { depth: null, showHidden: true })).not.toContain(OTHER_KEY.split('\n')[3])
        await wrong.close()
      }
    })
  })

  it('says which scopes narrow nothing', () => {
    const check = (scope: Parameters<typeof githubApp.checkRole>[1]) => githubApp.checkRole(params(), scope, options())
    expect(check({ repositories: 'set', permissions: 'equal' })).toEqual([])
    expect(check({ repositories: 'path', permissions: 'path', branch: 'equal' })).toHaveLength(3)
  })

  it.each([
    ['https://api.github.com', { GITHUB_TOKEN: 't', GH_TOKEN: 't' }],
    ['https://api.octo.ghe.com', { GITHUB_TOKEN: 't', GH_TOKEN: 't', GH_HOST: 'octo.ghe.com' }],
    // Under these names gh sends it to that server alone.
    ['https://git.example/api/v3', { GH_ENTERPRISE_TOKEN: 't', GITHUB_ENTERPRISE_TOKEN: 't', GH_HOST: 'git.example' }],
  ])('names the token for tools so that they send it to %s', (api_url, env) => {
    expect(credentialOf(api_url, 't', { expiresAt: 0, repositories: [], permissions: {} }).env).toEqual({ ...env, GITHUB_API_URL: api_url })
  })
})
