import type { AssumeRoleCommandInput, STSClient } from '@aws-sdk/client-sts'
import { z } from 'zod'
import { asProviderError } from './aws-sts/error.js'
import { policyDocument, policyProblems, sessionPolicy } from './aws-sts/policy.js'
import { deadline, within } from './deadline.js'
import { upstreamName } from './name.js'
import { type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

const options = z.strictObject({
  region: z.string().regex(/^[a-z0-9-]{4,32}$/, 'must be a region as eu-central-1'),
  /** An STS endpoint of its own: a VPC endpoint, or what tests talk to. */
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
})
const params = z.strictObject({
  role_arn: z.string().regex(/^arn:aws[a-z-]*:iam::\d{12}:role\/[\w+=,.@/-]{1,577}$/, 'must be the ARN of a role'),
  /** What the role may do for one lease, with `${scope.…}` where a request narrows. */
  policy: policyDocument.optional(),
  external_id: z
    .string()
    .regex(/^[\w+=,.@:/-]{2,1224}$/)
    .optional(),
  /** True: the session may use iam:* and sts:AssumeRole, and so make what outlives the lease. */
  allow_iam: z.boolean().default(false),
})
type Options = z.infer<typeof options>
type Params = z.infer<typeof params>
const handleShape = z.object({ role_arn: z.string(), session: z.string() })

/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html: `DurationSeconds`. */
const MIN_DURATION_SECONDS = 900
const MAX_DURATION_SECONDS = 43_200
/** The SDK would wait between attempts, for longer than a mint may take: the caller is told at once, and knows whether to come again. */
const ATTEMPTS = 1
/** The deny takes hold by AWS's own clock. */
const CLOCK_DIFFERENCE_SECONDS = 5

/** A session of an AWS role for one lease, cut to its expiry by a session policy. `docs/providers/aws-sts.md`. */
export const awsSts: ProviderModule<Options, Params> = {
  type: 'aws-sts',
  options,
  params,
  checkRole: ({ policy, allow_iam: allowIam }, scope) => policyProblems({ policy, allowIam }, scope),
  target: ({ region, endpoint }) => endpoint ?? region,

  async open(options, context) {
    const sdk = await import('@aws-sdk/client-sts')
    const { timeoutMs } = context
    // Credentials: the SDK's default chain (environment, files, the platform's identity).
    const client = new sdk.STSClient({
      ...options,
      maxAttempts: ATTEMPTS,
      requestHandler: { connectionTimeout: timeoutMs, requestTimeout: timeoutMs, throwOnRequestTimeout: true },
    })
    return provider(sdk, client, options, context)
  },
}

function provider(
  sdk: typeof import('@aws-sdk/client-sts'),
  client: STSClient,
  options: Options,
  { instance, timeoutMs }: ProviderContext,
): Provider<Params> {
  return {
    type: 'aws-sts',
    revocation: 'at-expiry',
    residualSeconds: CLOCK_DIFFERENCE_SECONDS,
    inProcess: false,
    handle: 'planned',
    cutsSessions: false,
    sensitiveHandle: false,
    expiryEndsUse: true,

    plan(lease, { role_arn }) {
      // Only for what it refuses: a session is named after its lease.
      upstreamName(instance, lease.id)
      return { role_arn, session: lease.id }
    },

    async mint({ lease, handle, params, issuedAt, expiresAt, until, deadlineMs }) {
      const time = deadline(deadlineMs)
      // STS takes no deadline. A late answer reaches only a caller that is gone, and what it holds dies with the lease by its policy.
      if (until <= Date.now()) throw new ProviderError('timeout', 'the time for this mint was over before it began')
      const { role_arn, session } = handleShape.parse(handle)
      const { policy, allow_iam: allowIam, external_id } = params
      const input: AssumeRoleCommandInput = {
        RoleArn: role_arn,
        RoleSessionName: session,
        SourceIdentity: lease.task,
        Tags: [{ Key: 'mayfly-lease', Value: lease.id }],
        TransitiveTagKeys: ['mayfly-lease'],
        Policy: sessionPolicy({ policy, allowIam }, lease.scope, expiresAt),
        DurationSeconds: Math.min(Math.max(Math.ceil((expiresAt - issuedAt) / 1000), MIN_DURATION_SECONDS), MAX_DURATION_SECONDS),
        ExternalId: external_id,
      }
      const { Credentials: made } = await within(time, (abortSignal) => client.send(new sdk.AssumeRoleCommand(input), { abortSignal })).catch(
        (error: unknown) => {
          throw asProviderError(error)
        },
      )
      const { AccessKeyId: id, SecretAccessKey: secret, SessionToken: token, Expiration: end } = made ?? {}
      if (id === undefined || secret === undefined || token === undefined || end === undefined)
        throw new ProviderError('broken', 'AWS answered without credentials')
      const expiry = Math.min(expiresAt, end.getTime())
      return { credential: credentialOf(options.region, id, secret, token, new Date(expiry)), expiresAt: expiry }
    },

    async revoke() {
      throw new ProviderError('refused', 'sessions of STS cannot be withdrawn: this one ends with its lease, by its session policy')
    },

    async check() {
      await within(deadline(timeoutMs), (abortSignal) => client.send(new sdk.GetCallerIdentityCommand({}), { abortSignal })).catch(
        (error: unknown) => {
          throw asProviderError(error)
        },
      )
    },

    async close() {
      client.destroy()
    },
  }
}

function credentialOf(region: string, access_key_id: string, secret_access_key: string, session_token: string, end: Date) {
  const expiration = end.toISOString()
  return {
    type: 'aws-sts',
    fields: { access_key_id, secret_access_key, session_token, expiration, region },
    env: {
      AWS_ACCESS_KEY_ID: access_key_id,
      AWS_SECRET_ACCESS_KEY: secret_access_key,
      AWS_SESSION_TOKEN: session_token,
      AWS_CREDENTIAL_EXPIRATION: expiration,
      AWS_REGION: region,
      AWS_DEFAULT_REGION: region,
    },
  }
}
