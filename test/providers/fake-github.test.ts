import { createSign, generateKeyPairSync } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { type FakeGitHub, type FakeInstallation, startFakeGitHub } from './fake-github.js'

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const other = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
const base64url = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
const seconds = () => Math.floor(Date.now() / 1000)

/** As GitHub's page on generating a JSON web token says. */
function jwt(change: object = {}, key = privateKey, header: object = { alg: 'RS256', typ: 'JWT' }): string {
  const input = `${base64url(header)}.${base64url({ iat: seconds() - 60, exp: seconds() + 540, iss: 1, ...change })}`
  return `Bearer ${input}.${createSign('RSA-SHA256').update(input).sign(key, 'base64url')}`
}

describe('the fake of GitHub', () => {
  let github: FakeGitHub
  const installation: FakeInstallation = {
    id: 1,
    account: { login: 'octocat', id: 1, type: 'User' },
    repositories: [
      { id: 1296269, name: 'Hello-World' },
      { id: 1296270, name: 'Spoon-Knife' },
    ],
    permissions: { issues: 'write', contents: 'read', metadata: 'read' },
  }
  const ask = async (method: string, path: string, authorization = jwt(), body?: unknown) => {
    const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
    const response = await fetch(`${github.apiUrl}${path}`, { method, body: text, headers: { authorization } })
    const answer = await response.text()
    return { status: response.status, headers: response.headers, body: answer === '' ? undefined : JSON.parse(answer) }
  }
  const create = (body?: unknown, authorization?: string) => ask('POST', '/app/installations/1/access_tokens', authorization, body)
  beforeAll(async () => {
    github = await startFakeGitHub({ appId: 1, clientId: 'Iv1.ab1112223334445c', publicKey, installations: [installation] })
  })
  beforeEach(() => {
    github.setAhead(0)
    github.limit(undefined)
  })
  afterAll(() => github.stop())

  it('answers the documented example of a token', async () => {
    const { status, body, headers } = await create({ repositories: ['Hello-World'], permissions: { issues: 'write', contents: 'read' } })
    expect(status).toBe(201)
    expect(headers.get('x-github-request-id')).toMatch(/^[0-9A-F]{4}:/)
    expect(body).toEqual({
      token: expect.stringMatching(/^ghs_/),
      expires_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      permissions: { issues: 'write', contents: 'read', metadata: 'read' },
      repository_selection: 'selected',
      repositories: [{ id: 1296269, name: 'Hello-World', full_name: 'octocat/Hello-World', private: true }],
    })
    expect(Date.parse(body.expires_at) - Date.now()).toBeGreaterThan(3_590_000)
  })

  it('gives everything to who names nothing, as GitHub does', async () => {
    for (const body of [undefined, {}, { repositories: [], permissions: {} }]) {
      const answer = await create(body)
      expect(answer.body).toMatchObject({ repository_selection: 'all', permissions: installation.permissions })
      expect((await ask('GET', '/installation/repositories', `token ${answer.body.token}`)).body.total_count).toBe(2)
    }
  })

  it.each<[string, unknown, number]>([
    ['a repository that the installation does not have', { repositories: ['Hello-World', 'linguist'] }, 422],
    ['a number that it does not have', { repository_ids: [1] }, 422],
    ['a permission that it does not have', { permissions: { administration: 'read' } }, 422],
    ['a level that it does not have', { permissions: { contents: 'write' } }, 422],
    ['a level that is not published', { permissions: { contents: 'all' } }, 422],
    ['names that are none', { repositories: [1] }, 422],
    ['numbers that are none', { repository_ids: ['1296269'] }, 422],
    ['what is no list', { repositories: 'Hello-World' }, 422],
    ['what is no JSON', '{"repositories":', 400],
  ])('refuses %s', async (_what, body, status) => {
    const before = github.live().length
    expect((await create(body)).status).toBe(status)
    expect(github.live()).toHaveLength(before)
  })

  it.each<[string, () => string, number]>([
    ['no token at all', () => '', 401],
    ['one that another key has signed', () => jwt({}, other), 401],
    ['one of another algorithm', () => jwt({}, privateKey, { alg: 'none' }), 401],
    ['one that has expired', () => jwt({ exp: seconds() - 1 }), 401],
    ['one that lives for more than ten minutes', () => jwt({ exp: seconds() + 660 }), 401],
    ['one from the future', () => jwt({ iat: seconds() + 60 }), 401],
    ['one of another app', () => jwt({ iss: 2 }), 404],
    ['one that is a token of an installation', () => 'token ghs_x', 401],
  ])('knows no app by %s', async (_what, authorization, status) => {
    for (const [method, path] of [
      ['GET', '/app'],
      ['POST', '/app/installations/1/access_tokens'],
    ] as const)
      expect((await ask(method, path, authorization())).status).toBe(status)
  })

  it('tells of the app and its installations', async () => {
    expect((await ask('GET', '/app')).body).toMatchObject({ id: 1, client_id: 'Iv1.ab1112223334445c' })
    expect((await ask('GET', '/app', jwt({ iss: 'Iv1.ab1112223334445c' }))).status).toBe(200)
    for (const path of ['/app/installations/1', '/users/Octocat/installation'])
      expect((await ask('GET', path)).body).toMatchObject({ id: 1, account: { login: 'octocat' }, permissions: installation.permissions })
    for (const path of ['/app/installations/2', '/orgs/octocat/installation', '/users/nobody/installation', '/nothing'])
      expect((await ask('GET', path)).status).toBe(404)
  })

  it('lets a token do what it may, until it is revoked or its hour is over', async () => {
    const { token } = (await create({ repositories: ['Hello-World'], permissions: { contents: 'read' } })).body
    const read = (repository: string, held = token) => ask('GET', `/repos/octocat/${repository}/contents/README`, `token ${held}`)
    expect((await read('Hello-World')).status).toBe(200)
    expect((await read('Spoon-Knife')).status).toBe(404)
    const write = await ask('PUT', '/repos/octocat/Hello-World/contents/a/b', `token ${token}`, { message: 'm', content: 'eA==' })
    expect(write).toMatchObject({ status: 403, body: { message: 'Resource not accessible by integration' } })
    github.setAhead(3_601_000)
    expect(await read('Hello-World')).toMatchObject({ status: 401, body: { message: 'Bad credentials' } })
    github.setAhead(0)
    expect(await ask('DELETE', '/installation/token', `token ${token}`)).toMatchObject({ status: 204, body: undefined })
    for (const answer of [await read('Hello-World'), await ask('DELETE', '/installation/token', `token ${token}`)])
      expect(answer).toMatchObject({ status: 401, body: { message: 'Bad credentials', documentation_url: expect.any(String), status: '401' } })
    expect(await ask('DELETE', '/installation/token', '')).toMatchObject({ status: 401, body: { message: 'Requires authentication' } })
  })

  it('limits how often it is asked, and suspends', async () => {
    github.limit(1)
    expect((await create()).status).toBe(201)
    const limited = await create()
    expect(limited).toMatchObject({ status: 403, body: { message: expect.stringContaining('rate limit') } })
    expect(limited.headers.get('x-ratelimit-remaining')).toBe('0')
    github.limit(undefined)
    installation.suspended = true
    expect((await create()).status).toBe(403)
    installation.suspended = false
  })
})
