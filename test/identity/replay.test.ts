import { describe, expect, it } from '@jest/globals'
import { MayflyError } from '../../src/errors.js'
import { createIdentity } from '../../src/identity/index.js'
import { bearer, goodClaims, house, newSigner, rawToken, START, staticOptions } from './tokens.js'

const code = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => 'accepted',
    (error) => (error instanceof MayflyError ? error.code : String(error)),
  )

describe('a token of a single-use issuer', () => {
  it.each([{ jti: 'j1' }, {}])('serves one of 100 requests in parallel on two replicas, claims %p', async (claims) => {
    const signer = await newSigner()
    const spent = new Set<string>()
    const replicas = [0, 1].map(() => createIdentity(staticOptions(signer, { singleUse: true }), house({ at: START }, spent)))
    const token = bearer(await signer.token(claims))
    const codes = await Promise.all(Array.from({ length: 100 }, (_, index) => code(replicas[index % 2]?.verify(token) ?? Promise.reject())))
    expect(codes.filter((one) => one === 'accepted')).toHaveLength(1)
    expect(codes.filter((one) => one === 'token_replayed')).toHaveLength(99)
    expect(replicas.map(({ cache }) => cache.hits)).toEqual([0, 0])
    await Promise.all(replicas.map((replica) => replica.close()))
  })
  it('is spent with its signature rewritten, too', async () => {
    const signer = await newSigner()
    const identity = createIdentity(staticOptions(signer, { singleUse: true }), house())
    const token = await signer.token()
    expect(await code(identity.verify(bearer(token)))).toBe('accepted')
    const rewritten = negateS(token)
    expect(rewritten).not.toBe(token)
    expect(await code(identity.verify(bearer(rewritten)))).toBe('token_replayed')
  })
  it('is remembered for its remaining life and the skew, under a hash that is of its issuer', async () => {
    const signer = await newSigner()
    const asked: [string, number][] = []
    const capabilities = {
      now: () => START,
      async consume(hash: string, ttlMs: number) {
        asked.push([hash, ttlMs])
        return true
      },
    }
    for (const issuer of ['https://idp.example', 'https://two.example']) {
      const identity = createIdentity(staticOptions(signer, { singleUse: true, issuer, skewSeconds: 45 }), capabilities)
      await identity.verify(bearer(await signer.token({ jti: 'j1', iss: issuer })))
    }
    expect(asked.map(([, ttl]) => ttl)).toEqual([645_000, 645_000])
    const [one, two] = asked.map(([hash]) => hash)
    expect(one).toMatch(/^[\w-]{43}$/)
    expect(one).not.toBe(two)
  })
  it('is not spent by a token that is refused for something else, nor by an explanation', async () => {
    const signer = await newSigner()
    const stranger = await newSigner()
    const identity = createIdentity(staticOptions(signer, { singleUse: true }), house())
    const forged = rawToken({ alg: 'ES256', kid: signer.kid }, { ...goodClaims(), jti: 'j1' }, stranger.privateKey)
    expect(await code(identity.verify(bearer(forged)))).toBe('token_invalid')
    expect(await code(identity.verify(bearer(await signer.token({ jti: 'j1', aud: 'other' }))))).toBe('token_invalid')
    const token = await signer.token({ jti: 'j1' })
    expect((await identity.explain(token)).ok).toBe(true)
    expect(await code(identity.verify(bearer(token)))).toBe('accepted')
    expect(await code(identity.verify(bearer(await signer.token({ jti: 'j1', sub: 'worker-2' }))))).toBe('token_replayed')
  })
  it.each([1, '', null, ['j1'], {}])('is refused with a jti of %p', async (jti) => {
    const signer = await newSigner()
    const identity = createIdentity(staticOptions(signer, { singleUse: true }), house())
    expect(await code(identity.verify(bearer(await signer.token({ jti }))))).toBe('token_invalid')
  })
  it('is refused while the ledger cannot say whether it was used', async () => {
    const signer = await newSigner()
    const down = { now: () => START, consume: () => Promise.reject(new Error('ECONNREFUSED /run/redis.sock')) }
    const error = await createIdentity(staticOptions(signer, { singleUse: true }), down)
      .verify(bearer(await signer.token()))
      .catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'ledger_unavailable', status: 503 })
    expect(String(error)).not.toContain('redis')
  })
})

/** (r, s) -> (r, n - s): the other signature that ECDSA accepts for the same content. */
function negateS(token: string): string {
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n
  const [header, payload, signature = ''] = token.split('.')
  const bytes = Buffer.from(signature, 'base64url')
  const s = BigInt(`0x${bytes.subarray(32).toString('hex')}`)
  const other = Buffer.from((order - s).toString(16).padStart(64, '0'), 'hex')
  return `${header}.${payload}.${Buffer.concat([bytes.subarray(0, 32), other]).toString('base64url')}`
}
