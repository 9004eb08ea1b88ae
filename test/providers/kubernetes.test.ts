import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { parse } from 'yaml'
import { kubernetes } from '../../src/providers/kubernetes.js'
import { type Provider, ProviderError } from '../../src/providers/provider.js'
import { startPausingProxy } from '../support/faulty-upstream.js'
import { type FakeKubernetes, type FakeKubernetesOptions, startFakeKubernetes } from './fake-kubernetes.js'
import { plan, requestOf } from './harness.js'

const BROKER = 'system:serviceaccount:mayfly:broker'
const TOKEN = 'a-token-of-the-broker'
const READER = 'system:serviceaccount:agents:reader'
const RULES = [
  { user: BROKER, namespace: 'agents', verbs: ['create', 'delete', 'list'], resources: ['secrets'] },
  { user: BROKER, namespace: 'agents', verbs: ['create'], resources: ['serviceaccounts/token'], names: ['reader'] },
  { user: READER, namespace: 'agents', verbs: ['get'], resources: ['configmaps'] },
  { user: 'reviewer', namespace: '', verbs: ['create'], resources: ['tokenreviews'] },
]

let cluster: FakeKubernetes
let opened: Provider[] = []
const closing: (() => Promise<unknown>)[] = []
const start = async (change: Partial<FakeKubernetesOptions> = {}) => {
  cluster = await startFakeKubernetes({
    ...{ tokens: { [TOKEN]: BROKER, reviewer: 'reviewer' }, serviceAccounts: ['agents/reader'], configMaps: ['agents/settings'], rules: RULES },
    ...change,
  })
  closing.push(cluster.stop)
  return cluster
}
const open = async (more: object = {}, instance = 'test') => {
  const options = kubernetes.options.parse({ namespaces: ['agents'], server: cluster.url, token: TOKEN, ...more })
  const provider = await kubernetes.open(options, { name: 'cluster', instance, timeoutMs: 5000, concurrency: 2 })
  opened.push(provider)
  return provider
}
const params = (more: object = {}) => kubernetes.params.parse({ namespace: 'agents', service_account: 'reader', ...more })
type Opened = Awaited<ReturnType<typeof open>>
const ask = (provider: Opened, { ttlMs = 900_000, untilMs = 5000, more = {} } = {}) => requestOf(provider, plan(), params(more), untilMs, ttlMs)
const gets = async (token: unknown): Promise<number> => {
  const answer = await fetch(`${cluster.url}/api/v1/namespaces/agents/configmaps/settings`, { headers: { authorization: `Bearer ${token}` } })
  await answer.arrayBuffer()
  return answer.status
}
const listed = async (provider: Opened) => {
  const found: { lease: string; expiresAt?: number }[] = []
  for await (const one of provider.list?.() ?? []) found.push(one)
  return found
}

beforeEach(async () => void (await start()))
afterEach(async () => {
  for (const provider of opened) await provider.close()
  for (const close of closing.splice(0).reverse()) await close()
  opened = []
})

