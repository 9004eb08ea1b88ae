import { createPrivateKey, generateKeyPair, type KeyObject, sign } from 'node:crypto'
import { promisify } from 'node:util'
import type sshpk from 'sshpk'
import { ProviderError } from '../provider.js'

export type Sshpk = typeof sshpk

/** A key that signs certificates. */
export interface Authority {
  readonly key: sshpk.Key
  sign(bytes: Buffer): sshpk.Signature
}

const PRIVATE_KEY = /-----BEGIN (?<label>[A-Z ]*PRIVATE KEY)-----[\s\S]*?-----END \k<label>-----/g
const LEAST_RSA_BITS = 3072

/** All private keys in a text, in their order. @throws ProviderError `invalid`, without a word of the text */
export function readAuthorities(sshpk: Sshpk, text: string): [Authority, ...Authority[]] {
  const [first, ...others] = [...text.matchAll(PRIVATE_KEY)].map(([pem], index) => authorityOf(sshpk, pem, `keys: key ${index + 1}`))
  if (first === undefined) throw new ProviderError('invalid', 'keys: holds no private key, neither as OpenSSH nor as PEM')
  const all = [first, ...others] satisfies [Authority, ...Authority[]]
  if (new Set(all.map(({ key }) => key.toString('ssh'))).size < all.length) throw new ProviderError('invalid', 'keys: holds the same key twice')
  return all
}

function authorityOf(sshpk: Sshpk, pem: string, where: string): Authority {
  const key = parse(sshpk, pem, where)
  key.comment = ''
  const isStrong = key.type === 'ed25519' || key.type === 'ecdsa' || (key.type === 'rsa' && key.size >= LEAST_RSA_BITS)
  if (!isStrong) throw new ProviderError('invalid', `${where} is none that may sign: use Ed25519, ECDSA, or RSA with at least ${LEAST_RSA_BITS} bits`)
  return { key: key.toPublic(), sign: signerOf(sshpk, key) }
}

function parse(sshpk: Sshpk, pem: string, where: string): sshpk.PrivateKey {
  try {
    return sshpk.parsePrivateKey(pem, 'auto')
  } catch (cause) {
    // The parser's message may repeat what it read.
    const isEncrypted = cause instanceof Error && cause.name === 'KeyEncryptedError'
    throw new ProviderError(
      'invalid',
      isEncrypted ? `${where} is encrypted: give it without a passphrase` : `${where} cannot be read as a private key`,
    )
  }
}

function signerOf(sshpk: Sshpk, key: sshpk.PrivateKey): Authority['sign'] {
  if (key.type !== 'ed25519')
    return (bytes) => {
      // For RSA a signature with SHA-2 (RFC 8332): OpenSSH >= 8.2 refuses SHA-1, which the encoder would take for certificates by itself.
      const signer = key.createSign(key.defaultHashAlgorithm())
      signer.update(bytes)
      return signer.sign()
    }
  // The encoder's own Ed25519 is JavaScript and takes 100 times as long, in which the broker does nothing else.
  const native = nativeKey(key)
  return (bytes) => sshpk.parseSignature(sign(null, bytes, native), 'ed25519', 'raw')
}

function nativeKey(key: sshpk.PrivateKey): KeyObject {
  const part = (name: string) => key.parts.find((one) => one.name === name)?.data.toString('base64url')
  return createPrivateKey({ format: 'jwk', key: { kty: 'OKP', crv: 'Ed25519', x: part('A'), d: part('k') } })
}

const generate = promisify(generateKeyPair)

/** A key pair for one lease: its private half leaves the broker once, with the credential. */
export async function newSubjectKey(sshpk: Sshpk): Promise<{ readonly key: sshpk.Key; readonly privateKey: string }> {
  const { privateKey } = await generate('ed25519')
  const { x = '', d = '' } = privateKey.export({ format: 'jwk' })
  const point: sshpk.KeyPart = { name: 'A', data: Buffer.from(x, 'base64url') }
  const seed: sshpk.KeyPart = { name: 'k', data: Buffer.from(d, 'base64url') }
  const whole = new sshpk.PrivateKey({ type: 'ed25519', parts: [point, seed] })
  return { key: new sshpk.Key({ type: 'ed25519', parts: [point] }), privateKey: whole.toString('openssh') }
}
