import { azure } from '../../src/providers/azure.js'
import { ARM, CLIENT, STORAGE, startAzureUpstream } from './azure-upstream.js'
import { contract } from './contract.js'
import { type Harness, HOSTILE_TEXTS } from './harness.js'

const scopes = [`${STORAGE}/.default`, `${ARM}/.default`]

async function start(): Promise<Harness> {
  const { entra, signer, secret, options, stop } = await startAzureUpstream()
  const tokenOf = (fields: Readonly<Record<string, unknown>>) => String(fields.access_token)
  const half = `{"token_type":"Bearer","expires_in":3599,"access_token":"${secret.slice(0, 40)}`
  const busy = '{"error":"temporarily_unavailable","error_description":"AADSTS90033: transient","error_codes":[90033]}'
  const http = (status: string, body: string, length: number) =>
    `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${length}\r\n\r\n${body}`
  return {
    module: azure,
    upstream: 'fake',
    options,
    params: { client_id: CLIENT, scopes },
    scope: { scope: scopes[0] ?? '' },
    signer,
    address: entra,
    optionsAt: (port) => ({ ...options, authority: `http://127.0.0.1:${port}` }),
    brokerSecret: secret,
    works: async ({ fields }, at) => entra.authorize(tokenOf(fields), STORAGE, at),
    made: async () => entra.issued.map(({ id }) => id),
    expiry: async ({ fields }) => {
      const [, payload = ''] = tokenOf(fields).split('.')
      return JSON.parse(Buffer.from(payload, 'base64url').toString()).exp * 1000
    },
    narrowing: {
      scope: { scope: scopes[1] ?? '' },
      allows: async ({ fields }) => entra.authorize(tokenOf(fields), ARM),
      denies: async ({ fields }) => !entra.authorize(tokenOf(fields), STORAGE),
    },
    widening: [
      {},
      { scope: 'https://graph.microsoft.com/.default' },
      { scope: STORAGE },
      { scope: `${STORAGE}/.default ` },
      { scope: `${STORAGE}/.default ${ARM}/.default` },
      { scope: scopes },
      { scope: [scopes[0] ?? ''] },
      { scope: [] },
      { scope: '' },
      { scope: '*' },
      { scope: `${STORAGE}//.default` },
      { scope: `${STORAGE.toUpperCase()}/.default` },
      { scope: `${STORAGE}/.default&client_id=x` },
      { scope: scopes[0] ?? '', client_id: CLIENT },
      { resource: STORAGE },
      { __proto__: 'x', constructor: 'x' },
      ...HOSTILE_TEXTS.map((text) => ({ scope: text })),
    ],
    hostileParams: [
      {},
      { client_id: CLIENT },
      { scopes },
      { client_id: 'my-app', scopes },
      { client_id: `${CLIENT}\n`, scopes },
      { client_id: `${CLIENT}/../x`, scopes },
      { client_id: CLIENT, scopes: [] },
      { client_id: CLIENT, scopes },
      { client_id: CLIENT, scopes: [scopes[0], scopes[0]] },
      { client_id: CLIENT, scopes: [STORAGE] },
      { client_id: CLIENT, scopes: [`${scopes[0]} ${scopes[1]}`] },
      { client_id: CLIENT, scopes: [`${scopes[0]}\n`] },
      { client_id: CLIENT, scopes: [`${scopes[0]}&grant_type=password`] },
      { client_id: CLIENT, scopes: ['.default'] },
      { client_id: CLIENT, scopes: ['https://user@storage.azure.com/.default'] },
      { client_id: CLIENT, scopes: ['https://storage.azure.com?x/.default'] },
      { client_id: CLIENT, scopes: ['offline_access'] },
      { client_id: CLIENT, scopes: Array.from({ length: 21 }, (_, index) => `https://r${index}.example/.default`) },
      { client_id: CLIENT, scopes: [`https://${'x'.repeat(10_240)}/.default`] },
      { client_id: CLIENT, scopes: [scopes[0]], env: 'lower' },
      { client_id: CLIENT, scopes: [scopes[0]], env: 'A=B\nLD_PRELOAD' },
      { client_id: CLIENT, scopes: [scopes[0]], claims: '{}' },
      { client_id: CLIENT, scopes: [scopes[0]], tenant: 'other' },
      ...HOSTILE_TEXTS.map((text) => ({ client_id: CLIENT, scopes: [text] })),
      ...HOSTILE_TEXTS.map((text) => ({ client_id: text, scopes })),
    ],
    refusedParams: [{ client_id: '00000000-0000-4000-8000-000000000000', scopes }],
    secretsOf: ({ fields }) => [tokenOf(fields)],
    mintSign: 'client_credentials',
    halfAnswer: http('200 OK', half, half.length + 100),
    busyAnswer: http('429 Too Many Requests', busy, busy.length),
    stop,
  }
}

const atExpiry = 'at-expiry: an access token of Entra ID cannot be withdrawn before it ends'
const noTrace = 'an access token leaves no thing at Entra ID that could be listed or deleted'
contract('azure', start, {
  'after revoke it does not work, and nothing is left': atExpiry,
  'a session opened before the revoke is cut': atExpiry,
  'revoking twice is success': atExpiry,
  'revoking at once from four sides is success on each': atExpiry,
  'revoking before the mint is success': atExpiry,
  'revoking during the mint, and once more after its end, leaves nothing': atExpiry,
  'a mint that lost its answer leaves nothing after revoke': 'the answer is the only copy of the token, so that nobody has what was lost',
  'a mint that arrives after its end makes nothing': 'Entra ID takes no deadline: a late answer reaches nobody, and there is no second copy of it',
  'list finds exactly what this instance made': noTrace,
  'verify tells dead from alive': noTrace,
  'renew extends it, and revives nothing': 'an access token cannot be extended: renewing mints a successor',
  'a handle that only the mint knows is not guessed, and its blind window is told':
    'there is no handle at all: nothing at Entra ID could be taken back',
})