describe('a token for a lease', () => {
  it('is bound to a Secret of its own, which holds nothing and says whose it is', async () => {
    const provider = await open()
    const request = ask(provider)
    await provider.mint(request)
    const name = `mf-test-${request.lease.id.slice('lease_'.length)}`
    expect(request.handle).toEqual({ namespace: 'agents', secret: name })
    expect(cluster.secrets()).toEqual([
      {
        ...{ namespace: 'agents', name, finalizers: [] },
        labels: { 'mayfly.dev/instance': 'test', 'mayfly.dev/lease': request.lease.id },
        annotations: { 'mayfly.dev/expires-at': new Date(request.expiresAt).toISOString() },
      },
    ])
    expect(cluster.tokenRequests).toEqual([
      { expirationSeconds: 900, audiences: [], boundObjectRef: { apiVersion: 'v1', kind: 'Secret', name, uid: expect.any(String) } },
    ])
  })

  it('says on whose behalf it is', async () => {
    const provider = await open()
    await provider.mint(requestOf(provider, plan({ human: 'ann@example.com' }), params({}), 5000, 900_000))
    expect(cluster.secrets().map(({ annotations }) => annotations['mayfly.dev/human'])).toEqual(['ann@example.com'])
  })

  it('comes with all that its holder needs', async () => {
    const provider = await open({ agent_server: 'https://cluster.example.com:6443' })
    const { fields, env } = (await provider.mint(ask(provider))).credential
    expect(fields).toMatchObject({ namespace: 'agents', service_account: 'reader', server: 'https://cluster.example.com:6443' })
    expect(JSON.parse(String(fields.kubeconfig))).toMatchObject({
      clusters: [{ cluster: { server: 'https://cluster.example.com:6443' } }],
      users: [{ user: { token: fields.token } }],
      contexts: [{ context: { namespace: 'agents' } }],
    })
    expect(env).toEqual({
      ...{ KUBE_HOST: fields.server, KUBE_TOKEN: fields.token },
      ...{ HELM_KUBEAPISERVER: fields.server, HELM_KUBETOKEN: fields.token, HELM_NAMESPACE: 'agents' },
    })
    expect(await gets(fields.token)).toBe(200)
  })

  it('lives for the least that Kubernetes gives, and says how long it can be used', async () => {
    const provider = await open()
    const request = ask(provider, { ttlMs: 60_000 })
    const { usableUntil = 0, expiresAt, credential } = await provider.mint(request)
    expect(cluster.tokenRequests[0]?.expirationSeconds).toBe(600)
    expect(provider.shortestLifeSeconds).toBe(660)
    expect(expiresAt).toBeUndefined()
    // The API server lets a token pass for a minute after its end.
    expect(usableUntil).toBeGreaterThan(request.issuedAt + 658_000)
    expect(usableUntil).toBeLessThanOrEqual(request.issuedAt + 662_000)
    expect(credential.fields.expires_at).toBe(new Date(request.expiresAt).toISOString())
    cluster.passTime(usableUntil - Date.now() - 5000)
    expect(await gets(credential.fields.token)).toBe(200)
    cluster.passTime(16_000)
    expect(await gets(credential.fields.token)).toBe(401)
  })

  it('ends earlier where the API server says so', async () => {
    await start({ maxTokenSeconds: 700 })
    const provider = await open()
    const request = ask(provider, { ttlMs: 3_600_000 })
    const { expiresAt = 0, usableUntil, credential } = await provider.mint(request)
    expect(expiresAt).toBeLessThanOrEqual(request.issuedAt + 702_000)
    expect(usableUntil).toBe(expiresAt + 60_000)
    expect(credential.fields.expires_at).toBe(new Date(expiresAt).toISOString())
  })

  it('for other audiences is nothing to the API server, and dies at TokenReview all the same', async () => {
    const provider = await open()
    const request = ask(provider, { more: { audiences: ['https://vault.example.com'] } })
    const { credential } = await provider.mint(request)
    const { token } = credential.fields
    expect(credential.env).toEqual({ KUBERNETES_TOKEN: token })
    expect(await gets(token)).toBe(401)
    const review = async () => {
      const answer = await fetch(`${cluster.url}/apis/authentication.k8s.io/v1/tokenreviews`, {
        ...{ method: 'POST', headers: { authorization: 'Bearer reviewer', 'content-type': 'application/json' } },
        body: JSON.stringify({
          kind: 'TokenReview',
          apiVersion: 'authentication.k8s.io/v1',
          spec: { token, audiences: ['https://vault.example.com'] },
        }),
      })
      return Object(await answer.json()).status.authenticated
    }
    expect(await review()).toBe(true)
    await provider.revoke(request.handle, 5000)
    cluster.passCache(10_000)
    expect(await review()).toBe(false)
  })

  it('works on for as long as the API server remembers it, which the residual tells', async () => {
    const provider = await open()
    const request = ask(provider)
    const { token } = (await provider.mint(request)).credential.fields
    expect(await gets(token)).toBe(200)
    expect(await provider.revoke(request.handle, 5000)).toBe('revoked')
    cluster.passCache(9000)
    expect(await gets(token)).toBe(200)
    cluster.passCache(1000)
    expect(await gets(token)).toBe(401)
    expect(provider.residualSeconds).toBeGreaterThanOrEqual(10)
  })
})

