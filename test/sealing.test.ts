import { describe, expect, it } from '@jest/globals'
import nodeJose from 'node-jose'
import { generateSealingKeys, openSealer } from '../src/sealing.js'

const handle = { token: 'ghs_secret', installation: 7 }
const LEASE = 'lease_00aaaaaaaaaaaaaaaaaaaaaaaaaa'

describe('the sealer', () => {
  it('opens what it sealed, and shows nothing of it meanwhile', async () => {
    const keys = generateSealingKeys()
    const sealer = await openSealer(keys)
    const { handle: sealed, sealedBy } = await sealer.seal(LEASE, handle)
    expect(sealedBy).toBe(keys.keys[0]?.kid)
    expect(Object.keys(sealed)).toEqual(['sealed'])
    expect(Buffer.from(JSON.stringify(sealed).replace(/[-_]/g, '+'), 'base64').toString('latin1')).not.toContain('ghs_secret')
    expect(await sealer.open(LEASE, sealed)).toEqual(handle)
  })

  it('makes JWE that an independent implementation opens with the same key', async () => {
    const keys = generateSealingKeys()
    const { handle: sealed } = await (await openSealer(keys)).seal(LEASE, handle)
    const store = await nodeJose.JWK.asKeyStore(keys)
    const { plaintext } = await nodeJose.JWE.createDecrypt(store).decrypt(String(sealed.sealed))
    expect(JSON.parse(plaintext.toString())).toEqual(handle)
  })

  it('never makes the same text twice', async () => {
    const sealer = await openSealer(generateSealingKeys())
    const made = await Promise.all(Array.from({ length: 100 }, () => sealer.seal(LEASE, handle)))
    expect(new Set(made.map((one) => String(one.handle.sealed))).size).toBe(100)
  })

  it('rotates: the new key first seals, the old one still opens', async () => {
    const old = generateSealingKeys()
    const next = generateSealingKeys()
    const { handle: sealed } = await (await openSealer(old)).seal(LEASE, handle)
    const both = await openSealer({ keys: [...next.keys, ...old.keys] })
    expect(await both.open(LEASE, sealed)).toEqual(handle)
    expect((await both.seal(LEASE, handle)).sealedBy).toBe(next.keys[0]?.kid)
  })

  it('says which key is missing', async () => {
    const old = generateSealingKeys()
    const { handle: sealed } = await (await openSealer(old)).seal(LEASE, handle)
    const without = await openSealer(generateSealingKeys())
    await expect(without.open(LEASE, sealed)).rejects.toThrow(`sealed with the key "${old.keys[0]?.kid}"`)
  })

  it('opens nothing that was sealed for another lease, altered, or made with another algorithm', async () => {
    const keys = generateSealingKeys()
    const sealer = await openSealer(keys)
    const { handle: sealed } = await sealer.seal(LEASE, handle)
    const text = String(sealed.sealed)
    await expect(sealer.open('lease_00bbbbbbbbbbbbbbbbbbbbbbbbbb', sealed)).rejects.toThrow('for another lease')
    await expect(sealer.open(LEASE, { sealed: `${text.slice(0, -4)}AAAA` })).rejects.toThrow()
    const header = Buffer.from(JSON.stringify({ alg: 'none', kid: keys.keys[0]?.kid, lease: LEASE })).toString('base64url')
    await expect(sealer.open(LEASE, { sealed: [header, ...text.split('.').slice(1)].join('.') })).rejects.toThrow()
    await expect(sealer.open(LEASE, handle)).rejects.toThrow()
  })

  it('takes 256-bit keys with a kid of their own alone', async () => {
    const [key] = generateSealingKeys().keys
    for (const keys of [[], [{ ...key, k: 'c2hvcnQ' }], [{ ...key, kid: undefined }], [key, key], [{ kty: 'RSA' }]])
      await expect(openSealer({ keys: keys as object[] })).rejects.toThrow()
  })
})
