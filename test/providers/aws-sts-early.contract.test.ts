import { randomBytes } from 'node:crypto'
import { awsSts } from '../../src/providers/aws-sts.js'
import type { Credential } from '../../src/providers/provider.js'
import { BUCKET, PREFIX, ROLE, sessionOf, startAws } from './aws-upstream.js'
import { contract } from './contract.js'
import type { Harness } from './harness.js'
import { openRegister } from './register.js'

/** What the fake takes until a change of a policy is in force: less than the residual that is told, which AWS gives no number for. */
const PROPAGATION_SECONDS = 2

async function start(): Promise<Harness> {
  const secret = randomBytes(20).toString('hex')
  const aws = await startAws(secret, { delays: { propagationMs: PROPAGATION_SECONDS * 1000 } })
  const { register, stop } = await openRegister()
  let later = 0
  const reads = (credential: Credential, key: string) => aws.authorize(sessionOf(credential), 's3:GetObject', `${BUCKET}/${key}`, Date.now() + later)
  const optionsAt = (port: number) => {
    const endpoint = `http://127.0.0.1:${port}`
    return { region: 'eu-central-1', endpoint, iam_endpoint: endpoint, early_revocation: true }
  }
  const busy = '<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>Rate exceeded</Message></Error></ErrorResponse>'
  const half = `<AssumeRoleResponse><AssumeRoleResult><Credentials><SecretAccessKey>${secret}</SecretAccessKey>`
  return {
    module: awsSts,
    upstream: 'fake',
    register,
    options: optionsAt(aws.port),
    params: {
      role_arn: ROLE,
      policy: { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: 's3:GetObject', Resource: `${BUCKET}/${PREFIX}/*` }] },
    },
    scope: { prefix: ['reports', 'bills'] },
    address: aws,
    optionsAt,
    brokerSecret: secret,
    works: async (credential) => reads(credential, 'reports/a'),
    async afterResidual() {
      // From here on AWS's clock is later by as much, so that sessions whose end has not come are told from denied ones.
      later = PROPAGATION_SECONDS * 1000
    },
    // What can still be used once all that was written is in force.
    made: async () =>
      aws.assumed
        .filter((session) => aws.authorize(session, 's3:GetObject', `${BUCKET}/reports/a`, Date.now() + PROPAGATION_SECONDS * 1000))
        .map(({ sessionName }) => sessionName),
    narrowing: {
      scope: { prefix: 'reports' },
      allows: async (credential) => reads(credential, 'reports/a'),
      denies: async (credential) => !reads(credential, 'bills/a'),
    },
    widening: [{}, { prefix: '*' }, { prefix: PREFIX }, { prefix: 'reports', policy: '{}' }],
    hostileParams: [{}, { role_arn: 'export' }, { role_arn: `${ROLE}\n` }, { role_arn: ROLE, policy: '{' }],
    refusedParams: [
      { role_arn: `${ROLE}-other` },
      // Another account's: IAM's calls would reach a role of the same name in the broker's own.
      { role_arn: ROLE.replace('111122223333', '444455556666') },
    ],
    secretsOf: ({ fields }) => [String(fields.secret_access_key), String(fields.session_token)],
    mintSign: 'AssumeRole',
    halfAnswer: `HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: ${half.length}\r\n\r\n${half}`,
    busyAnswer: `HTTP/1.1 400 Bad Request\r\nContent-Type: text/xml\r\nContent-Length: ${busy.length}\r\n\r\n${busy}`,
    async stop() {
      await aws.stop()
      await stop()
    },
  }
}

contract('aws-sts, early revocation', start, {
  'after its expiry it does not work':
    'revocation is deny-policy: that the expiry ends it too is shown by the other run, with the same session policy',
  'what cannot be taken back is not called revoked': 'revocation is deny-policy: what is called revoked is denied by the live policy of its AWS role',
  "the upstream's own expiry is set": 'revocation is deny-policy: the same session policy sets it, which the other run shows to the second',
  'a session opened before the revoke is cut': 'AWS has no sessions apart from the credential: each request is evaluated by itself',
  'list finds exactly what this instance made': 'an STS session leaves no thing at AWS that could be listed or deleted',
  'verify tells dead from alive': 'only a call with the credential itself would tell, and the broker keeps no credential',
  'renew extends it, and revives nothing': 'a session cannot be extended: renewing mints a successor',
  'a handle that only the mint knows is not guessed, and its blind window is told':
    'the name of the session is derived from the lease before the mint',
})
