import { hash, randomInt } from 'node:crypto'

/**
 * What a server stores of a password, computed here so that the password itself is never sent and is in none of the server's logs. The
 * passwords are random and long: what these schemes lack against guessing does not matter.
 */

/** `mysql_native_password`: https://mariadb.com/kb/en/authentication-plugin-mysql_native_password/ */
export function nativeHash(password: string): string {
  return `*${sha1(sha1(Buffer.from(password)))
    .toString('hex')
    .toUpperCase()}`
}

/**
 * `caching_sha2_password`: "A", thousands of rounds in hex, salt and digest. Server source: sql/auth/sha2_password.cc, `serialize`;
 * the digest is SHA-crypt.
 */
export function cachingSha2Hash(password: string): string {
  const salt = Array.from({ length: 20 }, () => ALPHABET[randomInt(ALPHABET.length)]).join('')
  return `$A$005$${salt}${shaCrypt(password, salt)}`
}

const ALPHABET = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const ROUNDS = 5000

/** SHA-crypt with SHA-256 and 5000 rounds, the digest alone: https://www.akkadia.org/drepper/SHA-crypt.txt, whose steps the comments number. */
export function shaCrypt(password: string, saltText: string): string {
  const key = Buffer.from(password)
  const salt = Buffer.from(saltText)
  // 4-8
  const other = sha256(key, salt, key)
  // 1-3, 9-12
  const parts = [key, salt, repeated(other, key.length)]
  for (let bits = key.length; bits > 0; bits >>= 1) parts.push(bits & 1 ? other : key)
  let digest = sha256(...parts)
  // 13-20
  const p = repeated(sha256(...Array<Buffer>(key.length).fill(key)), key.length)
  const s = repeated(sha256(...Array<Buffer>(16 + (digest[0] ?? 0)).fill(salt)), salt.length)
  // 21
  for (let round = 0; round < ROUNDS; round++) {
    const odd = round % 2 === 1
    digest = sha256(odd ? p : digest, round % 3 === 0 ? NONE : s, round % 7 === 0 ? NONE : p, odd ? digest : p)
  }
  // 22: three bytes make four characters; which three goes round in a pattern.
  let text = ''
  for (let [a, b, c] = [0, 10, 20]; text.length < 40; [a, b, c] = [c + 1, a + 1, b + 1]) text += characters([a, b, c], 4)
  return text + characters([-1, 31, 30], 3)

  function characters(at: readonly number[], count: number): string {
    let bits = at.reduce((sum, index) => (sum << 8) | (digest[index] ?? 0), 0)
    let out = ''
    for (let left = count; left > 0; left--, bits >>= 6) out += ALPHABET[bits & 63]
    return out
  }
}

const NONE = Buffer.alloc(0)
function repeated(block: Buffer, length: number): Buffer {
  return Buffer.alloc(length, block)
}
function sha256(...parts: readonly Buffer[]): Buffer {
  return hash('sha256', Buffer.concat(parts), 'buffer')
}
function sha1(data: Buffer): Buffer {
  return hash('sha1', data, 'buffer')
}
