import { openbao } from '../../src/providers/openbao.js'
import type { Credential } from '../../src/providers/provider.js'
import { contract } from './contract.js'
import { type Harness, HOSTILE_TEXTS } from './harness.js'
import { APPROLE, startOpenBaoUpstream } from './openbao-upstream.js'

const DB = '$'.concat('{scope.db}')
const params = { path: `database/creds/${DB}`, values: { db: ['orders', 'bills'] }, env: { PGUSER: 'username', PGPASSWORD: 'password' } }

/** With each way by which the broker can log in. */
function startWith(auth: object, secrets: object, brokerSecret?: string) {
  return async (): Promise<Harness> => {
    const upstream = await startOpenBaoUpstream()
    const { bao, signer } = upstream
    const options = { url: bao.url, namespace: 'team', auth, ...secrets, lease_ttl: '1h' }
    const userOf = ({ fields }: Credential) => String(fields.username)
    const half = '{"request_id":"1","lease_id":"database/creds/orders/abc","lease_du'
    const busy = '{"errors":["request path \\"database/creds/orders\\": rate limit quota exceeded"]}'
    const http = (status: string, body: string, length: number) =>
      `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${body}`
    return {
      module: openbao,
      upstream: 'fake',
      options,
      params,
      scope: { db: 'orders' },
      signer,
      address: bao,
      optionsAt: (port) => ({ ...options, url: `http://127.0.0.1:${port}` }),
      brokerSecret: brokerSecret ?? upstream.signingSecret,
      someHandle: { lease_id: 'database/creds/orders/2f6a614c-4aa2-7b19-24b9-ad944a8d4de6' },
      works: async ({ fields }, at) => bao.knows(fields, at),
      made: async () => bao.leases(),
      expiry: async (_credential, handle) => bao.expiry(String(handle.lease_id)),
      narrowing: {
        scope: { db: 'bills' },
        allows: async (credential) => bao.knows(credential.fields) && userOf(credential).startsWith('v-bills-'),
        denies: async (credential) => !userOf(credential).startsWith('v-orders-'),
      },
      widening: [
        {},
        { db: 'endless' },
        { db: 'Orders' },
        { db: 'orders ' },
        { db: 'orders/../bills' },
        { db: '../../sys/seal' },
        { db: 'orders%2f..%2fbills' },
        { db: 'orders/' },
        { db: '' },
        { db: '*' },
        { db: '+' },
        { db: ['orders', 'bills'] },
        { db: ['orders'] },
        { db: [] },
        { db: 'orders', path: 'database/creds/bills' },
        { db: 'orders', values: ['bills'] },
        { creds: 'orders' },
        { constructor: 'orders', db: '__proto__' },
        ...HOSTILE_TEXTS.map((text) => ({ db: text })),
      ],
      hostileParams: [
        {},
        params,
        { path: 'database' },
        { path: '/database/creds/a' },
        { path: 'database/creds/' },
        { path: 'database//creds' },
        { path: 'database/../sys/seal' },
        { path: 'database/./creds' },
        { path: 'database/creds/a?list=true' },
        { path: 'database/creds/a#b' },
        { path: 'database/creds/%2e%2e' },
        { path: 'database/creds/*' },
        { path: 'database/creds/+' },
        { path: 'database/creds/a\n' },
        { path: 'sys/seal' },
        { path: 'sys/policies/acl/x', method: 'write', data: { policy: '' } },
        { path: 'team/sys/policies/acl/x' },
        { path: 'auth/token/create', method: 'write' },
        { path: 'team/auth/token/create', method: 'write' },
        { path: 'identity/oidc/token/x' },
        { path: 'cubbyhole/x' },
        { path: `${DB}/creds/orders`, values: { db: ['database'] } },
        { path: `database/creds/x-${DB}`, values: { db: ['orders'] } },
        { path: 'database/creds/orders', values: { db: ['orders'] } },
        { path: `database/creds/${DB}` },
        { path: `database/creds/${DB}`, values: { db: ['../bills'] } },
        { path: `database/creds/${DB}`, values: { db: ['a/b'] } },
        { path: `database/creds/${DB}`, values: { db: ['*'] } },
        { path: `database/creds/${DB}`, values: { db: [] } },
        { path: 'database/creds/a', data: { ttl: '9999h' } },
        { path: 'pki/issue/web', method: 'write', data: { common_name: `x.${DB}` }, values: { db: ['a'] } },
        { path: 'pki/issue/web', method: 'write', data: { ip_sans: [DB] }, values: { db: ['a'] } },
        { path: 'pki/issue/web', method: 'delete' },
        { path: 'database/creds/a', env: { 'A=B': 'username' } },
        { path: 'database/creds/a', token: 'x' },
        { path: 'database/creds/a', max_ttl: '1h' },
        { path: `database/creds/${'a'.repeat(10_240)}` },
        ...HOSTILE_TEXTS.map((text) => ({ path: `database/creds/${text}` })),
        ...HOSTILE_TEXTS.map((text) => ({ path: `database/creds/${DB}`, values: { db: [text] } })),
      ],
      refusedParams: [
        { ...params, path: `secret/data/${DB}`, values: { db: ['orders'] } },
        { ...params, path: `database/roles/${DB}` },
        { ...params, path: `pki/issue/${DB}` },
        { ...params, path: `database/creds/${DB}`, method: 'write' },
        { ...params, env: { PGUSER: 'nosuchfield' } },
      ],
      secretsOf: ({ fields }) => [String(fields.password)],
      mintSign: '/v1/database/creds/orders',
      halfAnswer: http('200 OK', half, half.length + 100),
      busyAnswer: http('429 Too Many Requests', busy, busy.length),
      stop: upstream.stop,
    }
  }
}

const returned = 'the handle is the id that OpenBao gives a lease: before and without the answer there is none'
const notApplicable = {
  'what cannot be taken back is not called revoked': 'revocation is immediate: every lease can be revoked',
  'a session opened before the revoke is cut':
    'whether open sessions end is up to the engine behind the path: the provider says no (cutsSessions is false)',
  'revoking before the mint is success': returned,
  'revoking during the mint, and once more after its end, leaves nothing': returned,
  'a mint that lost its answer leaves nothing after revoke': `${returned}; the blind window bounds it`,
  'a mint that arrives after its end makes nothing': `${returned}; OpenBao takes no deadline`,
  'list finds exactly what this instance made': 'listing leases needs sudo at OpenBao, and their ids name no instance: not offered',
  'renew extends it, and revives nothing': 'a lease dies with the token that made it, whatever it was extended to: renewing mints a successor',
} as const

contract('openbao, jwt', startWith({ method: 'jwt', role: 'mayfly' }, {}), notApplicable)
const { role_id, secret_id } = APPROLE
contract('openbao, approle', startWith({ method: 'approle', role_id }, { secret_id }, secret_id), notApplicable)
