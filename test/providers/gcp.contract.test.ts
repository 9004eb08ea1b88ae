import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gcp } from '../../src/providers/gcp.js'
import type { Credential } from '../../src/providers/provider.js'
import { contract } from './contract.js'
import { startFakeGoogle } from './fake-google.js'
import type { Harness } from './harness.js'

const BROKER = 'principal://iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/mayfly/subject/broker'
const AUDIENCE = '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/mayfly/providers/cluster'
const ACCOUNT = 'export@shop-prod.iam.gserviceaccount.com'
const BUCKET = '//storage.googleapis.com/projects/_/buckets/exports'
const placeholder = (name: string) => '$'.concat(`{scope.${name}}`)
const PREFIX = placeholder('prefix')
const boundary = (expression?: string, rule: object = {}) => ({
  accessBoundary: {
    accessBoundaryRules: [
      {
        availableResource: BUCKET,
        availablePermissions: ['inRole:roles/storage.objectViewer'],
        ...(expression && { availabilityCondition: { expression } }),
        ...rule,
      },
    ],
  },
})
const below = (prefix: string) => `resource.name.startsWith('projects/_/buckets/exports/objects/${prefix}/')`

async function start(): Promise<Harness> {
  const folder = await mkdtemp(join(tmpdir(), 'mayfly-gcp-'))
  const subject = randomBytes(32).toString('base64url')
  await writeFile(join(folder, 'token'), subject)
  const google = await startFakeGoogle({
    workloads: { [subject]: BROKER },
    audience: AUDIENCE,
    accounts: {
      [ACCOUNT]: { tokenCreators: [BROKER], roles: { exports: ['roles/storage.objectAdmin'], salaries: ['roles/storage.objectAdmin'] } },
    },
  })
  const optionsAt = (port: number) => {
    const url = `http://127.0.0.1:${port}`
    const credentials = {
      type: 'external_account',
      audience: AUDIENCE,
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      token_url: `${url}/v1/token`,
      credential_source: { file: join(folder, 'token') },
    }
    return { credentials: JSON.stringify(credentials), endpoints: { iamcredentials: url, sts: url } }
  }
  let passed = 0
  const at = (time: number) => {
    google.passTime(time - Date.now() - passed)
    passed = time - Date.now()
  }
  const reads = async ({ env }: Credential, object: string, bucket = 'exports'): Promise<boolean> => {
    const answer = await fetch(`${google.url}/storage/v1/b/${bucket}/o/${encodeURIComponent(object)}`, {
      headers: { authorization: `Bearer ${env.CLOUDSDK_AUTH_ACCESS_TOKEN}` },
    })
    await answer.arrayBuffer()
    return answer.status === 200
  }
  const answer = (status: string, body: object, length?: number) => {
    const text = JSON.stringify(body)
    return `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${length ?? text.length}\r\n\r\n${text}`
  }
  const params = { service_account: ACCOUNT, access_boundary: boundary(below(PREFIX)) }
  const withExpression = (expression: string) => ({ service_account: ACCOUNT, access_boundary: boundary(expression) })
  const withRule = (rule: object) => ({ service_account: ACCOUNT, access_boundary: boundary(undefined, rule) })
  return {
    module: gcp,
    upstream: 'fake',
    options: optionsAt(google.port),
    params,
    scope: { prefix: ['reports', "bills '24 \\ co"] },
    address: google,
    optionsAt,
    brokerSecret: subject,
    async works(credential, time) {
      if (time !== undefined) at(time)
      const works = await reads(credential, 'reports/a')
      at(Date.now())
      return works
    },
    made: async () => google.impersonated.flatMap(({ reason }) => reason ?? []),
    expiry: async ({ env }) => google.endOf(env.CLOUDSDK_AUTH_ACCESS_TOKEN ?? ''),
    narrowing: {
      scope: { prefix: "bills '24 \\ co" },
      allows: (credential) => reads(credential, "bills '24 \\ co/a"),
      denies: async (credential) =>
        !(await reads(credential, 'reports/a')) &&
        !(await reads(credential, "bills '24 \\ co-other/a")) &&
        !(await reads(credential, "bills '24 \\ co/a", 'salaries')),
    },
    widening: [
      {},
      { prefix: [] },
      { prefix: '' },
      { prefix: '/' },
      { prefix: 'reports/' },
      { prefix: '/reports' },
      { prefix: ['reports', ''] },
      { prefix: PREFIX },
      { prefix: placeholder('other') },
      { prefix: "x') || true || resource.name.startsWith('${" },
      { prefix: "x\n') || true //" },
      { prefix: "x\u2028') || true //" },
      { prefix: 'a\0b' },
      { prefix: '\ud800' },
      { prefix: 'x'.repeat(10_240) },
      { prefix: Array.from({ length: 100 }, (_, index) => `prefix-${index}`) },
      { prefix: 'reports', bucket: 'salaries' },
      { bucket: 'salaries' },
      JSON.parse('{"prefix":"reports","__proto__":"x"}'),
    ],
    hostileParams: [
      {},
      { service_account: ACCOUNT },
      { ...params, whole: true },
      { service_account: ACCOUNT, whole: false },
      { service_account: ACCOUNT, whole: 'true' },
      ...[
        '',
        '-',
        'me@example.com',
        `${ACCOUNT}\n`,
        `${ACCOUNT}:signBlob?`,
        `../${ACCOUNT}`,
        `a/${ACCOUNT}`,
        'x@y.gserviceaccount.com.evil.example',
        '*',
      ].map((service_account) => ({ service_account, whole: true })),
      ...[['a b'], ['https://evil.example/auth/x'], ['https://www.googleapis.com/auth/a b'], [], 'https://www.googleapis.com/auth/x'].map(
        (oauth_scopes) => ({
          service_account: ACCOUNT,
          whole: true,
          oauth_scopes,
        }),
      ),
      ...[['me@example.com'], [`projects/-/serviceAccounts/${ACCOUNT}`], ['']].map((delegates) => ({
        service_account: ACCOUNT,
        whole: true,
        delegates,
      })),
      { service_account: ACCOUNT, whole: true, lifetime: 43_200 },
      { service_account: ACCOUNT, access_boundary: '{' },
      { service_account: ACCOUNT, access_boundary: { accessBoundaryRules: [] } },
      { service_account: ACCOUNT, access_boundary: { accessBoundary: { accessBoundaryRules: [] } } },
      { service_account: ACCOUNT, access_boundary: { accessBoundary: { accessBoundaryRules: Array(11).fill({ ...boundary() }) } } },
      // A placeholder that the role's scope does not have.
      params,
      ...[
        '//storage.googleapis.com/projects/_/buckets/*',
        `${BUCKET}/objects/x`,
        '//cloudresourcemanager.googleapis.com/projects/x',
        'exports',
        `${BUCKET}\n`,
      ].map((availableResource) => withRule({ availableResource })),
      ...[[], ['roles/storage.objectViewer'], ['inRole:roles/storage.objectViewer\n'], ['inRole:*'], [`inRole:roles/${PREFIX}`]].map(
        (availablePermissions) => withRule({ availablePermissions }),
      ),
      withRule({ availablePermission: ['inRole:roles/storage.objectAdmin'] }),
      ...[
        `!${below(PREFIX)}`,
        `resource.name != 'projects/_/buckets/exports/objects/${PREFIX}'`,
        `resource.name.matches('projects/_/buckets/exports/objects/${PREFIX}/.*')`,
        `resource.name.startsWith(r'projects/_/buckets/exports/objects/${PREFIX}/')`,
        `resource.name.startsWith('''projects/_/buckets/exports/objects/${PREFIX}/''')`,
        `resource.name.startsWith(${PREFIX})`,
        `${PREFIX}`,
        `true || ${below(PREFIX)}`,
        `${below(PREFIX)} ? true : false`,
        `${below(PREFIX)} // ${PREFIX}`,
        `${below(PREFIX)})`,
        `(${below(PREFIX)}`,
        below(PREFIX).replace('/objects', '\\x2fobjects'),
      ].map(withExpression),
    ],
    refusedParams: [
      { service_account: `other-${ACCOUNT}`, access_boundary: boundary(below(PREFIX)) },
      { ...params, delegates: [`other-${ACCOUNT}`] },
    ],
    secretsOf: ({ fields }) => [String(fields.access_token)],
    mintSign: 'generateAccessToken',
    halfAnswer: answer('200 OK', { access_token: subject, token_type: 'Bearer' }, 4096),
    busyAnswer: answer('429 Too Many Requests', { error: { code: 429, status: 'RESOURCE_EXHAUSTED', message: 'Quota exceeded' } }),
    log: () => google.requests.join('\n'),
    async stop() {
      await google.stop()
      await rm(folder, { recursive: true })
    },
  }
}

const atExpiry = "at-expiry: a service account's access token cannot be withdrawn before it ends"
const noTrace = 'an access token leaves no thing at Google that could be listed or deleted'
contract('gcp', start, {
  'after revoke it does not work, and nothing is left': atExpiry,
  'a session opened before the revoke is cut': atExpiry,
  'revoking twice is success': atExpiry,
  'revoking at once from four sides is success on each': atExpiry,
  'revoking before the mint is success': atExpiry,
  'revoking during the mint, and once more after its end, leaves nothing': atExpiry,
  'a mint that lost its answer leaves nothing after revoke': 'the answer is the only copy of the token, which ends by itself',
  'a mint that arrives after its end makes nothing': 'Google takes no deadline: a late answer reaches nobody, and its token ends by itself',
  'list finds exactly what this instance made': noTrace,
  'verify tells dead from alive': noTrace,
  'renew extends it, and revives nothing': 'a token cannot be extended: renewing mints a successor',
  'a handle that only the mint knows is not guessed, and its blind window is told':
    'what the audit log calls the mint is derived from the lease before it',
})
