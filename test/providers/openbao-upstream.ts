import { randomBytes } from 'node:crypto'
import { generateSigningKeys, openSigner, type TokenSigner } from '../../src/signer.js'
import { type FakeOpenBao, startFakeOpenBao } from './fake-openbao.js'

export const ISSUER = 'https://mayfly.example'
export const APPROLE = { role_id: '59d6d1ca-47bb-4e7e-a40b-8be3bc5a0ba8', secret_id: randomBytes(16).toString('hex') }

/** An OpenBao with a database of two roles, a certificate authority, a few traps, and a role of each auth method for the broker. */
export interface OpenBaoUpstream {
  readonly bao: FakeOpenBao
  readonly signer: TokenSigner
  /** The private half of the key that signs the broker's logins. */
  readonly signingSecret: string
  stop(): Promise<void>
}

const user = (role: string) => () => ({ username: `v-${role}-${randomBytes(8).toString('hex')}`, password: randomBytes(18).toString('base64url') })

export async function startOpenBaoUpstream(): Promise<OpenBaoUpstream> {
  const keys = await generateSigningKeys()
  const signer = await openSigner({ issuer: ISSUER, keys })
  const leased = { ttlSeconds: 3600, maxTtlSeconds: 7200 }
  const token = { policies: ['mayfly'], ttlSeconds: 14_400 }
  const bao = await startFakeOpenBao({
    namespace: 'team',
    policies: {
      mayfly: {
        'database/creds/*': ['read'],
        'pki/issue/*': ['update'],
        'secret/*': ['read'],
        'wrapped/creds/*': ['read'],
        'sys/leases/lookup': ['update'],
        'sys/leases/renew': ['update'],
        'sys/leases/revoke': ['update'],
      },
      narrow: { 'database/creds/orders': ['read'] },
      sudo: { 'sys/leases/revoke': ['update', 'sudo'] },
    },
    secrets: {
      'database/creds/orders': { ...leased, make: user('orders') },
      'database/creds/bills': { ...leased, make: user('bills') },
      'database/creds/short': { ttlSeconds: 20, make: user('short') },
      'database/creds/fixed': { ttlSeconds: 600, renewable: false, make: user('fixed') },
      'database/creds/endless': { ttlSeconds: 86_400, make: user('endless') },
      'wrapped/creds/one': { ...leased, wrapped: true, make: user('wrapped') },
      'secret/data/static': { make: () => ({ data: { password: 'static' }, metadata: {} }) },
      'pki/issue/web': {
        ...leased,
        method: 'POST',
        make: ({ common_name: name }) => ({ certificate: `cert of ${name}`, serial_number: '1', ca_chain: [] }),
      },
    },
    approles: { [APPROLE.role_id]: { secretId: APPROLE.secret_id, ...token } },
    jwtRoles: {
      mayfly: { issuer: ISSUER, audience: 'openbao', subject: 'mayfly-contract', keys: () => signer.jwks().keys, ...token },
      batch: { issuer: ISSUER, audience: 'openbao', subject: 'mayfly-contract', keys: () => signer.jwks().keys, ...token, batch: true },
      brief: { issuer: ISSUER, audience: 'openbao', subject: 'mayfly-contract', keys: () => signer.jwks().keys, ...token, ttlSeconds: 30 },
    },
  })
  return { bao, signer, signingSecret: keys.keys[0]?.d ?? '', stop: () => bao.stop() }
}
