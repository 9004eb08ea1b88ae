import { randomBytes } from 'node:crypto'
import { kubernetes } from '../../src/providers/kubernetes.js'
import type { Credential } from '../../src/providers/provider.js'
import { contract } from './contract.js'
import { startFakeKubernetes } from './fake-kubernetes.js'
import type { Harness } from './harness.js'

const BROKER = 'system:serviceaccount:mayfly:broker'
const NAMESPACE = 'agents'
const ACCOUNTS = ['reader', 'deployer']

async function start(): Promise<Harness> {
  const token = randomBytes(32).toString('base64url')
  const reads = (account: string, namespace: string) => ({
    user: `system:serviceaccount:${NAMESPACE}:${account}`,
    namespace,
    verbs: ['get'],
    resources: ['configmaps'],
  })
  const cluster = await startFakeKubernetes({
    tokens: { [token]: BROKER },
    serviceAccounts: [...ACCOUNTS, 'root'].map((name) => `${NAMESPACE}/${name}`),
    configMaps: ['orders/settings', 'shop/settings'],
    rules: [
      // The Role of docs/providers/kubernetes.md, and no more.
      { user: BROKER, namespace: NAMESPACE, verbs: ['create', 'delete', 'list'], resources: ['secrets'] },
      { user: BROKER, namespace: NAMESPACE, verbs: ['create'], resources: ['serviceaccounts/token'], names: ACCOUNTS },
      reads('reader', 'orders'),
      reads('deployer', 'orders'),
      reads('deployer', 'shop'),
    ],
    pageSize: 2,
  })
  const gets = async ({ env }: Credential, namespace: string): Promise<boolean> => {
    const answer = await fetch(`${cluster.url}/api/v1/namespaces/${namespace}/configmaps/settings`, {
      headers: { authorization: `Bearer ${env.KUBE_TOKEN}` },
    })
    await answer.arrayBuffer()
    return answer.status === 200
  }
  const answer = (status: string, body: object, length?: number) => {
    const text = JSON.stringify(body)
    return `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${length ?? text.length}\r\n\r\n${text}`
  }
  const throttled = {
    kind: 'Status',
    apiVersion: 'v1',
    metadata: {},
    status: 'Failure',
    reason: 'TooManyRequests',
    details: { retryAfterSeconds: 1 },
  }
  const optionsAt = (port: number) => ({ namespaces: [NAMESPACE], server: `http://127.0.0.1:${port}`, token })
  const params = { namespace: NAMESPACE, service_account: ACCOUNTS }
  return {
    module: kubernetes,
    upstream: 'fake',
    options: optionsAt(cluster.port),
    params,
    scope: { service_account: 'deployer' },
    address: cluster,
    optionsAt,
    brokerSecret: token,
    works: (credential) => gets(credential, 'orders'),
    afterResidual: async () => cluster.passCache(10_000),
    made: async () => cluster.secrets().map(({ name }) => name),
    narrowing: {
      scope: { service_account: 'reader' },
      allows: (credential) => gets(credential, 'orders'),
      denies: async (credential) => !(await gets(credential, 'shop')),
    },
    widening: [
      {},
      { service_account: 'root' },
      { service_account: ['deployer'] },
      { service_account: [] },
      { service_account: '' },
      { service_account: '*' },
      { service_account: 'Deployer' },
      { service_account: 'deployer/../root' },
      { service_account: 'deployer\n' },
      { service_account: 'constructor' },
      { service_account: 'deployer', namespace: 'kube-system' },
      { service_account: 'deployer', namespace: '..' },
      { service_account: 'deployer', namespace: [NAMESPACE] },
      { service_account: 'deployer', audiences: 'https://elsewhere' },
      { service_account: 'deployer', verbs: ['*'] },
      JSON.parse('{"__proto__":"deployer"}'),
    ],
    hostileParams: [
      {},
      { namespace: NAMESPACE },
      { service_account: 'reader' },
      { ...params },
      ...['', '*', 'Reader', 'reader/token', '../root', 'reader?x', 'reader%2f', '-reader', 'reader-', 'a..b', 'reader\n', 'x'.repeat(254), 'ре'].map(
        (service_account) => ({ namespace: NAMESPACE, service_account }),
      ),
      ...['', '*', 'kube-system', 'agents/secrets', '..', 'agents\n', 'a.b', 'Agents', 'x'.repeat(64), [], [NAMESPACE, 'kube-system']].map(
        (namespace) => ({
          namespace,
          service_account: 'reader',
        }),
      ),
      ...[[], [''], ['a b'], ['a\n'], 'https://vault', ['x'.repeat(257)]].map((audiences) => ({
        namespace: NAMESPACE,
        service_account: 'reader',
        audiences,
      })),
      { namespace: NAMESPACE, service_account: 'reader', verbs: ['get'] },
    ],
    secretsOf: ({ fields }) => [String(fields.token)],
    mintSign: '/token?',
    halfAnswer: answer('201 Created', { kind: 'Secret', metadata: { uid: token } }, 4096),
    busyAnswer: answer('429 Too Many Requests', throttled),
    log: () => cluster.requests.join('\n'),
    stop: () => cluster.stop(),
  }
}

contract('kubernetes', start, {
  'after its expiry it does not work': 'revocation is immediate: the Secret that a token is bound to can be deleted at any time',
  'what cannot be taken back is not called revoked': 'revocation is immediate: every Secret can be deleted',
  'a session opened before the revoke is cut':
    'a watch or an exec that is open goes on until it ends by itself, and the provider says so (cutsSessions is false)',
  "the upstream's own expiry is set": 'the case is for what only expires; kubernetes.test.ts holds the expiry of a token against what was asked for',
  'renew extends it, and revives nothing': 'the expiry stands signed in the token, so that renewing mints a successor',
  'a handle that only the mint knows is not guessed, and its blind window is told':
    'the name of the Secret is derived from the lease before the mint',
})
