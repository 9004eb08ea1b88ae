import { constants, createHmac, createPublicKey, type KeyObject, sign } from 'node:crypto'

/** A good token of one kind of issuer, with what its issuer signs by. */
export interface Good {
  readonly name: string
  readonly token: string
  readonly alg: string
  readonly privateKey: KeyObject
}
/** What was done, and the token that came of it. */
export type Mutant = readonly [what: string, token: string]

type Members = Record<string, unknown>
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n

export const encoded = (value: string | Buffer | Members): string =>
  Buffer.from(typeof value === 'string' || Buffer.isBuffer(value) ? value : JSON.stringify(value)).toString('base64url')

export function partsOf(token: string): [header: string, payload: string, signature: string] {
  const [header = '', payload = '', signature = ''] = token.split('.')
  return [header, payload, signature]
}

export function membersOf(part: string): Members {
  return JSON.parse(Buffer.from(part, 'base64url').toString())
}

/** Signed with the issuer's own key, for whatever `alg` the key can be used with: what an issuer signs that was talked into it, or is careless. */
export function signedBy({ alg: own, privateKey: key }: Good, header: string | Members, payload: string | Buffer | Members, alg = own): string {
  const input = `${encoded(header)}.${encoded(payload)}`
  return `${input}.${encoded(signature(alg, key, Buffer.from(input)))}`
}

