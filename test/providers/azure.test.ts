import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { azure } from '../../src/providers/azure.js'
import type { Provider } from '../../src/providers/provider.js'
import { generateSigningKeys, openSigner } from '../../src/signer.js'
import { ARM, type AzureUpstream, CLIENT, STORAGE, SUBJECT, startAzureUpstream, TENANT } from './azure-upstream.js'
import { plan, requestOf, TIMEOUT_MS } from './harness.js'

const CONTEXT = { name: 'azure', instance: 'test', timeoutMs: TIMEOUT_MS, concurrency: 4 }

describe('the azure provider', () => {
  let upstream: AzureUpstream
  let provider: Provider
  const opened: Provider[] = []
  const openWith = async (change: object = {}, signer = upstream.signer): Promise<Provider> => {
    const one = await azure.open(azure.options.parse({ ...upstream.options, ...change }), { ...CONTEXT, signer })
    opened.push(one)
    return one
  }
  const paramsOf = (change: object = {}) => azure.params.parse({ client_id: CLIENT, scopes: [`${STORAGE}/.default`], ...change })
  const mint = (change: object = {}, by = provider, ttlMs?: number) => by.mint(requestOf(by, plan(), paramsOf(change), TIMEOUT_MS, ttlMs))
  beforeAll(async () => {
    upstream = await startAzureUpstream()
    provider = await openWith()
  })
  afterAll(async () => {
    for (const one of opened) await one.close()
    await upstream.stop()
  })

  it('gives each lease a token of its own, and names the lease in the assertion', async () => {
    const leases = [plan(), plan(), plan()]
    const minted = await Promise.all(leases.map((lease) => provider.mint(requestOf(provider, lease, paramsOf(), TIMEOUT_MS))))
    expect(new Set(minted.map(({ credential }) => credential.fields.access_token)).size).toBe(3)
    const asserted = upstream.entra.issued.slice(-3).map(({ assertionId }) => assertionId.split('.')[0])
    expect(asserted.sort()).toEqual(leases.map(({ id }) => id).sort())
  })

  it('tells that the token is usable for longer than the lease, and that the lease is shorter where the token is', async () => {
    const before = Math.floor(Date.now() / 1000) * 1000
    const { usableUntil, expiresAt } = await mint()
    expect(expiresAt).toBeUndefined()
    expect(usableUntil).toBeGreaterThanOrEqual(before + 3_599_000)
    expect(usableUntil).toBeLessThanOrEqual(Date.now() + 3_601_000)
    const long = await mint({}, provider, 7_200_000)
    expect(long.usableUntil).toBeUndefined()
    expect(long.expiresAt).toBeLessThanOrEqual(Date.now() + 3_601_000)
  })

  it('hands out no token that lives longer than was configured', async () => {
    const strict = await openWith({ token_lifetime: '50m' })
    expect(strict.shortestLifeSeconds).toBe(3000)
    await expect(mint({}, strict)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('token_lifetime') })
  })

  it('is told apart why Entra refuses', async () => {
    const wrongSubject = await openWith({ subject: 'somebody' })
    const folded = await openWith({ subject: SUBJECT.toLowerCase() })
    const wrongAudience = await openWith({ audience: 'api://other' })
    const wrongTenant = await openWith({ tenant: CLIENT })
    const { keys } = await generateSigningKeys()
    const { keys: rsa } = await generateSigningKeys('RS256')
    const unknownKey = await openWith({}, await openSigner({ issuer: upstream.signer.issuer, keys: { keys: [...keys, ...rsa] } }))
    const unknownIssuer = await openWith({}, await openSigner({ issuer: 'https://other.example', keys: { keys: [...keys, ...rsa] } }))
    await expect(mint({}, wrongSubject)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('subject') })
    await expect(mint({}, folded)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('upper and lower case') })
    await expect(mint({}, wrongAudience)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('audience') })
    await expect(mint({}, wrongTenant)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('tenant') })
    await expect(mint({}, unknownKey)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('key') })
    await expect(mint({}, unknownIssuer)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('issuer') })
    await expect(mint({ scopes: ['https://other.example/.default'] })).rejects.toMatchObject({
      kind: 'invalid',
      message: expect.stringContaining('resource'),
    })
  })

  it.each([
    [503, 90033, 'throttled'],
    [400, 50196, 'throttled'],
    [429, 1, 'throttled'],
    [503, 1, 'throttled'],
    [500, 1, 'broken'],
    [400, 1, 'refused'],
    [302, 1, 'broken'],
  ])('takes HTTP %i with AADSTS%i for %s, repeats no words of the answer, and asks again at the next mint', async (status, code, kind) => {
    upstream.entra.failNext(status, code)
    const error = await mint().catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ name: 'ProviderError', kind })
    expect(inspect(error, { depth: null, showHidden: true })).not.toMatch(/transient error|Trace ID|client_assertion/)
    await mint()
  })

  it('says what to add when there is no RSA key', async () => {
    const weak = await openWith({}, await openSigner({ issuer: upstream.signer.issuer, keys: await generateSigningKeys() }))
    const role = { name: 'one', params: paramsOf() }
    await expect(weak.check([role])).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('RSA key') })
    await expect(azure.open(azure.options.parse(upstream.options), CONTEXT)).rejects.toThrow('signing')
  })

  it('checks each application and scope of its roles', async () => {
    const roles = (scopes: string[]) => [{ name: 'one', params: paramsOf({ scopes }) }]
    await provider.check(roles([`${STORAGE}/.default`, `${ARM}/.default`]))
    await expect(provider.check(roles([`${STORAGE}/.default`, 'https://other.example/.default']))).rejects.toMatchObject({ kind: 'invalid' })
    await expect((await openWith({ tenant: CLIENT })).check()).rejects.toMatchObject({ kind: 'refused' })
  })

  it.each([
    {},
    { tenant: 'contoso.onmicrosoft.com' },
    { tenant: 'common' },
    { tenant: `${TENANT}/../x` },
    { authority: 'http://login.microsoftonline.com' },
    { authority: 'https://login.microsoftonline.com/common' },
    { authority: 'https://user:pass@login.microsoftonline.com' },
    { authority: 'https://login.microsoftonline.com?x' },
    { authority: 'file:///etc' },
    { subject: '' },
    { subject: 'a b' },
    { token_lifetime: '1m' },
    { token_lifetime: '2d' },
    { token_lifetime: 5400 },
    { client_secret: 'x' },
  ])('refuses options %j', (change) => {
    const good = { tenant: TENANT, subject: SUBJECT }
    expect(azure.options.safeParse(good).success).toBe(true)
    expect(azure.options.safeParse(Object.keys(change).length === 0 ? {} : { ...good, ...change }).success).toBe(false)
  })

  it('finds roles whose scope means nothing, or is missing', () => {
    const options = azure.options.parse(upstream.options)
    const two = paramsOf({ scopes: [`${STORAGE}/.default`, `${ARM}/.default`] })
    expect(azure.checkRole(paramsOf(), {}, options)).toEqual([])
    expect(azure.checkRole(two, { scope: 'equal' }, options)).toEqual([])
    expect(azure.checkRole(two, {}, options)).toHaveLength(1)
    expect(azure.checkRole(two, { scope: 'set' }, options)).toHaveLength(1)
    expect(azure.checkRole(paramsOf(), { path: 'path' }, options)).toHaveLength(1)
  })
})
