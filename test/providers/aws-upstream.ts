import { randomBytes } from 'node:crypto'
import { awsSts } from '../../src/providers/aws-sts.js'
import type { Credential, Provider, ProviderContext, Register } from '../../src/providers/provider.js'
import { type FakeAws, type FakeAwsOptions, type SessionCredential, startFakeAws } from './fake-aws.js'

export const ROLE = 'arn:aws:iam::111122223333:role/mayfly/export'
export const BUCKET = 'arn:aws:s3:::exports'
export const PREFIX = '$'.concat('{scope.prefix}')
export const POLICY_NAME = 'mayfly-revocations.contract.under-test'

/** A fake AWS with one role that may do everything with S3 and IAM, and the broker's own credentials where the SDK's default chain looks first. */
export async function startAws(secret = randomBytes(20).toString('hex'), more: Partial<FakeAwsOptions> = {}): Promise<FakeAws> {
  process.env.AWS_ACCESS_KEY_ID = 'AKIABROKER'
  process.env.AWS_SECRET_ACCESS_KEY = secret
  const policy = JSON.stringify({ Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: ['s3:*', 'iam:*', 'sts:*'], Resource: '*' }] })
  return startFakeAws({ accessKeyId: 'AKIABROKER', roles: { [ROLE]: { policy, maxSessionSeconds: 43_200 } }, ...more })
}

/** One broker's provider. */
export async function openBroker(
  aws: FakeAws,
  register: Register | undefined,
  context: Partial<ProviderContext> = {},
  options: object = {},
): Promise<Provider> {
  const { endpoint } = aws
  const parsed = awsSts.options.parse({ region: 'eu-central-1', endpoint, iam_endpoint: endpoint, early_revocation: true, ...options })
  return awsSts.open(parsed, { name: 'under-test', instance: 'contract', timeoutMs: 5000, concurrency: 4, register, ...context })
}

export function sessionOf({ env }: Credential): SessionCredential {
  return {
    accessKeyId: env.AWS_ACCESS_KEY_ID ?? '',
    secretAccessKey: env.AWS_SECRET_ACCESS_KEY ?? '',
    sessionToken: env.AWS_SESSION_TOKEN ?? '',
  }
}

/** Writes an inline policy with other eyes than the broker's. */
export async function put(aws: FakeAws, PolicyDocument: string, PolicyName = POLICY_NAME): Promise<void> {
  const { IAMClient, PutRolePolicyCommand } = await import('@aws-sdk/client-iam')
  const client = new IAMClient({ region: 'eu-central-1', endpoint: aws.endpoint, maxAttempts: 1 })
  await client.send(new PutRolePolicyCommand({ RoleName: 'export', PolicyName, PolicyDocument }))
  client.destroy()
}
