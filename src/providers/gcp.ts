import { z } from 'zod'
import { deadline } from './deadline.js'
import { type Exchange, openExchange } from './exchange.js'
import { accessBoundary, boundaryOf, boundaryProblems, lasting } from './gcp/boundary.js'
import { createGoogle, type Google } from './gcp/google.js'
import { credentials, openSource, type Source } from './gcp/source.js'
import { upstreamName } from './name.js'
import { isSafeUrl } from './outbound.js'
import { type Credential, type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

const endpoint = z
  .string()
  .refine((text) => isSafeUrl(text, { allowHttpLoopback: true }), 'must be an https address without user, query and fragment (http on loopback)')
  .transform((text) => text.replace(/\/+$/, ''))
/** https://docs.cloud.google.com/docs/authentication/token-types: service account access tokens live 5 minutes to 12 hours. */
const LEAST_LIFE_SECONDS = 300
const MOST_LIFE_SECONDS = 3600
/** With constraints/iam.allowServiceAccountCredentialLifetimeExtension. */
const MOST_EXTENDED_SECONDS = 43_200
const LARGEST_ANSWER = 1_048_576
/** The end is judged by Google's own clock. */
const CLOCK_DIFFERENCE_SECONDS = 5

const options = z.strictObject({
  /** Text of a credentials file. Absent: Application Default Credentials, such as the platform's own identity. */
  credentials: credentials.optional(),
  /** Private Service Connect or another universe. */
  endpoints: z
    .strictObject({
      iamcredentials: endpoint.default('https://iamcredentials.googleapis.com'),
      sts: endpoint.default('https://sts.googleapis.com'),
    })
    .prefault({}),
})
type Options = z.infer<typeof options>
const email = z
  .string()
  .max(254)
  .regex(/^[a-z0-9][a-z0-9-]{0,62}@[a-z0-9-]+(\.[a-z0-9-]+)*\.gserviceaccount\.com$/, 'must be the e-mail address of a service account')
const params = z
  .strictObject({
    service_account: email,
    /** Service accounts between the broker and this one, each trusted by the next. */
    delegates: z.array(email).max(8).default([]),
    oauth_scopes: z
      .array(
        z
          .string()
          .regex(/^https:\/\/www\.googleapis\.com\/auth\/[a-z0-9._/-]{1,128}$/, 'must be as https://www.googleapis.com/auth/devstorage.read_only'),
      )
      .min(1)
      .max(16)
      .default(['https://www.googleapis.com/auth/cloud-platform']),
    access_boundary: accessBoundary.optional(),
    /** Written down: the token may do all that its service account may, within `oauth_scopes`. */
    whole: z.literal(true).optional(),
    /** True: its tokens may let others into a bucket or an object for longer than they live. */
    allow_lasting_access: z.boolean().default(false),
    /** The organisation policy lets this service account's tokens live for up to 12 hours. */
    extended_lifetime: z.boolean().default(false),
  })
  .refine(
    ({ access_boundary, whole }) => (access_boundary === undefined) !== (whole === undefined),
    'give access_boundary, or whole: true for all that the service account may do (services other than Cloud Storage know no boundary)',
  )
  .superRefine(({ access_boundary, allow_lasting_access: isAllowed }, context) => {
    if (isAllowed) return
    for (const role of lasting(access_boundary))
      context.addIssue(
        `access_boundary: ${role} can let others in for longer than the token lives; take one without setIamPolicy, as roles/storage.objectUser, or set allow_lasting_access if that is meant`,
      )
  })
type Params = z.infer<typeof params>
const handleShape = z.object({ service_account: z.string(), reason: z.string() })

/** A service account's access token for one lease, bounded to buckets and prefixes. `docs/providers/gcp.md`. */
export const gcp: ProviderModule<Options, Params> = {
  type: 'gcp',
  options,
  params,
  secrets: ['credentials'],
  checkRole: ({ access_boundary }, scope) => boundaryProblems(access_boundary, scope),
  escalates: ({ access_boundary }) => lasting(access_boundary).map((role) => `access_boundary: ${role} lets others in`),
  target: ({ endpoints }) => new URL(endpoints.iamcredentials).host,

  async open({ credentials, endpoints }, context) {
    const { timeoutMs } = context
    const source = await openSource(credentials, timeoutMs)
    const exchange = await openExchange({ timeoutMs, maxBytes: LARGEST_ANSWER })
    return provider(createGoogle(endpoints, exchange), source, exchange, context)
  },
}

function provider(google: Google, source: Source, exchange: Exchange, { instance, timeoutMs, now = Date.now }: ProviderContext): Provider<Params> {
  return {
    type: 'gcp',
    revocation: 'at-expiry',
    residualSeconds: CLOCK_DIFFERENCE_SECONDS,
    inProcess: false,
    handle: 'planned',
    shortestLifeSeconds: LEAST_LIFE_SECONDS,
    cutsSessions: false,
    sensitiveHandle: false,
    expiryEndsUse: true,

    plan: (lease, { service_account }) => ({ service_account, reason: upstreamName(instance, lease.id) }),

    async mint({ lease, handle, params, expiresAt, until, deadlineMs }) {
      const time = deadline(deadlineMs)
      const { service_account: account, reason } = handleShape.parse(handle)
      const { delegates, oauth_scopes: scopes, access_boundary, extended_lifetime: extended } = params
      const boundary = boundaryOf(access_boundary, lease.scope)
      // First, so that the life that is asked for is what is left when it is.
      const own = await source.headers(time)
      inTime(until, now())
      const seconds = Math.max(LEAST_LIFE_SECONDS, Math.floor((expiresAt - now()) / 1000))
      const most = extended ? MOST_EXTENDED_SECONDS : MOST_LIFE_SECONDS
      if (seconds > most)
        throw new ProviderError('invalid', `Google gives this service account's tokens at most ${most} s: lower max_ttl, or see extended_lifetime`)
      // Google takes no deadline. A late answer reaches only a caller that is gone, and its token ends by itself.
      const { token, end } = await google.impersonate(time, own, { account, delegates, scopes, seconds, reason })
      inTime(until, now())
      // A bounded token ends with the one it was made of.
      const bounded = boundary === undefined ? token : await google.downscope(time, token, boundary)
      const credential = credentialOf(account, bounded, new Date(Math.min(end, expiresAt)))
      return end > expiresAt ? { credential, usableUntil: end } : { credential, expiresAt: end }
    },

    async revoke() {
      throw new ProviderError('refused', "a service account's access token cannot be withdrawn: this one ends at its expiry")
    },

    async check(roles = []) {
      const own = await source.headers(deadline(timeoutMs))
      const asked = new Map(roles.map(({ params }) => [JSON.stringify([params.service_account, params.delegates, params.oauth_scopes]), params]))
      // Leaves nothing: the token goes nowhere and ends by itself.
      for (const { service_account: account, delegates, oauth_scopes: scopes } of asked.values())
        await google.impersonate(deadline(timeoutMs), own, {
          account,
          delegates,
          scopes,
          seconds: LEAST_LIFE_SECONDS,
          reason: `mf-${instance}-check`,
        })
    },

    close: () => exchange.close(),
  }
}

function inTime(until: number, now: number): void {
  if (until <= now) throw new ProviderError('timeout', 'the time for this mint was over before it was done')
}

function credentialOf(service_account: string, access_token: string, end: Date): Credential {
  return {
    type: 'gcp',
    fields: { access_token, token_type: 'Bearer', expires_at: end.toISOString(), service_account },
    // gcloud's and Terraform's names for it.
    env: { CLOUDSDK_AUTH_ACCESS_TOKEN: access_token, GOOGLE_OAUTH_ACCESS_TOKEN: access_token },
  }
}
