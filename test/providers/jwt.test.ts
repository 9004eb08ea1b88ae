import { beforeAll, describe, expect, it } from '@jest/globals'
import { decodeJwt, decodeProtectedHeader } from 'jose'
import { jwt } from '../../src/providers/jwt.js'
import type { LeasePlan, Provider, Signer } from '../../src/providers/provider.js'
import { generateSigningKeys, openSigner } from '../../src/signer.js'
import { plan, requestOf } from './harness.js'

describe('a signed token', () => {
  let signer: Signer
  let provider: Provider
  const params = jwt.params.parse({ audience: 'https://api.example', claims: { tenant: 'acme' }, env: 'API_TOKEN' })
  const context = { name: 'tokens', instance: 'test', timeoutMs: 1000, concurrency: 1 }
  const tokenFor = async (lease: LeasePlan) => {
    const request = requestOf(provider, lease, params, 0)
    const { credential } = await provider.mint(request)
    return { request, credential, token: String(credential.fields.token) }
  }
  beforeAll(async () => {
    signer = await openSigner({ issuer: 'https://mayfly.example', keys: await generateSigningKeys() })
    provider = await jwt.open(jwt.options.parse({}), { ...context, signer })
  })

  it('is an access token as RFC 9068 writes it, with the task, the role and the lease', async () => {
    const lease = plan({ role: 'orders-read' })
    const { token, request, credential } = await tokenFor(lease)
    expect(decodeProtectedHeader(token).typ).toBe('at+jwt')
    expect(decodeJwt(token)).toEqual({
      iss: 'https://mayfly.example',
      sub: lease.agent,
      client_id: lease.agent,
      aud: 'https://api.example',
      iat: Math.floor(request.issuedAt / 1000),
      nbf: Math.floor(request.issuedAt / 1000),
      exp: Math.floor(request.expiresAt / 1000),
      jti: lease.id,
      task: lease.task,
      role: 'orders-read',
      tenant: 'acme',
    })
    expect(credential).toEqual({ type: 'jwt', fields: { token, token_type: 'Bearer' }, env: { API_TOKEN: token } })
  })

  it('names the human as its subject and the agent as the actor', async () => {
    const { token } = await tokenFor(plan({ human: 'ada@example.com', agent: 'triage/team-a' }))
    expect(decodeJwt(token)).toMatchObject({ sub: 'ada@example.com', act: { sub: 'triage/team-a' }, client_id: 'triage/team-a' })
  })

  it('writes a scope so that no value can pass for two, or for another key', async () => {
    const { token } = await tokenFor(plan({ scope: { b: 'x y=z', a: ['2', '1'], path: 'exports/2026' } }))
    expect(decodeJwt(token).scope).toBe('a=1 a=2 b=x%20y%3Dz path=exports/2026')
  })

  it('takes no claim from the prototype of its parameters', async () => {
    const odd = jwt.params.parse({ audience: 'a', claims: JSON.parse('{"tenant": "acme", "__proto__": {"admin": true}}') })
    const { credential } = await provider.mint({ ...requestOf(provider, plan(), odd, 0) })
    const claims = decodeJwt(String(credential.fields.token))
    expect(claims).toMatchObject({ tenant: 'acme' })
    expect(JSON.stringify(claims)).not.toContain('admin')
  })

  it('tells what the audience can do about a token that was taken back', async () => {
    expect(provider).toMatchObject({ revocation: 'at-expiry', residualSeconds: 60, expiryEndsUse: true, inProcess: true })
    const asked = await jwt.open(jwt.options.parse({ verification: 'introspection' }), { ...context, signer })
    expect(asked).toMatchObject({ revocation: 'immediate', residualSeconds: 0 })
  })

  it('is not opened without keys to sign with', async () => {
    await expect(jwt.open(jwt.options.parse({}), context)).rejects.toThrow(/needs "signing"/)
  })

  it('says which scope keys cannot stand in a claim', () => {
    expect(jwt.checkRole(params, { 'a b': 'equal' }, jwt.options.parse({}))).toHaveLength(1)
    expect(jwt.checkRole(params, { prefix: 'path' }, jwt.options.parse({}))).toEqual([])
  })
})
