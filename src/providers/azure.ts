import { z } from 'zod'
import { askForToken, type Entra } from './azure/entra.js'
import { opensKeyVaults } from './azure/key-vaults.js'
import { deadline, within } from './deadline.js'
import { duration } from './duration.js'
import { openExchange } from './exchange.js'
import { upstreamName } from './name.js'
import { type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

const LOOPBACK = /^(localhost|127\.0\.0\.1|\[::1\])$/
const options = z.strictObject({
  /** Directory (tenant) id. */
  tenant: z.guid('must be the id of a directory (tenant)'),
  /** `sub` of the federated identity credential: Entra compares it letter by letter. */
  subject: z.string().regex(/^[\x21-\x7e]{1,600}$/, 'must be 1 to 600 visible characters, as in the federated credential'),
  /** `aud` of the federated identity credential; sovereign clouds have their own. */
  audience: z
    .string()
    .regex(/^[\x21-\x7e]{1,600}$/)
    .default('api://AzureADTokenExchange'),
  authority: z
    .url({ protocol: /^https?$/ })
    .refine((text) => /^https?:\/\/[^/?#@]+\/?$/.test(text), 'must be the origin alone, as https://login.microsoftonline.us')
    .refine((text) => text.startsWith('https:') || LOOPBACK.test(new URL(text).hostname), 'must be https')
    .default('https://login.microsoftonline.com')
    .transform((text) => new URL(text).origin),
  /** Longest that Entra's access tokens live, unless a token lifetime policy says otherwise. */
  token_lifetime: duration(600, 90_000).default(5400),
})
const scope = z
  .string()
  .max(512)
  .regex(
    /^(?:(?:https|api):\/\/[A-Za-z0-9][A-Za-z0-9._:-]*(?:\/[A-Za-z0-9._~-]*)*|[0-9a-fA-F-]{36})\/\.default$/,
    'must be one resource with "/.default" at its end',
  )
const params = z.strictObject({
  /** Application (client) id. */
  client_id: z.guid('must be the client id of an application'),
  /** What a lease may be for: one of these. */
  scopes: z.array(scope).min(1).max(20),
  /** Name of the environment variable that holds the token. */
  env: z
    .string()
    .regex(/^[A-Z_][A-Z0-9_]{0,63}$/, 'must be the name of an environment variable')
    .default('AZURE_ACCESS_TOKEN'),
})
type Options = z.infer<typeof options>
type Params = z.infer<typeof params>

/** What resource servers grant past `exp`: TokenValidationParameters.DefaultClockSkew of Microsoft's own validation library. */
const VERIFIER_LEEWAY_SECONDS = 300
/** A token has some kilobytes, a large set of roles in it some more. */
const MAX_ANSWER_BYTES = 262_144

/** An access token of Entra ID for one application and one resource, got with an assertion that Mayfly signs. `docs/providers/azure.md`. */
export const azure: ProviderModule<Options, Params> = {
  type: 'azure',
  options,
  params,
  needs: ['signing'],
  checkRole: ({ scopes }, asked) => [
    ...Object.entries(asked)
      .filter(([key, kind]) => key !== 'scope' || kind !== 'equal')
      .map(
        ([key, kind]) => `scope.${key}: ${kind} narrows nothing here; an azure role may have scope {scope: equal}, which picks one of params.scopes`,
      ),
    ...(scopes.length > 1 && asked.scope === undefined
      ? ['params.scopes: a token is for one resource; with several, the role needs scope {scope: equal}']
      : []),
    ...(new Set(scopes).size < scopes.length ? ['params.scopes: names one twice'] : []),
  ],
  escalates: ({ scopes }) => scopes.filter(opensKeyVaults).map((one) => `params.scopes: ${one} opens key vaults`),
  target: ({ authority, tenant }) => `${authority}/${tenant}`,

  async open(options, context) {
    const { signer, now = Date.now } = context
    if (!signer) throw new ProviderError('invalid', `provider "${context.name}" signs assertions: the configuration needs "signing"`)
    const msal = await import('@azure/msal-node')
    const exchange = await openExchange({ timeoutMs: context.timeoutMs, maxBytes: MAX_ANSWER_BYTES })
    return provider({ ...options, msal, exchange, signer, now }, options, context)
  },
}

function provider(entra: Entra, { token_lifetime: longest }: Options, { instance, timeoutMs, now = Date.now }: ProviderContext): Provider<Params> {
  return {
    type: 'azure',
    revocation: 'at-expiry',
    residualSeconds: VERIFIER_LEEWAY_SECONDS,
    inProcess: false,
    handle: 'planned',
    // Entra picks a life at random; the longest that it may pick is what a lease must be ready for.
    shortestLifeSeconds: longest,
    cutsSessions: false,
    sensitiveHandle: false,
    expiryEndsUse: true,

    plan(lease) {
      // Only for what it refuses: nothing at Entra has a name of ours.
      upstreamName(instance, lease.id)
      return {}
    },

    async mint({ lease, params, expiresAt, until, deadlineMs }) {
      const time = deadline(deadlineMs)
      const ahead = until - deadlineMs - Date.now()
      // Entra takes no deadline. A late answer reaches nobody, and there is no second copy of it.
      if (until <= now()) throw new ProviderError('timeout', 'the time for this mint was over before it began')
      const { client_id: clientId, env } = params
      const scope = picked(params, lease.scope)
      const { token, expiresOn } = await within(time, (signal) => askForToken(entra, { clientId, scope, id: lease.id, signal }))
      // On the ledger's clock, and not a moment too early: `exp` has whole seconds.
      const usableUntil = Math.ceil((expiresOn + ahead) / 1000) * 1000
      // MSAL rounds to the second.
      if (expiresOn - Date.now() > (longest + 1) * 1000)
        throw new ProviderError(
          'invalid',
          'the tokens of this application live longer than token_lifetime says: raise it, or shorten them by a policy',
        )
      const fields = { access_token: token, token_type: 'Bearer', expires_on: Math.floor(expiresOn / 1000), scope, client_id: clientId }
      return {
        credential: { type: 'azure', fields, env: { [env]: token } },
        ...(usableUntil > expiresAt ? { usableUntil } : { expiresAt: Math.floor(expiresOn + ahead) }),
      }
    },

    async revoke() {
      throw new ProviderError('refused', 'access tokens of Entra ID cannot be withdrawn: this one ends by itself')
    },

    async check(roles = []) {
      const time = deadline(timeoutMs)
      await within(time, (signal) => checkTenant(entra, signal))
      // What comes is dropped here, and nobody else has it.
      const asked = new Map(
        roles.flatMap(({ params }) => params.scopes.map((scope) => [`${params.client_id} ${scope}`, { clientId: params.client_id, scope }])),
      )
      for (const [, { clientId, scope }] of asked)
        await within(deadline(timeoutMs), (signal) => askForToken(entra, { clientId, scope, id: 'check', signal }))
    },

    close: () => entra.exchange.close(),
  }
}

/** The one scope that a token is for: the role's only one, or the one of them that the request names, letter by letter. */
function picked({ scopes }: Params, asked: Readonly<Record<string, unknown>>): string {
  if (Object.keys(asked).some((key) => key !== 'scope')) throw new ProviderError('invalid', 'the scope has a key that the role does not use')
  const [only, ...others] = scopes
  const wanted = asked.scope ?? (others.length === 0 ? only : undefined)
  const found = scopes.find((one) => one === wanted)
  if (found === undefined) throw new ProviderError('invalid', 'this role needs a scope: "scope", one of those that the role lists')
  return found
}

const discovery = z.object({ token_endpoint: z.string() })
/** That the authority knows the tenant, and takes tokens where they are asked for. */
async function checkTenant({ authority, tenant, exchange }: Entra, signal: AbortSignal): Promise<void> {
  const { status, body } = await exchange.send({ url: `${authority}/${tenant}/v2.0/.well-known/openid-configuration`, method: 'GET', signal })
  if (status === 429) throw new ProviderError('throttled', 'Entra ID is throttling')
  const answer = status === 200 ? discovery.safeParse(json(body)) : undefined
  if (answer?.data?.token_endpoint !== `${authority}/${tenant}/oauth2/v2.0/token`)
    throw new ProviderError(
      status === 400 || status === 404 ? 'refused' : 'broken',
      'this authority does not know the tenant, or is not Entra ID: check authority and tenant',
    )
}

function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
