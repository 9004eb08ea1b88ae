import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type FakeKubernetes, startFakeKubernetes } from './fake-kubernetes.js'

const ADMIN = 'admin-token'
const rule = (user: string, verbs: string[], resources: string[], namespace = 'examplens') => ({ user, verbs, resources, namespace })
/** The example of https://kubernetes.io/docs/concepts/configuration/secret/, without its data. */
const SECRET = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'dotfile-secret', labels: { app: 'demo' } }, type: 'Opaque', immutable: true }

describe('the fake of the Kubernetes API server', () => {
  let cluster: FakeKubernetes
  const call = async (method: string, path: string, body?: unknown, token = ADMIN) => {
    const headers = { ...(token && { authorization: `Bearer ${token}` }), ...(body !== undefined && { 'content-type': 'application/json' }) }
    const answer = await fetch(`${cluster.url}${path}`, { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) })
    return { status: answer.status, headers: answer.headers, body: Object(await answer.json()) }
  }
  const place = '/api/v1/namespaces/examplens'
  const secret = (name: string) => ({ ...SECRET, metadata: { ...SECRET.metadata, name } })
  /** The shape of https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/ */
  const tokenRequest = (spec: object) =>
    call('POST', `${place}/serviceaccounts/build-robot/token`, { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec })
  const get = (token: string) => call('GET', `${place}/configmaps/game-demo`, undefined, token)
  beforeAll(async () => {
    const robot = 'system:serviceaccount:examplens:build-robot'
    cluster = await startFakeKubernetes({
      tokens: { [ADMIN]: 'admin' },
      serviceAccounts: ['examplens/build-robot', 'examplens/other'],
      configMaps: ['examplens/game-demo'],
      rules: [
        rule('admin', ['create', 'delete', 'list'], ['secrets']),
        { ...rule('admin', ['create'], ['serviceaccounts/token']), names: ['build-robot', 'missing'] },
        rule('admin', ['create'], ['tokenreviews'], ''),
        rule(robot, ['get'], ['configmaps']),
      ],
    })
  })
  afterAll(() => cluster.stop())

  it('makes, lists and deletes Secrets', async () => {
    const made = await call('POST', `${place}/secrets`, secret('one'))
    expect(made.status).toBe(201)
    expect(made.body.metadata).toMatchObject({ name: 'one', namespace: 'examplens', uid: expect.any(String), resourceVersion: expect.any(String) })
    const listed = await call('GET', `${place}/secrets?labelSelector=app%3Ddemo&fieldSelector=metadata.name%3Done`)
    expect(listed.body).toMatchObject({ kind: 'SecretList', items: [{ metadata: { name: 'one' } }] })
    expect((await call('GET', `${place}/secrets?labelSelector=app%3Dother`)).body.items).toEqual([])
    const again = await call('POST', `${place}/secrets`, secret('one'))
    expect(again.body).toMatchObject({
      kind: 'Status',
      status: 'Failure',
      reason: 'AlreadyExists',
      code: 409,
      details: { name: 'one', kind: 'secrets' },
    })
    const wrong = await call('DELETE', `${place}/secrets/one`, { kind: 'DeleteOptions', apiVersion: 'v1', preconditions: { uid: 'another' } })
    expect(wrong.body).toMatchObject({ reason: 'Conflict', code: 409 })
    expect((await call('DELETE', `${place}/secrets/one`)).body).toMatchObject({ kind: 'Status', status: 'Success', details: { name: 'one' } })
    expect((await call('DELETE', `${place}/secrets/one`)).body).toMatchObject({
      reason: 'NotFound',
      code: 404,
      details: { name: 'one', kind: 'secrets' },
    })
  })

  it('pages, and answers 410 for where it was too long ago, with a way on', async () => {
    for (const name of ['page-a', 'page-b', 'page-c']) await call('POST', `${place}/secrets`, secret(name))
    const first = await call('GET', `${place}/secrets?limit=2`)
    expect(first.body.metadata).toMatchObject({ continue: expect.any(String), remainingItemCount: 1 })
    const next = (token: string) => call('GET', `${place}/secrets?limit=2&continue=${encodeURIComponent(token)}`)
    expect((await next(first.body.metadata.continue)).body.items).toMatchObject([{ metadata: { name: 'page-c' } }])
    cluster.compact()
    const late = await next(first.body.metadata.continue)
    expect(late.body).toMatchObject({ code: 410, reason: 'Expired', metadata: { continue: expect.any(String) } })
    expect((await next(late.body.metadata.continue)).body.items).toMatchObject([{ metadata: { name: 'page-c' } }])
  })

  it.each([
    ['an unknown field', { ...SECRET, datta: {} }],
    ['an unknown field within', { ...SECRET, metadata: { name: 'x', lables: {} } }],
    ['a wrong type', { ...SECRET, immutable: 'yes' }],
    ['a label that is no text', { ...SECRET, metadata: { name: 'x', labels: { app: 1 } } }],
    ['another namespace', { ...SECRET, metadata: { name: 'x', namespace: 'kube-system' } }],
  ])('answers 400 for %s', async (_what, body) => {
    expect((await call('POST', `${place}/secrets?fieldValidation=Strict`, body)).body).toMatchObject({
      kind: 'Status',
      reason: 'BadRequest',
      code: 400,
    })
  })

  it.each([
    ['capitals', { name: 'Upper' }],
    ['an underscore', { name: 'a_b' }],
    ['254 characters', { name: 'a'.repeat(254) }],
    ['no name', {}],
    ['a label value that ends in a dash', { name: 'x', labels: { app: 'a-' } }],
    ['a label value of 64 characters', { name: 'x', labels: { app: 'a'.repeat(64) } }],
  ])('answers 422 for %s', async (_what, metadata) => {
    expect((await call('POST', `${place}/secrets`, { ...SECRET, metadata })).body).toMatchObject({ reason: 'Invalid', code: 422 })
  })

  it('answers 400 for query parameters that are not, and 404 for paths that are not', async () => {
    expect((await call('GET', `${place}/secrets?limt=2`)).status).toBe(400)
    expect((await call('GET', `${place}/secrets?limit=two`)).status).toBe(400)
    expect((await call('GET', `${place}/secrets?timeout=5000`)).status).toBe(400)
    expect((await call('GET', `${place}/secrets?timeout=5000ms`)).status).toBe(200)
    expect((await call('GET', '/api/v1/secrets')).status).toBe(404)
    expect((await call('PUT', `${place}/secrets/one`, SECRET)).status).toBe(404)
  })

  it('lets in whom it knows, to what RBAC allows', async () => {
    expect((await call('GET', `${place}/secrets`, undefined, 'x')).body).toMatchObject({ code: 401, reason: 'Unauthorized' })
    expect((await call('GET', `${place}/secrets`, undefined, '')).status).toBe(401)
    expect((await call('GET', '/api/v1/namespaces/kube-system/secrets')).body).toMatchObject({ code: 403, reason: 'Forbidden' })
    expect((await call('POST', `${place}/serviceaccounts/other/token`, { spec: { audiences: [] } })).status).toBe(403)
    const asked = (resourceAttributes: object) =>
      call('POST', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', {
        ...{ apiVersion: 'authorization.k8s.io/v1', kind: 'SelfSubjectAccessReview', spec: { resourceAttributes } },
      })
    const token = { namespace: 'examplens', verb: 'create', resource: 'serviceaccounts', subresource: 'token' }
    expect((await asked({ ...token, name: 'build-robot' })).body.status).toEqual({ allowed: true })
    expect((await asked({ ...token, name: 'other' })).body.status).toEqual({ allowed: false })
    expect((await asked(token)).body.status).toEqual({ allowed: false })
    expect((await asked({ namespace: 'kube-system', verb: 'list', resource: 'secrets' })).body.status).toEqual({ allowed: false })
  })

  it('throttles as asked', async () => {
    cluster.throttle(1)
    const { status, headers, body } = await call('GET', `${place}/secrets`)
    expect({ status, wait: headers.get('retry-after'), reason: body.reason }).toEqual({ status: 429, wait: '1', reason: 'TooManyRequests' })
    expect((await call('GET', `${place}/secrets`)).status).toBe(200)
  })

  it('signs tokens with the claims that Kubernetes documents', async () => {
    const { body: bound } = await call('POST', `${place}/secrets`, secret('bound-claims'))
    const boundObjectRef = { kind: 'Secret', apiVersion: 'v1', name: 'bound-claims', uid: bound.metadata.uid }
    const { status, body } = await tokenRequest({ audiences: ['https://a.example'], expirationSeconds: 600, boundObjectRef })
    expect(status).toBe(201)
    expect(body).toMatchObject({ kind: 'TokenRequest', spec: { audiences: ['https://a.example'], expirationSeconds: 600 } })
    const [, claims] = body.status.token.split('.').map((part: string) => Buffer.from(part, 'base64url').toString())
    const { exp, iat, ...rest } = JSON.parse(claims)
    expect(exp - iat).toBe(600)
    expect(new Date(exp * 1000).toISOString()).toBe(body.status.expirationTimestamp.replace('Z', '.000Z'))
    expect(rest).toMatchObject({
      ...{ aud: ['https://a.example'], sub: 'system:serviceaccount:examplens:build-robot', nbf: iat },
      'kubernetes.io': {
        namespace: 'examplens',
        secret: { name: 'bound-claims', uid: bound.metadata.uid },
        serviceaccount: { name: 'build-robot', uid: expect.any(String) },
      },
    })
  })

  it('signs none for what is not there, or is another, or for too short a time', async () => {
    const { body: bound } = await call('POST', `${place}/secrets`, secret('bound-refused'))
    const ref = { kind: 'Secret', apiVersion: 'v1', name: 'bound-refused', uid: bound.metadata.uid }
    const answer = async (spec: object) => (await tokenRequest({ audiences: [], ...spec })).body
    expect(await answer({ expirationSeconds: 599 })).toMatchObject({ code: 422, reason: 'Invalid' })
    expect(await answer({ expirationSeconds: 2 ** 32 + 1 })).toMatchObject({ code: 422 })
    expect(await answer({ boundObjectRef: { ...ref, uid: 'another' } })).toMatchObject({
      code: 409,
      reason: 'Conflict',
      details: { name: 'bound-refused' },
    })
    expect(await answer({ boundObjectRef: { ...ref, kind: 'ConfigMap' } })).toMatchObject({ code: 400 })
    await call('DELETE', `${place}/secrets/bound-refused`)
    expect(await answer({ boundObjectRef: ref })).toMatchObject({ code: 404, details: { name: 'bound-refused', kind: 'secrets' } })
    expect((await call('POST', `${place}/serviceaccounts/missing/token`, { spec: { audiences: [] } })).body).toMatchObject({
      ...{ code: 404, details: { name: 'missing', kind: 'serviceaccounts' } },
    })
  })

  it('lets a token die with its Secret, ten seconds late, and with its service account', async () => {
    const make = async (name: string) => {
      const { body: bound } = await call('POST', `${place}/secrets`, secret(name))
      const boundObjectRef = { kind: 'Secret', apiVersion: 'v1', name, uid: bound.metadata.uid }
      return String((await tokenRequest({ audiences: [], boundObjectRef })).body.status.token)
    }
    const token = await make('bound-life')
    expect((await get(token)).status).toBe(200)
    expect((await get(`${token.slice(0, -8)}AAAAAAAA`)).status).toBe(401)
    const review = async () => {
      const asked = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenReview', spec: { token } }
      return (await call('POST', '/apis/authentication.k8s.io/v1/tokenreviews', asked)).body.status
    }
    expect(await review()).toMatchObject({ authenticated: true, user: { username: 'system:serviceaccount:examplens:build-robot' } })
    await call('DELETE', `${place}/secrets/bound-life`)
    cluster.passCache(9000)
    expect((await get(token)).status).toBe(200)
    cluster.passCache(1000)
    expect((await get(token)).status).toBe(401)
    // Another of the same name is another.
    await call('POST', `${place}/secrets`, secret('bound-life'))
    expect((await get(token)).status).toBe(401)
    expect(await review()).toMatchObject({ authenticated: false })

    cluster.addFinalizer('example.com/keep')
    const kept = await make('bound-kept')
    expect((await call('DELETE', `${place}/secrets/bound-kept`)).body).toMatchObject({
      kind: 'Secret',
      metadata: { deletionTimestamp: expect.any(String) },
    })
    cluster.passTime(59_000)
    expect((await get(kept)).status).toBe(200)
    cluster.passTime(13_000)
    expect((await get(kept)).status).toBe(401)
    cluster.addFinalizer(undefined)

    const last = await make('bound-last')
    expect((await get(last)).status).toBe(200)
    cluster.deleteServiceAccount('examplens', 'build-robot')
    cluster.passCache(10_000)
    expect((await get(last)).status).toBe(401)
  })
})
