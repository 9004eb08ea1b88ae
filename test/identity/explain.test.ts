import { describe, expect, it } from '@jest/globals'
import { createIdentity } from '../../src/identity/index.js'
import { goodClaims, house, newSigner, rawToken, staticOptions } from './tokens.js'

describe('explain', () => {
  it('tells each check of a good token, and who it is', async () => {
    const signer = await newSigner('ES256', 'k1')
    const identity = createIdentity(staticOptions(signer), house())
    const { ok, steps, principal } = await identity.explain(await signer.token())
    expect({ ok, principal }).toMatchObject({ ok: true, principal: { id: 'agents/worker-1' } })
    expect(steps.map(({ check }) => check)).toEqual(['form', 'issuer', 'header', 'signature', 'purpose', 'audience', 'time', 'claims', 'principal'])
    expect(steps.every((step) => step.ok)).toBe(true)
    expect(steps[0]?.detail).toBe('{"alg":"ES256","kid":"k1","typ":"JWT","iss":"https://idp.example","sub":"worker-1","aud":"mayfly"}')
    expect(steps.at(-1)?.detail).toBe('it is agent agents/worker-1')
    expect(identity.cache).toMatchObject({ hits: 0, misses: 0 })
  })
  it.each<[string, Record<string, unknown>, string, string]>([
    ['the audience', { aud: 'other' }, 'audience', '"aud" is not the audience of issuer idp'],
    ['the issuer by a slash', { iss: 'https://IDP.example/' }, 'issuer', 'it differs from issuer idp only in case or a final slash'],
    ['the time', { exp: 1_700_000_000, iat: 1_699_999_000, nbf: 1_699_999_000 }, 'time', '"exp" has passed'],
    ['the mapping', { sub: 'a/b' }, 'principal', 'agents[0].id cannot be filled'],
  ])('stops at the check that fails: %s', async (_name, claims, check, detail) => {
    const signer = await newSigner()
    const { ok, steps, principal } = await createIdentity(staticOptions(signer), house()).explain(await signer.token(claims))
    expect([ok, principal]).toEqual([false, undefined])
    expect(steps.at(-1)).toMatchObject({ check, ok: false, detail: expect.stringContaining(detail) })
    expect(steps.slice(0, -1).every((step) => step.ok)).toBe(true)
  })
  it('tells of a bad signature, and of what is no token at all', async () => {
    const [signer, stranger] = await Promise.all([newSigner(), newSigner()])
    const identity = createIdentity(staticOptions(signer), house())
    const forged = rawToken({ alg: 'ES256', kid: signer.kid }, goodClaims(), stranger.privateKey)
    expect((await identity.explain(forged)).steps.at(-1)).toMatchObject({ check: 'signature', ok: false })
    for (const text of ['', 'x', '{}', 'a.b.c']) expect((await identity.explain(text)).steps).toMatchObject([{ check: 'form', ok: false }])
  })
})
