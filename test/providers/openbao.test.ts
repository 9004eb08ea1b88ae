import { inspect } from 'node:util'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from '@jest/globals'
import { openbao } from '../../src/providers/openbao.js'
import type { Provider } from '../../src/providers/provider.js'
import { startHoldingProxy } from '../support/holding-proxy.js'
import { waitFor } from '../support/wait.js'
import { plan, requestOf, TIMEOUT_MS } from './harness.js'
import { APPROLE, type OpenBaoUpstream, startOpenBaoUpstream } from './openbao-upstream.js'

const JWT = { method: 'jwt', role: 'mayfly', subject: 'mayfly-contract' }
const NAME = '$'.concat('{scope.name}')

describe('the openbao provider', () => {
  let upstream: OpenBaoUpstream
  let provider: Provider
  const opened: Provider[] = []
  const optionsOf = (change: object = {}) =>
    openbao.options.parse({ url: upstream.bao.url, namespace: 'team', auth: JWT, lease_ttl: '1h', ...change })
  const openWith = async (change: object = {}, timeoutMs = TIMEOUT_MS): Promise<Provider> => {
    const context = { name: 'bao', instance: 'test', timeoutMs, concurrency: 4, signer: upstream.signer }
    const one = await openbao.open(optionsOf(change), context)
    opened.push(one)
    return one
  }
  const paramsOf = (change: object = {}) => openbao.params.parse({ path: 'database/creds/orders', ...change })
  const mint = (change: object = {}, { by = provider, ttlMs = 60_000, scope = {}, untilMs = TIMEOUT_MS } = {}) =>
    by.mint(requestOf(by, plan({ scope }), paramsOf(change), untilMs, ttlMs))
  const role = (change: object = {}) => [{ name: 'one', params: paramsOf(change) }]
  beforeAll(async () => {
    upstream = await startOpenBaoUpstream()
  })
  beforeEach(async () => {
    provider = await openWith()
  })
  afterAll(async () => {
    for (const one of opened) await one.close()
    await upstream.stop()
  })

  it('makes a lease as short as was asked for', async () => {
    const { handle, expiresAt, usableUntil } = await mint({}, { ttlMs: 90_000 })
    const end = upstream.bao.expiry(String(handle?.lease_id)) ?? 0
    expect(end).toBeGreaterThan(Date.now() + 88_000)
    expect(end).toBeLessThanOrEqual(Date.now() + 90_000)
    expect(expiresAt ?? usableUntil).toBeGreaterThan(end - 1000)
  })

  it('tells when a lease is shorter than was asked for, and when it cannot be made short', async () => {
    expect((await mint({ path: 'database/creds/short' })).expiresAt).toBeLessThanOrEqual(Date.now() + 20_000)
    const fixed = await mint({ path: 'database/creds/fixed' })
    expect(fixed.usableUntil).toBeGreaterThan(Date.now() + 598_000)
    expect(fixed.usableUntil).toBeLessThanOrEqual(Date.now() + 600_100)
  })

  it.each([
    ['a static secret', { path: 'secret/data/static' }, 'no lease'],
    ['a wrapped answer', { path: 'wrapped/creds/one' }, 'wrapped'],
    ['a secret that lives longer than lease_ttl', { path: 'database/creds/endless' }, 'lease_ttl'],
    ['a secret without the field that the environment is to hold', { env: { PGHOST: 'host' } }, 'PGHOST'],
    ['a secret whose field is a list', { path: 'pki/issue/web', method: 'write', data: { common_name: 'a' }, env: { CHAIN: 'ca_chain' } }, 'CHAIN'],
  ])('hands out no such thing as %s, and leaves nothing of it', async (_what, change, said) => {
    const before = upstream.bao.leases()
    await expect(mint(change)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining(said) })
    expect(upstream.bao.leases()).toEqual(before)
  })

  it('does not call it nothing made while what was made could not be given back, and gives it back in the end', async () => {
    const before = upstream.bao.leases()
    upstream.bao.failRevokes(2)
    await expect(mint({ path: 'database/creds/endless' })).rejects.toMatchObject({ kind: 'broken' })
    expect(upstream.bao.leases()).toHaveLength(before.length + 1)
    await waitFor('its end', () => upstream.bao.leases().length === before.length)
  })

  it('puts the scope into data as a whole value', async () => {
    const change = { path: 'pki/issue/web', method: 'write', data: { common_name: NAME }, values: { name: ['a.example', 'b.example'] } }
    expect((await mint(change, { scope: { name: 'b.example' } })).credential.fields.certificate).toBe('cert of b.example')
    await expect(mint(change, { scope: { name: 'c.example' } })).rejects.toMatchObject({ kind: 'invalid' })
    await expect(mint(change)).rejects.toMatchObject({ kind: 'invalid' })
  })

  it('logs in once for all that wait, and again when the token ends before the lease would', async () => {
    const logins = () => upstream.bao.log.filter((line) => line.includes('/login 200')).length
    const before = logins()
    await Promise.all(Array.from({ length: 8 }, () => mint()))
    expect(logins()).toBe(before + 1)
    await mint({}, { ttlMs: 3_600_000 })
    expect(logins()).toBe(before + 1)
    // Beyond what the token that is there has left; a new one would last.
    await mint({}, { ttlMs: 14_394_000 })
    await mint({}, { ttlMs: 14_399_000 })
    expect(logins()).toBeLessThanOrEqual(before + 2)
  })

  it('tells that a lease ends with the token that made it', async () => {
    const brief = await openWith({ auth: { ...JWT, role: 'brief' } })
    const { expiresAt } = await mint({}, { by: brief })
    expect(expiresAt).toBeLessThanOrEqual(Date.now() + 30_000)
    await expect(brief.check(role())).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('lease_ttl') })
  })

  it('takes back with a new token what an old one made', async () => {
    const { handle = {}, credential } = await mint()
    const other = await openWith({ auth: { method: 'approle', role_id: APPROLE.role_id }, secret_id: APPROLE.secret_id })
    expect(await other.verify?.(handle, TIMEOUT_MS)).toBe('alive')
    expect(await other.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    expect(upstream.bao.knows(credential.fields)).toBe(false)
    expect(await other.verify?.(handle, TIMEOUT_MS)).toBe('dead')
  })

  it('logs in anew after its token was taken away, and cannot where it was given one', async () => {
    const mine = await mint()
    const token = upstream.bao.makeToken({ policies: ['mayfly'], ttlSeconds: 14_400, renewable: true })
    const given = await openWith({ auth: { method: 'token' }, token })
    await mint({}, { by: given })
    upstream.bao.advance(14_400_000)
    expect(upstream.bao.knows(mine.credential.fields)).toBe(false)
    for (const by of [provider, given]) await expect(mint({}, { by })).rejects.toMatchObject({ kind: 'refused' })
    await mint()
    await expect(mint({}, { by: given })).rejects.toMatchObject({ kind: 'refused' })
  })

  it('renews a token that it was given, though nobody uses it', async () => {
    const token = upstream.bao.makeToken({ policies: ['mayfly'], ttlSeconds: 2, renewable: true })
    await mint({}, { by: await openWith({ auth: { method: 'token' }, token }), ttlMs: 1000 })
    const renewals = () => upstream.bao.log.filter((line) => line.includes('renew-self 200')).length
    const before = renewals()
    await waitFor('a renewal', () => renewals() > before)
  })

  it('does not log in again and again because a path is forbidden', async () => {
    await mint()
    const before = upstream.bao.log.filter((line) => line.includes('/login')).length
    for (let round = 0; round < 3; round++) await expect(mint({ path: 'other/creds/x' })).rejects.toMatchObject({ kind: 'refused' })
    expect(upstream.bao.log.filter((line) => line.includes('/login'))).toHaveLength(before)
  })

  it('says that a revoke failed when the engine behind it did, and can be asked again', async () => {
    const { handle = {} } = await mint()
    upstream.bao.failRevokes(1)
    await expect(provider.revoke(handle, TIMEOUT_MS)).rejects.toMatchObject({ kind: 'broken' })
    expect(await provider.verify?.(handle, TIMEOUT_MS)).toBe('alive')
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
  })

  it('gives back what a mint made whose answer came after its deadline', async () => {
    const proxy = await startHoldingProxy(upstream.bao)
    const behind = await openWith({ url: `http://127.0.0.1:${proxy.port}` })
    await mint({}, { by: behind })
    const before = upstream.bao.leases()
    proxy.holdAfter('GET /v1/database/creds/orders')
    const failed = expect(mint({}, { by: behind, untilMs: 500 })).rejects.toMatchObject({ kind: 'timeout' })
    await proxy.held()
    await waitFor('the lease', () => upstream.bao.leases().length > before.length)
    await failed
    proxy.release()
    await waitFor('its end', () => upstream.bao.leases().length === before.length)
    await proxy.close()
  })

  it('checks its rights at each path of its roles, and refuses root and batch tokens', async () => {
    const given = (options: { policies: string[]; ttlSeconds?: number }) => {
      const token = upstream.bao.makeToken({ renewable: true, ...options })
      return openWith({ auth: { method: 'token' }, token })
    }
    await provider.check(role())
    await expect(provider.check(role({ path: 'other/creds/x' }))).rejects.toMatchObject({
      kind: 'refused',
      message: expect.stringContaining('other/creds/x'),
    })
    await expect((await given({ policies: ['narrow'], ttlSeconds: 14_400 })).check(role())).rejects.toThrow('may not update sys/leases/revoke')
    await expect((await given({ policies: ['mayfly', 'sudo'], ttlSeconds: 14_400 })).check(role())).rejects.toThrow('sudo')
    await expect((await given({ policies: ['root'] })).check(role())).rejects.toThrow('root token')
    await expect(mint({}, { by: await given({ policies: ['root'] }) })).rejects.toThrow('root token')
    await expect((await openWith({ auth: { ...JWT, role: 'batch' } })).check(role())).rejects.toThrow('batch token')
    upstream.bao.seal(true)
    await expect(provider.check(role())).rejects.toMatchObject({ kind: 'unreachable', message: expect.stringContaining('sealed') })
    upstream.bao.seal(false)
  })

  it.each([
    { auth: { ...JWT, subject: 'another' } },
    { auth: { ...JWT, audience: 'another' } },
    { auth: { ...JWT, role: 'nosuchrole' } },
    { auth: { method: 'approle', role_id: APPROLE.role_id }, secret_id: 'wrong-secret' },
  ])('says that it may not log in with %j, without its secret', async (change) => {
    const error = await mint({}, { by: await openWith(change) }).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ kind: 'refused', message: expect.stringContaining('log in') })
    expect(inspect(error, { depth: null, showHidden: true })).not.toMatch(/wrong-secret|eyJ/)
  })

  it.each([
    { url: 'http://openbao.internal:8200' },
    { url: 'https://openbao.internal:8200/v1' },
    { url: 'https://token@openbao.internal' },
    { namespace: '../other' },
    { namespace: 'a\r\nx-vault-token: b' },
    { auth: { method: 'token' } },
    { token: 'x' },
    { secret_id: 'x' },
    { auth: { method: 'approle', role_id: 'a' } },
    { auth: { method: 'approle', role_id: 'a' }, secret_id: 'a\r\nb' },
    { auth: { method: 'userpass' } },
    { auth: { ...JWT, mount: '../sys' } },
    { lease_ttl: undefined },
    { lease_ttl: '0s' },
    { lease_ttl: '99d' },
    { ca: 'ca.pem' },
    { tls_skip_verify: true },
  ])('refuses options %j', (change) => {
    expect(openbao.options.safeParse({ url: 'https://openbao.internal:8200', auth: JWT, lease_ttl: '1h', ...change }).success).toBe(false)
  })

  it('needs the signing key only to log in with it', async () => {
    const context = { name: 'bao', instance: 'test', timeoutMs: TIMEOUT_MS, concurrency: 4 }
    await expect(openbao.open(optionsOf(), context)).rejects.toThrow('signing')
    opened.push(await openbao.open(optionsOf({ auth: { method: 'token' }, token: 's.x' }), context))
    expect(openbao.target(optionsOf())).toBe(`${upstream.bao.url} team`)
  })
})