function signature(alg: string, key: KeyObject, input: Buffer): Buffer {
  if (key.asymmetricKeyType === 'ed25519') return sign(null, input, key)
  const pss = alg.startsWith('PS') && { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
  return sign(`sha${alg.slice(2)}`, input, { key, dsaEncoding: 'ieee-p1363', ...pss })
}

/** (r, s) -> (r, n - s): the one other text that is the same token, since ECDSA accepts both, and whoever reads the one can write the other. */
export function twinOf(token: string): string {
  const [header, payload, signed] = partsOf(token)
  const { r, s } = pairOf(signed)
  return `${header}.${payload}.${encoded(raw(r, ORDER - s))}`
}

function pairOf(signed: string): { r: bigint; s: bigint } {
  const bytes = Buffer.from(signed, 'base64url')
  return { r: BigInt(`0x${bytes.subarray(0, 32).toString('hex')}`), s: BigInt(`0x${bytes.subarray(32).toString('hex')}`) }
}
function raw(r: bigint, s: bigint, length = 32): Buffer {
  return Buffer.concat([r, s].map((value) => Buffer.from(value.toString(16).padStart(2 * length, '0'), 'hex')))
}
function der({ r, s }: { r: bigint; s: bigint }): Buffer {
  const integers = [r, s].map((value) => {
    const bytes = Buffer.from(value.toString(16).padStart(64, '0'), 'hex')
    const content = (bytes[0] ?? 0) > 0x7f ? Buffer.concat([Buffer.from([0]), bytes]) : bytes
    return Buffer.concat([Buffer.from([2, content.length]), content])
  })
  const sequence = Buffer.concat(integers)
  return Buffer.concat([Buffer.from([0x30, sequence.length]), sequence])
}

/** Cut at each place, from either end. */
export function cut({ token }: Good): Mutant[] {
  return [...token].slice(1).flatMap((_, at): Mutant[] => [
    [`the first ${at}`, token.slice(0, at)],
    [`from ${at + 1} on`, token.slice(at + 1)],
  ])
}

/** The same bytes, or nearly, in another spelling. */
export function respelled({ token }: Good): Mutant[] {
  const parts = partsOf(token)
  const at = (index: number, text: string) => parts.map((part, one) => (one === index ? text : part)).join('.')
  const ofPart = parts.flatMap((part, index): Mutant[] => [
    ...['=', '==', '====', '\0', '\n', '\r\n', ' ', '\t', '\u00a0', '\ufeff', '%00', 'é', '-', '_', 'A', 'AA', 'AAAA'].flatMap((more): Mutant[] => [
      [`part ${index} and ${JSON.stringify(more)}`, at(index, part + more)],
      [`${JSON.stringify(more)} and part ${index}`, at(index, more + part)],
      [`${JSON.stringify(more)} within part ${index}`, at(index, part.slice(0, 9) + more + part.slice(9))],
    ]),
    ...nextLetters(part).map((text): Mutant => [`part ${index} with other bits at its end`, at(index, text)]),
    [`part ${index} padded`, at(index, part + '='.repeat((4 - (part.length % 4)) % 4 || 4))],
    [`part ${index} with + and /`, at(index, Buffer.concat([Buffer.from([0xfb, 0xef, 0xff]), Buffer.from(part, 'base64url')]).toString('base64'))],
    [`part ${index} encoded twice`, at(index, encoded(part))],
    [`part ${index} in hex`, at(index, Buffer.from(part, 'base64url').toString('hex'))],
    [`part ${index} not encoded`, at(index, Buffer.from(part, 'base64url').toString())],
    [`part ${index} in the other case`, at(index, part.toUpperCase())],
    [`part ${index} backwards`, at(index, [...part].reverse().join(''))],
    [`part ${index} empty`, at(index, '')],
    [`part ${index} left out`, parts.filter((_, one) => one !== index).join('.')],
    [`part ${index} twice`, parts.flatMap((text, one) => (one === index ? [text, text] : [text])).join('.')],
  ])
  const separators = ['', '..', ',', ' ', '.\0', '\n.', '%2e', '．', '。', '/', ';'].map(
    (one): Mutant => [`${JSON.stringify(one)} as a dot`, parts.join(one)],
  )
  return [...ofPart, ...separators]
}

/** The last letter of a part has bits that mean nothing, unless its length is a multiple of 4. */
function nextLetters(part: string): string[] {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
  return [...alphabet].map((letter) => part.slice(0, -1) + letter).filter((text) => text !== part)
}

/** Other forms of the same content: RFC 7515 §7.2, appendix F; RFC 7516 §7.1. */
export function reserialised({ token }: Good): Mutant[] {
  const [header, payload, signed] = partsOf(token)
  const general = { payload, signatures: [{ protected: header, signature: signed }] }
  const flattened = { payload, protected: header, signature: signed }
  const nested = encoded({ alg: 'ES256', cty: 'JWT' })
  return [
    ['flattened JSON', JSON.stringify(flattened)],
    ['general JSON', JSON.stringify(general)],
    ['flattened JSON, encoded', encoded(flattened)],
    ['general JSON in a part', `${header}.${encoded(general)}.${signed}`],
    ['a detached payload', `${header}..${signed}`],
    ['five parts', `${token}.${payload}.${signed}`],
    ['a JWE', `${encoded({ alg: 'dir', enc: 'A128GCM' })}..${encoded('iv')}.${payload}.${encoded('tag')}`],
    ['the token within a token', `${nested}.${encoded(token)}.${signed}`],
    ['two tokens', `${token}.${token}`],
    ['two tokens, one header', `${token}, ${token}`],
    ['an SD-JWT', `${token}~`],
    ['the scheme twice', `Bearer ${token}`],
    ['1 MB of dots', '.'.repeat(1_048_576)],
    ['a dot and 1 MB', `${token}.${'A'.repeat(1_048_576)}`],
    ['8 kB of signature', `${header}.${payload}.${'A'.repeat(8192 - header.length - payload.length - 2)}`],
    ['8 kB of header', `${'A'.repeat(8192 - payload.length - signed.length - 2)}.${payload}.${signed}`],
    ['8 kB of quotes', `${header}.${encoded('"'.repeat(5000))}.${signed}`],
    ['8 kB of escapes', `${header}.${encoded(`{"a":"${'\\"'.repeat(2500)}`)}.${signed}`],
    ['8 kB of brackets', `${header}.${encoded('['.repeat(5000))}.${signed}`],
    ['8 kB of digits', `${header}.${encoded(`{"exp":${'9'.repeat(5000)}}`)}.${signed}`],
  ]
}

/** Other signatures of the same content, and for whatever key they might be held against. */
export function resigned({ token, alg, privateKey }: Good, others: readonly Good[]): Mutant[] {
  const [header, payload, signed] = partsOf(token)
  const input = `${header}.${payload}`
  const bytes = Buffer.from(signed, 'base64url')
  const zeros = Buffer.alloc(bytes.length)
  const flipped = Array.from({ length: bytes.length * 8 }, (_, bit): [string, Buffer] => {
    const copy = Buffer.from(bytes)
    copy[bit >> 3] = (copy[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    return [`bit ${bit} flipped`, copy]
  }).filter((_, bit) => bytes.length === 64 || bit % 17 === 0)
  const byOthers = others.flatMap((other): [string, Buffer][] => [
    [`by ${other.name}`, signature(other.alg, other.privateKey, Buffer.from(input))],
    [`of the token of ${other.name}`, Buffer.from(partsOf(other.token)[2], 'base64url')],
  ])
  const made: [string, Buffer][] = [
    ...flipped,
    ...byOthers,
    ['all zero', zeros],
    ['all ones', Buffer.alloc(bytes.length, 0xff)],
    ['a zero before it', Buffer.concat([Buffer.from([0]), bytes])],
    ['a zero behind it', Buffer.concat([bytes, Buffer.from([0])])],
    ['a second one behind it', Buffer.concat([bytes, bytes])],
    ['backwards', Buffer.from(bytes).reverse()],
    ...(alg === 'ES256' ? pairs(signed) : []),
    ...(alg === 'RS256' ? largerThanModulus(bytes, privateKey) : []),
  ]
  return made.map(([what, one]) => [`the signature ${what}`, `${input}.${encoded(one)}`])
}

function pairs(signed: string): [string, Buffer][] {
  const { r, s } = pairOf(signed)
  const edges: [string, bigint][] = [
    ['0', 0n],
    ['1', 1n],
    ['n - 1', ORDER - 1n],
    ['n', ORDER],
    ['n + 1', ORDER + 1n],
    ['2^256 - 1', 2n ** 256n - 1n],
  ]
  return [
    ['as DER', der({ r, s })],
    ['as DER of the twin', der({ r, s: ORDER - s })],
    ['with its halves swapped', raw(s, r)],
    ['with r negated', raw(ORDER - r, s)],
    ['with both negated', raw(ORDER - r, ORDER - s)],
    ['for a larger curve', raw(r, s, 48)],
    ['with leading zeros', raw(r, s, 33)],
    ...edges.flatMap(([name, edge]): [string, Buffer][] => [
      [`(r, ${name})`, raw(r, edge)],
      [`(${name}, s)`, raw(edge, s)],
      ...edges.map(([other, second]): [string, Buffer] => [`(${name}, ${other})`, raw(edge, second)]),
    ]),
  ]
}

/** s + n is the same number to whoever reduces it first. */
function largerThanModulus(bytes: Buffer, privateKey: KeyObject): [string, Buffer][] {
  const { n = '' } = createPublicKey(privateKey).export({ format: 'jwk' })
  const modulus = BigInt(`0x${Buffer.from(n, 'base64url').toString('hex')}`)
  const value = BigInt(`0x${bytes.toString('hex')}`)
  return [value + modulus, modulus - value, modulus].map((one) => {
    const text = one.toString(16)
    return ['off by the modulus', Buffer.from(text.padStart(text.length + (text.length % 2), '0'), 'hex')]
  })
}

/** Header fields changed under a signature that was made without a private key: none, by HMAC with what is public, or what was there. */
export function unkeyed({ token, privateKey }: Good): Mutant[] {
  const [head, payload, signed] = partsOf(token)
  const header = membersOf(head)
  const key = createPublicKey(privateKey)
  const jwk = key.export({ format: 'jwk' })
  const secrets = [
    key.export({ type: 'spki', format: 'pem' }),
    key.export({ type: 'spki', format: 'der' }),
    JSON.stringify(jwk),
    Buffer.from(jwk.x ?? jwk.n ?? '', 'base64url'),
    String(header.kid),
    '',
  ]
  const macs = ['HS256', 'HS384', 'HS512', String(header.alg)].flatMap((alg) =>
    secrets.map((secret, index): Mutant => {
      const input = `${encoded({ ...header, alg })}.${payload}`
      const mac = createHmac(alg.startsWith('HS') ? `sha${alg.slice(2)}` : 'sha256', secret)
        .update(input)
        .digest()
      return [`${alg} by HMAC with public text ${index}`, `${input}.${encoded(mac)}`]
    }),
  )
  const none = ['none', 'None', 'NONE', 'nOnE', 'none ', '', 'null', null, false, 0, [], {}].flatMap((alg) =>
    ['', signed, 'AA'].map((text): Mutant => [`alg ${JSON.stringify(alg)}`, `${encoded({ ...header, alg })}.${payload}.${text}`]),
  )
  const own = { ...jwk, kid: header.kid, alg: header.alg }
  const brought: [string, Members][] = [
    ['jwk', { jwk: own }],
    ['jku', { jku: 'https://evil.example/jwks' }],
    ['no kid', { kid: undefined }],
    ['no alg', { alg: undefined }],
  ]
  return [...macs, ...none, ...brought.map(([what, more]): Mutant => [what, `${encoded({ ...header, ...more })}.${payload}.${signed}`])]
}

/** Header, payload and signature each of one of several tokens. */
export function crossed(goods: readonly Good[]): Mutant[] {
  return goods.flatMap((a) =>
    goods.flatMap((b) =>
      goods.map((c): Mutant => {
        const token = [partsOf(a.token)[0], partsOf(b.token)[1], partsOf(c.token)[2]].join('.')
        return [`header of ${a.name}, payload of ${b.name}, signature of ${c.name}`, token]
      }),
    ),
  )
}
