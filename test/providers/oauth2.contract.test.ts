import { oauth2 } from '../../src/providers/oauth2.js'
import type { Credential } from '../../src/providers/provider.js'
import { contract } from './contract.js'
import type { Harness } from './harness.js'
import { API, SECRET, startOAuth } from './oauth2-upstream.js'

async function start(verification: 'introspection' | 'signature', grant: 'client_credentials' | 'token_exchange'): Promise<Harness> {
  const server = await startOAuth()
  const isAsked = verification === 'introspection'
  const base = { client_id: 'mayfly', client_secret: SECRET, verification, allow_http_loopback: true, max_token_life: '5m' }
  const good = { grant, scopes: ['orders.read', 'orders.write'], resource: isAsked ? API.opaque : API.jwt }
  const tokenOf = ({ fields }: Credential) => String(fields.access_token)
  /** As an API would: whether it lets the holder do what needs that scope. */
  const may = async (credential: Credential, scope: string, at?: number): Promise<boolean> => {
    const told = isAsked ? await server.introspect(tokenOf(credential)) : await server.verify(tokenOf(credential), at).catch(() => ({ scope: '' }))
    return String(Object(told).scope).split(' ').includes(scope)
  }
  const half = '{"access_token":"abc","token_type":'
  const head = 'content-type: application/json\r\n'
  return {
    module: oauth2,
    upstream: 'real',
    options: { ...base, issuer: server.issuer },
    params: good,
    signer: server.signer,
    address: server,
    optionsAt: (port) => ({ ...base, issuer: `http://127.0.0.1:${port}` }),
    brokerSecret: SECRET,
    works: (credential, at) => may(credential, 'orders.read', at),
    someHandle: { token: 'a'.repeat(43) },
    made: async () => server.made(),
    expiry: async (credential) => Number((await server.verify(tokenOf(credential))).exp) * 1000,
    narrowing: {
      scope: { scopes: ['orders.read'] },
      allows: (credential) => may(credential, 'orders.read'),
      denies: async (credential) => !(await may(credential, 'orders.write')) && !(await may(credential, 'carts.read')),
    },
    widening: [
      { scopes: 'carts.read' },
      { scopes: ['orders.read', 'carts.read'] },
      { scopes: [] },
      { scopes: '' },
      { scopes: ' ' },
      { scopes: '*' },
      { scopes: 'orders.read carts.read' },
      { scopes: 'orders.read orders.write' },
      { scopes: 'orders' },
      { scopes: ['Orders.read'] },
      { scopes: ['orders.read\n'] },
      { scopes: ['openid'] },
      { scopes: ['offline_access'] },
      { scopes: ['__proto__'] },
      { scopes: ['orders.read&resource=urn:test:other'] },
      { scopes: 'x'.repeat(10_240) },
      { scope: 'orders.read' },
      { resource: API.opaque },
      { audience: 'urn:test:other' },
      { grant: 'client_credentials' },
    ],
    hostileParams: [
      {},
      { grant },
      { scopes: ['orders.read'] },
      { ...good, scopes: [] },
      { ...good, scopes: 'orders.read' },
      ...['', ' ', 'a b', 'a\tb', 'a\nb', 'a"b', 'a\\b', 'ä', '\u0000', '\u007f', 'offline_access', 'x'.repeat(257), 'x'.repeat(10_240)].map(
        (one) => ({
          ...good,
          scopes: [one],
        }),
      ),
      { ...good, scopes: ['orders.read', 'orders.read'] },
      { ...good, scopes: Array.from({ length: 101 }, (_, index) => `s${index}`) },
      { ...good, scopes: [1] },
      { ...good, scopes: [['orders.read']] },
      ...['password', 'refresh_token', 'authorization_code', 'urn:ietf:params:oauth:grant-type:token-exchange', '', null].map((one) => ({
        ...good,
        grant: one,
      })),
      ...['not a uri', '/relative', 'urn:a#b', 'https://a.example/\r\nx', '', 'https://ä.example', ['urn:a']].map((resource) => ({
        ...good,
        resource,
      })),
      ...['', 'a\nb', 'ä', 7, 'x'.repeat(2049)].map((audience) => ({ ...good, audience })),
      ...['', 'lower', '1X', 'A=B', 'LD_PRELOAD\n', 'X'.repeat(65)].map((env) => ({ ...good, env })),
      { ...good, subject_token: 'x' },
      { ...good, client_id: 'another' },
      { ...good, requested_token_type: 'urn:ietf:params:oauth:token-type:refresh_token' },
      { ...good, grant: 'client_credentials', subject_audience: 'urn:a' },
      { ...good, issuer: 'https://evil.example' },
      JSON.parse('{"__proto__": {"grant": "client_credentials", "scopes": ["a"]}}'),
    ],
    refusedParams: [
      { ...good, resource: 'urn:test:other' },
      // The standard grant would be given less, which is no less right: RFC 6749 §3.3.
      ...(grant === 'token_exchange' ? [{ ...good, scopes: ['orders.read', 'admin'] }] : []),
    ],
    secretsOf: (credential) => [tokenOf(credential)],
    mintSign: 'grant_type',
    halfAnswer: `HTTP/1.1 200 OK\r\n${head}content-length: 400\r\n\r\n${half}`,
    busyAnswer: `HTTP/1.1 429 Too Many Requests\r\n${head}retry-after: 30\r\ncontent-length: 2\r\n\r\n{}`,
    stop: server.stop,
  }
}

const returned = 'only the answer of the mint knows the token, and nothing at the server has a name; the blind window is max_token_life'
const late = 'OAuth has no deadlines: what the server makes late is given back, in oauth2.test.ts'
const noSessions = 'an access token is checked at each request by itself: there are no sessions'
const noList = 'OAuth lists no tokens'
const noRenewal = 'an access token cannot be extended: renewing mints a successor'
const atExpiry = 'at-expiry: who checks the signature alone takes the token until it expires'

contract('oauth2, introspection', () => start('introspection', 'token_exchange'), {
  'after its expiry it does not work': 'revocation is immediate; that a token ends by its expires_in is in oauth2.test.ts',
  'what cannot be taken back is not called revoked': 'revocation is immediate: every token can be revoked (RFC 7009)',
  'a session opened before the revoke is cut': noSessions,
  'revoking before the mint is success': returned,
  'revoking during the mint, and once more after its end, leaves nothing': returned,
  'a mint that lost its answer leaves nothing after revoke': returned,
  'a mint that arrives after its end makes nothing': late,
  "the upstream's own expiry is set": 'the server alone says how long a token lives, and it is told as usableUntil; in oauth2.test.ts',
  'list finds exactly what this instance made': noList,
  'renew extends it, and revives nothing': noRenewal,
})

contract('oauth2, signature', () => start('signature', 'client_credentials'), {
  'after revoke it does not work, and nothing is left': atExpiry,
  'a session opened before the revoke is cut': noSessions,
  'revoking twice is success': atExpiry,
  'revoking at once from four sides is success on each': atExpiry,
  'revoking before the mint is success': atExpiry,
  'revoking during the mint, and once more after its end, leaves nothing': atExpiry,
  'a mint that lost its answer leaves nothing after revoke': returned,
  'a mint that arrives after its end makes nothing': late,
  'list finds exactly what this instance made': noList,
  'verify tells dead from alive': 'at-expiry: such a token is dead once it has expired, and there is nobody to ask',
  'renew extends it, and revives nothing': noRenewal,
})
