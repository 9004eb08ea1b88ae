import { describe, expect, it } from '@jest/globals'
import { decodeProtectedHeader, exportJWK, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose'
import nodeJose from 'node-jose'
import { generateSigningKeys, openSigner } from '../src/signer.js'

const issuer = 'https://mayfly.example'
const now = Math.floor(Date.now() / 1000)
const claims = { sub: 'agent', iat: now, nbf: now, exp: now + 60, jti: 'lease_1' }
const typ = 'at+jwt'

describe('the signer', () => {
  it('signs with the first key of the set and says which', async () => {
    const keys = await generateSigningKeys()
    const signer = await openSigner({ issuer, keys })
    const token = await signer.sign(claims, { typ })
    expect(decodeProtectedHeader(token)).toEqual({ alg: 'ES256', typ, kid: keys.keys[0]?.kid })
    expect(await signer.verify(token)).toEqual({ iss: issuer, ...claims })
  })

  it('makes ES256 tokens that an independent implementation verifies with the published keys', async () => {
    const signer = await openSigner({ issuer, keys: await generateSigningKeys() })
    const store = await nodeJose.JWK.asKeyStore(signer.jwks())
    const { payload } = await nodeJose.JWS.createVerify(store).verify(await signer.sign(claims, { typ }))
    expect(JSON.parse(payload.toString())).toEqual({ iss: issuer, ...claims })
  })

  it('signs with Ed25519 as well', async () => {
    const signer = await openSigner({ issuer, keys: await generateSigningKeys('Ed25519') })
    const token = await signer.sign(claims, { typ })
    expect(decodeProtectedHeader(token).alg).toBe('Ed25519')
    expect(await signer.verify(token)).toMatchObject(claims)
  })

  it('publishes every key and no private half', async () => {
    const { keys: first } = await generateSigningKeys()
    const { keys: second } = await generateSigningKeys('Ed25519')
    const signer = await openSigner({ issuer, keys: { keys: [...first, ...second] } })
    expect(signer.jwks().keys.map(({ kid }) => kid)).toEqual([first[0]?.kid, second[0]?.kid])
    expect(JSON.stringify(signer.jwks())).not.toContain('"d"')
    for (const { d } of [...first, ...second]) expect(JSON.stringify(signer.jwks())).not.toContain(d)
  })

  it('verifies tokens of a key that was rotated to second place, also when only its public half is left', async () => {
    const { keys: old } = await generateSigningKeys()
    const { keys: fresh } = await generateSigningKeys()
    const token = await (await openSigner({ issuer, keys: { keys: old } })).sign(claims, { typ })
    const publicOnly = old.map(({ d: _private, ...rest }) => rest)
    const rotated = await openSigner({ issuer, keys: { keys: [...fresh, ...publicOnly] } })
    expect(await rotated.verify(token)).toMatchObject(claims)
    const dropped = await openSigner({ issuer, keys: { keys: fresh } })
    expect(await dropped.verify(token)).toBeUndefined()
  })

  it('writes the issuer itself', async () => {
    const signer = await openSigner({ issuer, keys: await generateSigningKeys() })
    const token = await signer.sign({ ...claims, iss: 'https://somebody.else' }, { typ })
    expect((await signer.verify(token))?.iss).toBe(issuer)
  })

  it('knows nothing of a token that is expired, altered, unsigned, of another key, another issuer or no token', async () => {
    const keys = await generateSigningKeys()
    const signer = await openSigner({ issuer, keys })
    const good = await signer.sign(claims, { typ })
    const [header, , signature] = good.split('.')
    const altered = Buffer.from(JSON.stringify({ ...claims, iss: issuer, sub: 'another' })).toString('base64url')
    const { privateKey } = await generateKeyPair('ES256')
    const kid = keys.keys[0]?.kid
    const forged = await new SignJWT({ ...claims, iss: issuer }).setProtectedHeader({ alg: 'ES256', kid }).sign(privateKey)
    const confused = await new SignJWT({ ...claims, iss: issuer })
      .setProtectedHeader({ alg: 'HS256', kid })
      .sign(new TextEncoder().encode(JSON.stringify(signer.jwks().keys[0])))
    const elsewhere = await (await openSigner({ issuer: `${issuer}/`, keys })).sign(claims, { typ })
    const bad = [
      await signer.sign({ ...claims, exp: now - 1 }, { typ }),
      await signer.sign({ ...claims, exp: undefined }, { typ }),
      `${header}.${altered}.${signature}`,
      new UnsecuredJWT({ ...claims, iss: issuer }).encode(),
      forged,
      confused,
      elsewhere,
      '',
      'a.b.c',
      `${good}${'A'.repeat(9000)}`,
    ]
    for (const token of bad) expect(await signer.verify(token)).toBeUndefined()
    expect(await signer.verify(good)).toBeDefined()
  })

  it('tells by the clock of whoever asks whether a token has expired, not by its own', async () => {
    const signer = await openSigner({ issuer, keys: await generateSigningKeys() })
    const token = await signer.sign({ ...claims, nbf: claims.iat }, { typ })
    expect(await signer.verify(token, (claims.exp + 1) * 1000)).toBeUndefined()
    const past = await signer.sign({ ...claims, iat: claims.iat - 3_600, nbf: claims.iat - 3_600, exp: claims.iat - 3_540 }, { typ })
    expect(await signer.verify(past, (claims.iat - 3_570) * 1000)).toBeDefined()
  })

  it('signs assertions of RS256 with a key that stands after the first, publishes its public half alone, and takes none for its own', async () => {
    const { keys } = await generateSigningKeys()
    const { keys: rsa } = await generateSigningKeys('RS256')
    const signer = await openSigner({ issuer, keys: { keys: [...keys, ...rsa] } })
    expect(decodeProtectedHeader(await signer.sign(claims, { typ })).alg).toBe('ES256')
    const assertion = await signer.sign(claims, { typ: 'JWT', alg: 'RS256' })
    expect(decodeProtectedHeader(assertion)).toEqual({ alg: 'RS256', typ: 'JWT', kid: rsa[0]?.kid })
    const store = await nodeJose.JWK.asKeyStore(signer.jwks())
    expect(JSON.parse((await nodeJose.JWS.createVerify(store).verify(assertion)).payload.toString())).toMatchObject({ iss: issuer, ...claims })
    expect(await signer.verify(assertion)).toBeUndefined()
    expect(Object.keys(signer.jwks().keys[1] ?? {}).sort()).toEqual(['alg', 'e', 'kid', 'kty', 'n', 'use'])
    const without = await openSigner({ issuer, keys: { keys } })
    await expect(without.sign(claims, { typ, alg: 'RS256' })).rejects.toThrow(/RS256/)
  })

  it('refuses keys that do not fit', async () => {
    const { keys } = await generateSigningKeys()
    const { privateKey } = await generateKeyPair('RS256', { extractable: true })
    await expect(openSigner({ issuer, keys: { keys: [] } })).rejects.toThrow()
    await expect(openSigner({ issuer, keys: { keys: [await exportJWK(privateKey)] } })).rejects.toThrow()
    await expect(openSigner({ issuer, keys: { keys: keys.map(({ d: _private, ...rest }) => rest) } })).rejects.toThrow(/private half/)
    await expect(openSigner({ issuer, keys: { keys: [...keys, ...keys] } })).rejects.toThrow(/same kid/)
  })
})
