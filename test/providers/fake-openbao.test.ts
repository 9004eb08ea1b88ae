import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { type FakeOpenBao, startFakeOpenBao } from './fake-openbao.js'
import { matches } from './fake-openbao-schema.js'

/** Names and requests are those of the examples at https://openbao.org/api-docs/, where they have any. */
describe('the fake of OpenBao', () => {
  let bao: FakeOpenBao
  let token: string
  let counter = 0
  beforeAll(async () => {
    bao = await startFakeOpenBao({
      policies: {
        app: {
          'database/creds/*': ['read'],
          'secret/*': ['read'],
          'pki/issue/*': ['update'],
          'sys/leases/revoke': ['update'],
        },
        none: {},
      },
      secrets: {
        'database/creds/my-role': { ttlSeconds: 3600, maxTtlSeconds: 7200, make: () => ({ username: `root-${++counter}`, password: '132ae3ef' }) },
        'database/creds/fixed': { ttlSeconds: 3600, renewable: false, make: () => ({ username: `fixed-${++counter}` }) },
        'secret/data/my-secret': { make: () => ({ data: { foo: 'bar' }, metadata: { version: 1 } }) },
        'pki/issue/my-role': { ttlSeconds: 60, method: 'POST', make: ({ common_name: name }) => ({ certificate: String(name) }) },
      },
      approles: { '59d6d1ca': { secretId: '84896a0c', policies: ['app'], ttlSeconds: 1200 } },
    })
  })
  afterAll(() => bao.stop())
  beforeEach(() => {
    token = bao.makeToken({ policies: ['app'], ttlSeconds: 100_000, renewable: true })
  })

  const ask = async (method: string, path: string, body?: object, as = token) => {
    const headers = { 'x-vault-token': as }
    const response = await fetch(`${bao.url}/v1/${path}`, { method, headers, body: body && JSON.stringify(body) })
    return { status: response.status, body: Object(await response.json().catch(() => undefined)) }
  }
  const creds = async (role = 'my-role', as = token) => (await ask('GET', `database/creds/${role}`, undefined, as)).body
  const lookup = (id: string) => ask('POST', 'sys/leases/lookup', { lease_id: id })

  it('answers a read of a dynamic secret with the documented fields', async () => {
    const answer = await creds()
    expect(Object.keys(answer).sort()).toEqual('auth data lease_duration lease_id renewable request_id warnings wrap_info'.split(' '))
    expect(answer).toMatchObject({
      lease_id: expect.stringMatching(/^database\/creds\/my-role\/.{24}$/),
      lease_duration: 3600,
      renewable: true,
      auth: null,
    })
    expect(bao.knows(answer.data)).toBe(true)
  })

  it('answers a lookup of a lease with the documented fields, and one of no lease with 400', async () => {
    const { lease_id: id } = await creds()
    const { status, body } = await lookup(id)
    expect(status).toBe(200)
    expect(matches('LeasesReadLeaseResponse', { ...body.data, last_renewal: body.data.issue_time })).toBe(true)
    expect(body.data).toMatchObject({ id, renewable: true, last_renewal: null, ttl: expect.any(Number) })
    expect(await lookup(`${id}x`)).toEqual({ status: 400, body: { errors: ['invalid lease'] } })
    expect(await ask('POST', 'sys/leases/lookup', {})).toMatchObject({ status: 400 })
  })

  it('revokes, and revokes again what is gone, without a word', async () => {
    const { lease_id: id, data } = await creds()
    expect((await ask('POST', 'sys/leases/revoke', { lease_id: id, sync: true })).status).toBe(204)
    expect(bao.knows(data)).toBe(false)
    expect((await ask('POST', 'sys/leases/revoke', { lease_id: id, sync: true })).status).toBe(204)
    expect((await lookup(id)).status).toBe(400)
  })

  it('fails a revoke when the engine cannot be reached, and keeps the lease', async () => {
    const { lease_id: id } = await creds()
    bao.failRevokes(1)
    expect((await ask('POST', 'sys/leases/revoke', { lease_id: id, sync: true })).status).toBe(400)
    expect((await lookup(id)).status).toBe(200)
    expect((await ask('POST', 'sys/leases/revoke', { lease_id: id, sync: true })).status).toBe(204)
  })

  it('renews from now, shorter or longer, up to the maximum since the lease began', async () => {
    const { lease_id: id } = await creds()
    const renew = async (increment: string) => (await ask('POST', 'sys/leases/renew', { lease_id: id, increment })).body.lease_duration
    expect(await renew('1800')).toBe(1800)
    expect(await renew('60s')).toBe(60)
    expect(await renew('99999s')).toBeLessThanOrEqual(7200)
    expect(await renew('99999s')).toBeGreaterThan(7190)
    const fixed = (await creds('fixed')).lease_id
    expect(await ask('POST', 'sys/leases/renew', { lease_id: fixed })).toEqual({ status: 400, body: { errors: ['lease is not renewable'] } })
    expect(await ask('POST', 'sys/leases/renew', { lease_id: 'a/b' })).toEqual({ status: 400, body: { errors: ['lease not found'] } })
  })

  it('ends a lease with its ttl, and with the token that made it', async () => {
    const brief = bao.makeToken({ policies: ['app'], ttlSeconds: 600 })
    const [mine, theirs] = [await creds(), await creds('my-role', brief)]
    expect([bao.knows(mine.data), bao.knows(theirs.data)]).toEqual([true, true])
    bao.advance(601_000)
    expect((await ask('GET', 'auth/token/lookup-self', undefined, brief)).status).toBe(403)
    expect([bao.knows(mine.data), bao.knows(theirs.data)]).toEqual([true, false])
    bao.advance(3_600_000)
    expect((await lookup(mine.lease_id)).status).toBe(400)
    expect(bao.knows(mine.data)).toBe(false)
  })

  it('gives static secrets a duration, and no lease', async () => {
    expect((await ask('GET', 'secret/data/my-secret')).body).toMatchObject({ lease_id: '', renewable: false, data: { data: { foo: 'bar' } } })
  })

  it('logs in by AppRole with the documented fields, and with the right secret alone', async () => {
    const { body } = await ask('POST', 'auth/approle/login', { role_id: '59d6d1ca', secret_id: '84896a0c' }, '')
    expect(body.auth).toMatchObject({ client_token: expect.any(String), token_policies: ['default', 'app'], lease_duration: 1200, renewable: true })
    expect((await ask('GET', 'auth/token/lookup-self', undefined, body.auth.client_token)).status).toBe(200)
    expect(await ask('POST', 'auth/approle/login', { role_id: '59d6d1ca', secret_id: 'x' }, '')).toMatchObject({ status: 400 })
  })

  it('renews a token to its ttl, if it is renewable', async () => {
    bao.advance(50_000)
    expect((await ask('GET', 'auth/token/lookup-self')).body.data.ttl).toBeLessThan(99_960)
    expect((await ask('POST', 'auth/token/renew-self', {})).body.auth.lease_duration).toBe(100_000)
    const fixed = bao.makeToken({ policies: ['app'], ttlSeconds: 600 })
    expect((await ask('POST', 'auth/token/renew-self', {}, fixed)).status).toBe(400)
  })

  it('lets a token do what its policies say, and tells it', async () => {
    const none = bao.makeToken({ policies: ['none'], ttlSeconds: 600 })
    expect((await ask('GET', 'database/creds/my-role', undefined, none)).status).toBe(403)
    expect((await ask('GET', 'database/creds/my-role', undefined, 's.unknown')).status).toBe(403)
    expect((await ask('GET', 'sys/leases/lookup/database')).status).toBe(403)
    const { body } = await ask('POST', 'sys/capabilities-self', { paths: ['database/creds/a', 'sys/seal'] })
    expect(body.data).toEqual({ 'database/creds/a': ['read'], 'sys/seal': ['deny'] })
    const root = bao.makeToken({ policies: ['root'] })
    expect((await ask('POST', 'sys/capabilities-self', { paths: ['sys/seal'] }, root)).body.data).toEqual({ 'sys/seal': ['root'] })
  })

  it.each([
    ['a lease id that is a number', 'sys/leases/lookup', { lease_id: 1 }],
    ['an increment that is no duration', 'sys/leases/renew', { lease_id: 'a', increment: 'long' }],
    ['a sync that is a text', 'sys/leases/revoke', { lease_id: 'a', sync: 'yes' }],
    ['a field that is not published', 'sys/leases/revoke', { lease_id: 'a', prefix: true }],
    ['a login with a field too many', 'auth/approle/login', { role_id: 'a', secret_id: 'b', policies: ['root'] }],
  ])('refuses %s', async (_what, path, body) => {
    expect(await ask('POST', path, body)).toMatchObject({ status: 400, body: { errors: [expect.stringContaining('published schema')] } })
  })

  it('tells an unknown role, an unknown path and a wrong method apart', async () => {
    expect(await ask('GET', 'database/creds/other')).toEqual({ status: 400, body: { errors: ['unknown role: other'] } })
    expect((await ask('GET', 'secret/data/other')).status).toBe(404)
    expect((await ask('POST', 'pki/issue/my-role', { common_name: 'a.example' })).body.data).toEqual({ certificate: 'a.example' })
  })

  it('answers nothing but its health when it is sealed', async () => {
    bao.seal(true)
    expect((await ask('GET', 'sys/health')).status).toBe(503)
    expect((await ask('GET', 'database/creds/my-role')).status).toBe(503)
    bao.seal(false)
    expect(await ask('GET', 'sys/health?standbyok=true')).toMatchObject({ status: 200, body: { initialized: true, sealed: false } })
    const inside = await fetch(`${bao.url}/v1/sys/health`, { headers: { 'x-vault-namespace': 'team/' } })
    expect({ status: inside.status, body: await inside.json() }).toEqual({ status: 400, body: { errors: ['operation unavailable in namespaces'] } })
  })
})
