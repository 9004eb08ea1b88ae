import { randomBytes } from 'node:crypto'
import { awsSts } from '../../src/providers/aws-sts.js'
import type { Credential } from '../../src/providers/provider.js'
import { contract } from './contract.js'
import { type SessionCredential, startFakeAws } from './fake-aws.js'
import type { Harness } from './harness.js'

const ROLE = 'arn:aws:iam::111122223333:role/export'
const BUCKET = 'arn:aws:s3:::exports'
const PREFIX = '$'.concat('{scope.prefix}')

const allow = (Resource: unknown, Action: unknown = ['s3:GetObject']) => ({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Action, Resource }],
})
const sessionOf = ({ env }: Credential): SessionCredential => ({
  accessKeyId: env.AWS_ACCESS_KEY_ID ?? '',
  secretAccessKey: env.AWS_SECRET_ACCESS_KEY ?? '',
  sessionToken: env.AWS_SESSION_TOKEN ?? '',
})

async function start(): Promise<Harness> {
  const secret = randomBytes(20).toString('hex')
  // The SDK's default chain looks here first.
  process.env.AWS_ACCESS_KEY_ID = 'AKIABROKER'
  process.env.AWS_SECRET_ACCESS_KEY = secret
  const wide = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: ['s3:*', 'iam:*', 'sts:*'], Resource: '*' }] })
  const aws = await startFakeAws({ accessKeyId: 'AKIABROKER', roles: { [ROLE]: { policy: wide } } })
  const reads = (credential: Credential, key: string, at?: number) => aws.authorize(sessionOf(credential), 's3:GetObject', `${BUCKET}/${key}`, at)
  const half = `<AssumeRoleResponse><AssumeRoleResult><Credentials><SecretAccessKey>${secret}</SecretAccessKey>`
  const busy = '<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>'
  return {
    module: awsSts,
    upstream: 'fake',
    options: { region: 'eu-central-1', endpoint: aws.endpoint },
    params: { role_arn: ROLE, policy: allow(`${BUCKET}/${PREFIX}/*`) },
    scope: { prefix: ['reports', 'bills'] },
    address: aws,
    optionsAt: (port) => ({ region: 'eu-central-1', endpoint: `http://127.0.0.1:${port}` }),
    brokerSecret: secret,
    works: async (credential, at) => reads(credential, 'reports/a', at),
    made: async () => aws.assumed.map(({ sessionName }) => sessionName),
    async expiry(credential) {
      // The last second at which AWS still says yes.
      const from = Date.now()
      const last = Array.from({ length: 120 }, (_, second) => Math.floor(from / 1000 + second) * 1000).filter((at) =>
        reads(credential, 'reports/a', at),
      )
      return last.at(-1)
    },
    narrowing: {
      scope: { prefix: 'reports' },
      allows: async (credential) => reads(credential, 'reports/a'),
      denies: async (credential) => !reads(credential, 'bills/a'),
    },
    widening: [
      {},
      { prefix: [] },
      { prefix: '' },
      { prefix: '*' },
      { prefix: 'report?' },
      { prefix: ['reports', '*'] },
      { prefix: PREFIX },
      { prefix: '$'.concat('{*}') },
      { prefix: 'a\nb' },
      { prefix: 'x'.repeat(10_240) },
      { prefix: Array.from({ length: 100 }, (_, index) => `prefix-${index}`) },
      { prefix: 'reports', policy: '{}' },
    ],
    hostileParams: [
      {},
      { role_arn: 'export' },
      { role_arn: `${ROLE}\n` },
      { role_arn: 'arn:aws:iam::111122223333:user/root' },
      { role_arn: ROLE, policy: '{' },
      { role_arn: ROLE, policy: { Version: '2008-10-17', Statement: [] } },
      { role_arn: ROLE, policy: { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: '*', Action: '*', Resource: '*' }] } },
      { role_arn: ROLE, policy: allow(`${BUCKET}/${PREFIX}/*`) },
      { role_arn: ROLE, policy: allow(`${BUCKET}/${'a'.repeat(2048)}`) },
      { role_arn: ROLE, external_id: 'a b' },
      { role_arn: ROLE, duration: 43_200 },
    ],
    refusedParams: [{ role_arn: `${ROLE}-other` }, { role_arn: ROLE, policy: allow('not-an-arn') }],
    secretsOf: ({ fields }) => [String(fields.secret_access_key), String(fields.session_token)],
    mintSign: 'AssumeRole',
    halfAnswer: `HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: ${half.length}\r\n\r\n${half}`,
    busyAnswer: `HTTP/1.1 400 Bad Request\r\nContent-Type: text/xml\r\nContent-Length: ${busy.length}\r\n\r\n${busy}`,
    stop: () => aws.stop(),
  }
}

const atExpiry = 'at-expiry: a session of STS cannot be withdrawn before it ends'
const noTrace = 'an STS session leaves no thing at AWS that could be listed or deleted'
contract('aws-sts, at expiry', start, {
  'after revoke it does not work, and nothing is left': atExpiry,
  'a session opened before the revoke is cut': atExpiry,
  'revoking twice is success': atExpiry,
  'revoking at once from four sides is success on each': atExpiry,
  'revoking before the mint is success': atExpiry,
  'revoking during the mint, and once more after its end, leaves nothing': atExpiry,
  'a mint that lost its answer leaves nothing after revoke': 'the answer is the only copy of the credential, and its policy ends it with the lease',
  'a mint that arrives after its end makes nothing': 'STS takes no deadline: a late answer reaches nobody, and its policy ends it with the lease',
  'list finds exactly what this instance made': noTrace,
  'verify tells dead from alive': noTrace,
  'renew extends it, and revives nothing': 'a session cannot be extended: renewing mints a successor',
  'a handle that only the mint knows is not guessed, and its blind window is told':
    'the name of the session is derived from the lease before the mint',
})