describe('a mint that fails', () => {
  it('takes its Secret away', async () => {
    await start({ serviceAccounts: [] })
    const provider = await open()
    await expect(provider.mint(ask(provider))).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('no service account "reader"'),
    })
    expect(cluster.secrets()).toEqual([])
  })

  it('for a lease that has one leaves that one alone', async () => {
    const provider = await open()
    const request = ask(provider)
    const { token } = (await provider.mint(request)).credential.fields
    await expect(provider.mint(request)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('another mint') })
    cluster.passCache(10_000)
    expect(await gets(token)).toBe(200)
  })

  it('because its Secret arrived late, after a revoke that found nothing, leaves one without a token, which is found and ended', async () => {
    const proxy = await startPausingProxy(cluster)
    closing.push(proxy.close)
    const direct = await open()
    const behind = await open({ server: `http://127.0.0.1:${proxy.port}` })
    const request = ask(behind, { untilMs: 500 })
    proxy.pauseAt('/secrets?')
    const failed = expect(behind.mint(request)).rejects.toMatchObject({ kind: 'timeout' })
    await proxy.paused()
    await failed
    expect(await direct.revoke(request.handle, 5000)).toBe('absent')
    await proxy.resume()
    expect(cluster.secrets()).toHaveLength(1)
    expect(cluster.tokenRequests).toEqual([])
    expect(await listed(direct)).toEqual([{ lease: request.lease.id, handle: request.handle, expiresAt: request.expiresAt }])
    expect(await direct.verify?.(request.handle, 5000)).toBe('alive')
    expect(await direct.revoke(request.handle, 5000)).toBe('revoked')
    expect(cluster.secrets()).toEqual([])
  })

  it('is asked for once, and only told that the server is throttling', async () => {
    const provider = await open()
    cluster.throttle(1)
    await expect(provider.mint(ask(provider))).rejects.toMatchObject({ kind: 'throttled' })
    expect(cluster.requests).toHaveLength(1)
  })

  it('in a cluster whose admission or whose RBAC refuses says what to do', async () => {
    await start({ rules: RULES.slice(1) })
    const provider = await open()
    await expect(provider.mint(ask(provider))).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('docs/providers/kubernetes.md'),
    })
  })
})

describe('a revoke', () => {
  it('is not done while a finalizer keeps the Secret', async () => {
    const provider = await open()
    const request = ask(provider)
    cluster.addFinalizer('example.com/keep')
    await provider.mint(request)
    await expect(provider.revoke(request.handle, 5000)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('finalizer') })
    expect(await provider.verify?.(request.handle, 5000)).toBe('alive')
  })

  it.each([
    ['a proxy', '<html>not found</html>'],
    [
      'a server that knows no Secrets',
      JSON.stringify({ kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'NotFound', details: {}, code: 404 }),
    ],
  ])('takes no 404 of %s for an absence', async (_what, body) => {
    const server = createServer((_request, response) => response.writeHead(404).end(body))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    closing.push(async () => server.close())
    const address = server.address()
    const provider = await open({ server: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}` })
    await expect(provider.revoke(ask(provider).handle, 5000)).rejects.toBeInstanceOf(ProviderError)
  })

  it.each([
    [200, '<html>a-secret-of-theirs</html>'],
    [200, '"a-secret-of-theirs"'],
    [201, JSON.stringify({ kind: 'a-secret-of-theirs' })],
    [403, 'a-secret-of-theirs'],
    [500, JSON.stringify({ kind: 'Status', reason: 'a-secret-of-theirs', message: 'a-secret-of-theirs' })],
  ])('that is answered with %d %s keeps nothing of it', async (status, body) => {
    const server = createServer((_request, response) => response.writeHead(status, { 'x-told': 'a-secret-of-theirs' }).end(body))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    closing.push(async () => server.close())
    const address = server.address()
    const provider = await open({ server: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}` })
    const error: unknown = await provider.revoke(ask(provider).handle, 5000).catch((thrown) => thrown)
    expect(error).toMatchObject({ kind: status === 403 ? 'refused' : 'broken' })
    const everything = inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true })
    for (const secret of ['a-secret-of-theirs', TOKEN]) expect(everything).not.toContain(secret)
  })

  it('follows no redirect with its token', async () => {
    const server = createServer((_request, response) => response.writeHead(307, { location: cluster.url }).end())
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    closing.push(async () => server.close())
    const address = server.address()
    const provider = await open({ server: `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}` })
    await expect(provider.revoke(ask(provider).handle, 5000)).rejects.toMatchObject({ kind: 'broken' })
    expect(cluster.requests).toEqual([])
  })
})

