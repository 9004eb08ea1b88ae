import { describe, expect, it } from '@jest/globals'
import { createIdentity } from '../../src/identity/index.js'
import { bearer, house, newSigner, START, staticOptions } from './tokens.js'

const code = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'accepted',
    (error) => error.code,
  )

describe('the cache of verified tokens', () => {
  it('answers the second time with the same principal, counted', async () => {
    const signer = await newSigner()
    const identity = createIdentity(staticOptions(signer), house())
    const token = bearer(await signer.token())
    const first = await identity.verify(token)
    expect(await identity.verify(token)).toBe(first)
    expect([identity.cache.hits, identity.cache.misses]).toEqual([1, 1])
  })
  it('outlives no token: past `exp` each request is verified, past the skew each is refused', async () => {
    const signer = await newSigner()
    const clock = { at: START }
    const identity = createIdentity(staticOptions(signer), house(clock))
    const token = bearer(await signer.token())
    clock.at = START + 599_999
    for (const hits of [0, 1]) {
      expect(await code(identity.verify(token))).toBe('accepted')
      expect(identity.cache.hits).toBe(hits)
    }
    clock.at = START + 600_000
    for (let round = 0; round < 3; round++) expect(await code(identity.verify(token))).toBe('accepted')
    expect(identity.cache.hits).toBe(1)
    clock.at = START + 630_000
    expect(await code(identity.verify(token))).toBe('token_expired')
  })
  it('remembers no refusal and no more tokens than it was given room for', async () => {
    const signer = await newSigner()
    const identity = createIdentity({ ...staticOptions(signer), cacheEntries: 2 }, house())
    const tokens = await Promise.all(['a', 'b', 'c'].map(async (sub) => bearer(await signer.token({ sub }))))
    for (const token of tokens) await identity.verify(token)
    for (const token of tokens.slice(1)) await identity.verify(token)
    expect(identity.cache.hits).toBe(2)
    await identity.verify(tokens[0])
    expect(identity.cache.hits).toBe(2)
    const wrong = bearer(await signer.token({ aud: 'other' }))
    for (let round = 0; round < 2; round++) expect(await code(identity.verify(wrong))).toBe('token_invalid')
    expect(identity.cache.hits).toBe(2)
  })
  it('can be turned off', async () => {
    const signer = await newSigner()
    const identity = createIdentity({ ...staticOptions(signer), cacheEntries: 0 }, house())
    const token = bearer(await signer.token())
    for (let round = 0; round < 3; round++) expect(await code(identity.verify(token))).toBe('accepted')
    expect([identity.cache.hits, identity.cache.misses]).toEqual([0, 3])
  })
})
