import { createHmac } from 'node:crypto'
import { REQUEST_TOKEN_TYPE } from '../../providers/http/request-token.js'
import type { Twist } from '../service.js'
import { type Case, refusedWith, type Trial } from '../trial.js'

/** Who is not let in: RFC 8725, RFC 9449 §4.3. Each is tried at every operation that the service has. */

export const ACCEPTS = 'it describes itself, to whom Mayfly signed for'

export const UNSIGNED = 'a request without a token is refused'
const OTHER_KEY = 'a token signed by another key is refused'
const OTHER_ALGORITHM = 'a token of another algorithm is refused'
const OTHER_ISSUER = 'a token in the name of another issuer is refused'
const OTHER_AUDIENCE = 'a token for another audience is refused'
const OTHER_KIND = 'a token that Mayfly signed for something else is refused'
const EXPIRED = 'an expired token is refused'
const FUTURE = 'a token from the future is refused'
const TOO_LONG = 'a token that lives longer than 30 seconds is refused'
const OTHER_REQUEST = 'a token for another request is refused'
const ALTERED = 'an altered body is refused'
const REPLAYED = 'a token is good for one request'

const HALF_AN_HOUR = 1800
const shifted = (seconds: number) => (claims: Readonly<Record<string, unknown>>) => ({
  ...claims,
  iat: Number(claims.iat) + seconds,
  exp: Number(claims.exp) + seconds,
})

export const callers: readonly Case[] = [
  ...cases(UNSIGNED, () => [{ token: () => undefined }, { token: () => 'undefined' }, { token: () => 'e30.e30.' }]),
  ...cases(OTHER_KEY, ({ signers }) => [{ signer: signers.otherKey }, { signer: signers.sameKid }]),
  ...cases(OTHER_ALGORITHM, ({ signers: { honest, publicPem } }) => {
    const kid = honest.jwks().keys[0]?.kid
    const forged = (alg: string, sign: (input: string) => string) => (_honest: string, claims: Readonly<Record<string, unknown>>) => {
      const input = [{ alg, typ: REQUEST_TOKEN_TYPE, kid }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
      return `${input}.${sign(input)}`
    }
    // RFC 8725 §2.1: "none", and a public key taken for a shared secret.
    const hmac = (secret: string) => (input: string) => createHmac('sha256', secret).update(input).digest('base64url')
    return [{ token: forged('none', () => '') }, { token: forged('none', () => 'AA') }, { token: forged('HS256', hmac(publicPem)) }]
  }),
  ...cases(OTHER_ISSUER, ({ signers }) => [{ signer: signers.otherIssuer }]),
  ...cases(OTHER_AUDIENCE, () => [
    { claims: (claims) => ({ ...claims, aud: 'https://another-service.example' }) },
    { claims: (claims) => ({ ...claims, aud: `${String(claims.aud)}.example` }) },
  ]),
  ...cases(OTHER_KIND, () => [{ typ: 'at+jwt' }, { typ: 'JWT' }]),
  ...cases(EXPIRED, () => [{ claims: shifted(-HALF_AN_HOUR) }]),
  ...cases(FUTURE, () => [{ claims: shifted(HALF_AN_HOUR) }]),
  ...cases(TOO_LONG, () => [{ claims: (claims) => ({ ...claims, exp: Number(claims.iat) + HALF_AN_HOUR }) }]),
  ...cases(OTHER_REQUEST, () => [
    { claims: (claims) => ({ ...claims, htu: `${String(claims.aud)}/another` }) },
    { claims: (claims) => ({ ...claims, htm: 'GET' }) },
  ]),
  {
    name: ALTERED,
    after: [ACCEPTS],
    async run(trial) {
      for (const operation of trial.operations) {
        const { body, name } = trial.bodyOf(operation)
        const other = JSON.stringify(trial.bodyOf(operation).body)
        // The same to a reader of JSON, and not the same bytes.
        const spaced = `${JSON.stringify(body)} `
        for (const sent of operation === 'describe' ? [spaced] : [other, spaced]) {
          refusedWith(`${operation} with another body than was signed`, await trial.send(operation, body, { sent }), [401, 403])
          if (operation === 'mint') await trial.nothingOf(name, 'a mint with another body than was signed')
        }
      }
    },
  },
  {
    name: REPLAYED,
    after: [ACCEPTS],
    async run(trial) {
      for (const operation of trial.operations) {
        const [, second, third] = await trial.service.replay(operation, trial.bodyOf(operation).body, 3)
        for (const answer of [second, third])
          if (answer) refusedWith(`${operation}, sent once more with the token of the first time,`, answer, [401, 403])
      }
    },
  },
  {
    name: 'a token without one of its claims is refused',
    after: [OTHER_AUDIENCE, EXPIRED, FUTURE, TOO_LONG, OTHER_REQUEST, ALTERED, REPLAYED],
    async run(trial) {
      for (const claim of ['aud', 'iat', 'exp', 'jti', 'htm', 'htu', 'content_digest']) {
        const { body, name } = trial.bodyOf('mint')
        const claims = (all: Readonly<Record<string, unknown>>) => Object.fromEntries(Object.entries(all).filter(([key]) => key !== claim))
        refusedWith(`mint with a token that has no "${claim}"`, await trial.send('mint', body, { claims }), [401, 403])
        await trial.nothingOf(name, `a mint with a token that has no "${claim}"`)
      }
    },
  },
]

/** One case: each of these ways of asking is refused at every operation, and has done nothing. */
function cases(name: string, twists: (trial: Trial) => readonly Twist[]): Case[] {
  const run = async (trial: Trial) => {
    for (const operation of trial.operations)
      for (const twist of twists(trial)) {
        const { body, name: made } = trial.bodyOf(operation)
        const what = `${operation} (${name.replace(/ is refused$/, '')})`
        refusedWith(what, await trial.send(operation, body, twist), [401, 403])
        if (operation === 'mint') await trial.nothingOf(made, what)
      }
  }
  return [{ name, after: [ACCEPTS], run }]
}