describe('the list of what this installation made', () => {
  it('is whole over many pages, also when the server forgets where it was', async () => {
    await start({ pageSize: 2 })
    const provider = await open()
    const made = []
    for (let count = 0; count < 5; count++) {
      const request = ask(provider)
      await provider.mint(request)
      made.push(request.lease.id)
    }
    const found = new Set<string>()
    for await (const { lease } of provider.list?.() ?? []) {
      found.add(lease)
      if (found.size === 2) cluster.compact()
    }
    expect([...found].sort()).toEqual(made.sort())
  })
})

describe('the broker itself', () => {
  it('is told which of its rights are missing', async () => {
    await start({ rules: [{ user: BROKER, namespace: 'agents', verbs: ['create', 'list'], resources: ['secrets'] }] })
    const provider = await open({ namespaces: ['agents', 'others'] })
    await expect(provider.check([{ name: 'a', params: params() }])).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringMatching(
        /delete secrets in "agents", nor create secrets in "others", .*nor create serviceaccounts\/token of "reader" in "agents"/,
      ),
    })
    expect(cluster.secrets()).toEqual([])
  })

  it('needs no right to read or change anything else', async () => {
    const provider = await open()
    await provider.check([{ name: 'a', params: params() }])
  })

  it('needs an instance name that can be a label', async () => {
    for (const instance of ['-a', 'a-']) await expect(open({}, instance)).rejects.toMatchObject({ kind: 'invalid' })
  })

  it('is another where its token is', async () => {
    const provider = await open({ token: 'no-token-of-theirs' })
    await expect(provider.check()).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('own credentials') })
  })
})

describe('the page', () => {
  it('shows a configuration that is taken', async () => {
    const page = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'providers', 'kubernetes.md'), 'utf8')
    const shown = /## Configuration\n```yaml\n([\s\S]*?)```/.exec(page)?.[1] ?? ''
    const { providers, roles } = parse(shown)
    const { type, ...options } = providers.cluster
    expect(type).toBe('kubernetes')
    const role = roles['cluster-read']
    expect(kubernetes.checkRole(kubernetes.params.parse(role.params), role.scope, kubernetes.options.parse(options))).toEqual([])
  })
})

describe('a role', () => {
  const problems = (change: object, scope: Parameters<typeof kubernetes.checkRole>[1] = {}) =>
    kubernetes.checkRole(params(change), scope, kubernetes.options.parse({ namespaces: ['agents', 'more'], server: 'https://x', token: 't' }))

  it('has its accounts in the namespaces of its provider, and says how a request picks one', () => {
    expect(problems({})).toEqual([])
    expect(problems({ namespace: 'kube-system' })).toEqual([expect.stringContaining('"kube-system" is not among')])
    expect(problems({ namespace: ['agents', 'more'] })).toEqual([expect.stringContaining('scope {namespace: equal}')])
    expect(problems({ namespace: ['agents', 'more'] }, { namespace: 'equal' })).toEqual([])
    expect(problems({}, { service_account: 'set' })).toEqual([expect.stringContaining('set narrows nothing')])
    expect(problems({}, { verbs: 'equal' })).toEqual([expect.stringContaining('scope.verbs')])
  })
})
