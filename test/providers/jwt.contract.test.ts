import nodeJose from 'node-jose'
import { z } from 'zod'
import { jwt } from '../../src/providers/jwt.js'
import type { Credential } from '../../src/providers/provider.js'
import { generateSigningKeys, openSigner } from '../../src/signer.js'
import { contract } from './contract.js'
import type { Harness } from './harness.js'

const AUDIENCE = 'https://api.example'
const claims = z.object({ aud: z.string(), iss: z.string(), exp: z.number(), nbf: z.number(), scope: z.string().optional() })

/** A resource server that knows only the published keys, with an implementation of its own. */
function start(verification: 'signature' | 'introspection') {
  return async (): Promise<Harness> => {
    const signer = await openSigner({ issuer: 'https://mayfly.example', keys: await generateSigningKeys() })
    const store = await nodeJose.JWK.asKeyStore(signer.jwks())
    const verified = async ({ fields }: Credential) => {
      const { payload } = await nodeJose.JWS.createVerify(store).verify(String(fields.token))
      return claims.parse(JSON.parse(payload.toString()))
    }
    return {
      module: jwt,
      upstream: 'self',
      options: { verification },
      params: { audience: AUDIENCE, claims: { tenant: 'acme' } },
      signer,
      async works(credential, at = Date.now()) {
        const { aud, iss, exp, nbf } = await verified(credential)
        return aud === AUDIENCE && iss === 'https://mayfly.example' && nbf * 1000 <= at && at < exp * 1000
      },
      made: async () => [],
      expiry: async (credential) => (await verified(credential)).exp * 1000,
      narrowing: {
        scope: { prefix: 'exports/2026', tables: ['a', 'b c'] },
        allows: async (credential) => (await verified(credential)).scope === 'prefix=exports/2026 tables=a tables=b%20c',
        denies: async (credential) => !(await verified(credential)).scope?.split(' ').includes('tables=c'),
      },
      widening: [{ prefix: 'x'.repeat(10_240) }, { prefix: '\ud800' }],
      hostileParams: [
        {},
        { audience: '' },
        { audience: ['a', 'b'] },
        { audience: AUDIENCE, claims: { sub: 'root' } },
        { audience: AUDIENCE, claims: { aud: 'https://another.example' } },
        { audience: AUDIENCE, env: 'LD_PRELOAD=x' },
        { audience: AUDIENCE, ttl: 5 },
      ],
      secretsOf: ({ fields }) => [String(fields.token)],
      stop: () => Promise.resolve(),
    }
  }
}

const inProcess = {
  'after revoke it does not work, and nothing is left': 'nothing exists upstream: whether a token is active is the state of its lease, in the ledger',
  'a session opened before the revoke is cut': 'a token has no sessions: each use of it is checked by itself',
  'revoking before the mint is success': 'nothing exists upstream that a revoke could find or miss',
  'revoking during the mint, and once more after its end, leaves nothing': 'nothing exists upstream that a mint could leave behind',
  'a mint that lost its answer leaves nothing after revoke': 'the mint is a computation in this process: there is no answer to lose',
  'a mint asked for with its end in the past makes nothing': 'the ledger grants in one step, and a token dies at its own exp whenever it is made',
  'a mint that arrives after its end makes nothing': 'the mint is a computation in this process: it arrives nowhere',
  'a lease id of another form makes no name': 'no name is made of a lease id: it is the jti claim, as JSON',
  'list finds exactly what this instance made': 'nothing exists upstream to be listed',
  'verify tells dead from alive': 'nothing exists upstream to be probed',
  'renew extends it, and revives nothing': 'a signed token cannot be extended: renewing mints a successor',
  'an unreachable upstream is an error inside the deadline': 'there is no upstream at all',
  'an upstream that takes the connection and says nothing is a timeout inside the deadline': 'there is no upstream at all',
  'half an answer is an error inside the deadline': 'there is no upstream that could answer',
  'a throttling upstream is told apart': 'there is no upstream that could throttle',
  'a handle that only the mint knows is not guessed, and its blind window is told': 'nothing exists upstream: the lease is all there is to know',
} as const

contract('jwt, checked by its signature', start('signature'), {
  ...inProcess,
  'revoking twice is success': 'at-expiry: a token that is only checked by its signature cannot be taken back',
  'revoking at once from four sides is success on each': 'at-expiry: a token that is only checked by its signature cannot be taken back',
})
contract('jwt, checked by introspection', start('introspection'), {
  ...inProcess,
  'after its expiry it does not work': 'introspection reads the ledger; the expiry of the token itself is shown by the signature mode',
  'what cannot be taken back is not called revoked': 'revocation is immediate: the ledger is asked each time',
})
