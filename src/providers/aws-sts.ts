import { setTimeout as pause } from 'node:timers/promises'
import { z } from 'zod'
import { MAX_INLINE_CHARACTERS, patternOf } from './aws-sts/document.js'
import { escalations } from './aws-sts/escalation.js'
import { type Iam, openIam } from './aws-sts/iam.js'
import { policyDocument, policyProblems, sessionPolicy } from './aws-sts/policy.js'
import { openRevocations, type Revocations, roleNameOf } from './aws-sts/revocations.js'
import { openSts, type Session, type Sts } from './aws-sts/sts.js'
import { type Deadline, deadline, within } from './deadline.js'
import { upstreamName } from './name.js'
import { type LeasePlan, type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

const options = z.strictObject({
  region: z.string().regex(/^[a-z0-9-]{4,32}$/, 'must be a region as eu-central-1'),
  /** An STS endpoint of its own: a VPC endpoint, or what tests talk to. */
  endpoint: z.url({ protocol: /^https?$/ }).optional(),
  /** Sessions are denied before their end, by an inline policy of their AWS role: the broker then needs iam:PutRolePolicy. */
  early_revocation: z.boolean().default(false),
  iam_endpoint: z.url({ protocol: /^https?$/ }).optional(),
  /**
   * Seconds until a change in IAM is taken to hold everywhere: the residual of an early revoke. AWS says "a few minutes":
   * https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_disable-perms.html
   */
  propagation: z.int().min(1).max(3600).default(300),
  /** Characters of a role's inline policies that revocations may take. */
  policy_budget: z.int().min(1000).max(MAX_INLINE_CHARACTERS).default(MAX_INLINE_CHARACTERS),
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
const ofRole = z.object({ role_arn: z.string() })
type Options = z.infer<typeof options>
type Params = z.infer<typeof params>
/** `task` is not in handles that were made before early revocation was known. */
const handleShape = z.object({ role_arn: z.string(), session: z.string(), task: z.string().optional() })

/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html: `DurationSeconds`. */
const MIN_DURATION_SECONDS = 900
const MAX_DURATION_SECONDS = 43_200
/** The deny takes hold by AWS's own clock. */
const CLOCK_DIFFERENCE_SECONDS = 5
/** Revokes of one role share a rewrite of its policy. */
const REVOKES_AT_ONCE = 1000
const LOOK_MS = 30_000

/** A session of an AWS role for one lease, cut to its expiry by a session policy. `docs/providers/aws-sts.md`. */
export const awsSts: ProviderModule<Options, Params> = {
  type: 'aws-sts',
  options,
  params,
  checkRole: ({ policy, allow_iam: allowIam }, scope, options) => policyProblems({ policy, allowIam }, scope, options.early_revocation),
  escalates: escalations,
  target: ({ region, endpoint }) => endpoint ?? region,

  async open(options, context) {
    const { region, endpoint, iam_endpoint, early_revocation, policy_budget: budget } = options
    const { instance, name, timeoutMs, register, now = Date.now } = context
    const sts = await openSts({ region, endpoint }, timeoutMs)
    const account = accountOf(sts, timeoutMs)
    if (!early_revocation) return provider(options, context, sts, account)
    // No two brokers that don't share a ledger write one policy: neither has dots in its name.
    const iam = await openIam({ region, endpoint: iam_endpoint }, timeoutMs, `mayfly-revocations.${instance}.${name}`)
    const owns = account.owns
    const tell = (what: string, detail: Readonly<Record<string, unknown>>) => {
      context.tell?.(what, detail)
      // Their sessions are denied by now: leases that are called active would say otherwise.
      if (what === 'aws_role_closed') context.withdraw?.(what, (role) => ofRole.safeParse(role).data?.role_arn === detail.aws_role)
    }
    return provider(options, context, sts, account, {
      iam,
      ...openRevocations({ iam, register, owns, budget, timeoutMs, now, tell, lookMs: LOOK_MS }),
    })
  },
}

function provider(
  { region, propagation }: Options,
  { instance, timeoutMs, now = Date.now }: ProviderContext,
  sts: Sts,
  account: Account,
  early?: Revocations & { readonly iam: Iam },
): Provider<Params> {
  return {
    type: 'aws-sts',
    revocation: early ? 'deny-policy' : 'at-expiry',
    residualSeconds: Math.max(CLOCK_DIFFERENCE_SECONDS, early ? propagation : 0),
    inProcess: false,
    handle: 'planned',
    cutsSessions: false,
    sensitiveHandle: false,
    expiryEndsUse: true,
    ...(early ? { revokesAtOnce: REVOKES_AT_ONCE } : {}),

    plan(lease, { role_arn }) {
      // Only for what it refuses: a session is named after its lease.
      upstreamName(instance, lease.id)
      return { role_arn, session: lease.id, task: lease.task }
    },

    async mint({ lease, handle, params, issuedAt, expiresAt, until, deadlineMs }) {
      const time = deadline(deadlineMs)
      // STS takes no deadline.
      if (until <= now()) throw new ProviderError('timeout', 'the time for this mint was over before it began')
      const { role_arn, session } = handleShape.parse(handle)
      const { policy, allow_iam: allowIam, external_id } = params
      const tags = tagsOf(lease)
      const input = {
        RoleArn: role_arn,
        RoleSessionName: session,
        SourceIdentity: lease.task,
        Tags: tags,
        TransitiveTagKeys: tags.map(({ Key }) => Key),
        // A late answer reaches only a caller that is gone. Where sessions are denied early, such a one is so from the start.
        Policy: sessionPolicy({ policy, allowIam }, lease.scope, { expiresAt, ...(early ? { mintUntil: until } : {}) }),
        DurationSeconds: Math.min(Math.max(Math.ceil((expiresAt - issuedAt) / 1000), MIN_DURATION_SECONDS), MAX_DURATION_SECONDS),
        ExternalId: external_id,
      }
      // What could not be denied early is not made.
      if (early) await within(time, () => account.owns(role_arn, false))
      const assume = async () => {
        const made = await sts.assume(input, time)
        if (early && made.issuedAt >= Math.floor(until / 1000) * 1000)
          throw new ProviderError(
            'timeout',
            "by AWS's clock the session came after the end of this mint: it was too slow, or the ledger's clock is wrong",
          )
        return made
      }
      const made = early ? await younger(early, role_arn, assume, time) : await assume()
      const expiry = Math.min(expiresAt, made.expiresAt)
      return { credential: credentialOf(region, made, new Date(expiry)), expiresAt: expiry }
    },

    async revoke(handle, deadlineMs, about) {
      if (!early) throw new ProviderError('refused', 'sessions of STS cannot be withdrawn: this one ends with its lease, by its session policy')
      const { role_arn, session, task } = handleShape.parse(handle)
      const until = about?.usableUntil ?? now() + MAX_DURATION_SECONDS * 1000
      const ofTask = about?.taskEnded && task !== undefined ? patternOf(task) : undefined
      const pattern = ofTask ?? patternOf(session)
      if (pattern === undefined) throw new ProviderError('invalid', 'this is no handle of a session')
      const asked = { kind: ofTask === undefined ? 'lease' : 'task', pattern, until, mintedBy: about?.mintedBy } as const
      return within(deadline(deadlineMs), (signal) => early.add(role_arn, asked, signal))
    },

    async check(roles = []) {
      await account.ask()
      if (!early) return
      for (const role of new Set(roles.map(({ params }) => params.role_arn))) {
        await account.owns(role, false)
        await early.iam.check(roleNameOf(role), timeoutMs)
      }
    },

    async close() {
      await early?.close()
      early?.iam.close()
      sts.close()
    },
  }
}

/** https://docs.aws.amazon.com/STS/latest/APIReference/API_Tag.html: another value could be taken for somebody else's name. */
const TAG_VALUE = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]{1,256}$/u

function tagsOf({ id, human }: LeasePlan): { Key: string; Value: string }[] {
  const lease = { Key: 'mayfly-lease', Value: id }
  return human !== undefined && TAG_VALUE.test(human) ? [lease, { Key: 'mayfly-human', Value: human }] : [lease]
}

/** A session that is younger than what its role is closed to: the first one may have been issued in the second of the closing. */
async function younger(early: Revocations, role: string, assume: () => Promise<Session>, time: Deadline): Promise<Session> {
  for (;;) {
    const made = await assume()
    const closed = await early.closedBefore(role)
    if (closed === undefined || made.issuedAt > closed) return made
    const wait = closed - made.issuedAt + 1000
    if (wait >= time.left())
      throw new ProviderError('throttled', `this AWS role is being closed to older sessions: come again in ${Math.ceil(wait / 1000)} s`)
    await pause(wait)
  }
}

interface Account {
  ask(): Promise<string>
  /** Throws unless the role is of this account, which is the only one that IAM's calls reach. */
  owns(role: string, isAsked: boolean): Promise<void>
}
function accountOf(sts: Sts, timeoutMs: number): Account {
  let known: Promise<string> | undefined
  const ask = () => {
    const asked = sts.account(deadline(timeoutMs))
    // One question for all who wait; an error is nobody's answer but theirs.
    known = asked
    asked.catch(() => {
      if (known === asked) known = undefined
    })
    return asked
  }
  return {
    ask,
    async owns(role, isAsked) {
      const own = await (isAsked ? ask() : (known ?? ask()))
      if (role.split(':')[4] !== own)
        throw new ProviderError('invalid', "early revocation needs the AWS role to be of the broker's own AWS account: see docs/providers/aws-sts.md")
    },
  }
}

function credentialOf(region: string, { id: access_key_id, secret: secret_access_key, token: session_token }: Session, end: Date) {
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
