import { z } from 'zod'
import { deadline, within } from './deadline.js'
import { judge } from './github-app/answer.js'
import { type Created, type GitHub, type Installation, normalKey, openGitHub, tokenText } from './github-app/client.js'
import { credentialOf } from './github-app/credential.js'
import { beyond, escalations } from './github-app/permissions.js'
import { checkScope, narrow, type Params, params } from './github-app/role.js'
import { LATE_MS, openGiveBack } from './give-back.js'
import { upstreamName } from './name.js'
import { isSafeUrl, openOutbound } from './outbound.js'
import { type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

const options = z.strictObject({
  /** Its number, or its client id. */
  app_id: z.union([z.int().positive(), z.string().regex(/^(\d{1,15}|Iv[\w.]{4,60})$/, 'must be the number or the client id of the app')]),
  /** PEM as GitHub gives it out. */
  private_key: z.string().refine(isKey, 'must be the private RSA key of the app, as PEM'),
  api_url: z
    .string()
    .refine(
      (text) => isSafeUrl(text, { allowHttpLoopback: true }),
      'must be https (http for a loopback address), without credentials, query or fragment',
    )
    .default('https://api.github.com')
    .transform((url) => url.replace(/\/+$/, '')),
})
type Options = z.infer<typeof options>
const handleShape = z.object({ token: tokenText })

/** https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app: one hour, always. */
const LIFE_SECONDS = 3600
/** Between GitHub's clock and the broker's. */
const CLOCK_MARGIN_SECONDS = 60

/** An installation token of a GitHub App, narrowed to repositories and permissions. `docs/providers/github-app.md`. */
export const githubApp: ProviderModule<Options, Params> = {
  type: 'github-app',
  options,
  params,
  needs: ['sealing'],
  secrets: ['private_key'],
  checkRole: (_params, scope) => checkScope(scope),
  escalates: ({ permissions }) => escalations(permissions),
  target: ({ api_url, app_id }) => `${api_url} app ${app_id}`,

  async open(options, context) {
    const outbound = await openOutbound(context.timeoutMs + LATE_MS)
    const { api_url: apiUrl, app_id: appId, private_key: privateKey } = options
    return provider(options, context, await openGitHub({ apiUrl, appId, privateKey }, outbound), outbound.close)
  },
}

function provider(
  options: Options,
  { instance, timeoutMs, now = Date.now }: ProviderContext,
  github: GitHub,
  close: () => Promise<void>,
): Provider<Params> {
  const installations = new Map<string, number>()
  const lateMints = openGiveBack(({ token }: Created) => within(deadline(timeoutMs), (signal) => github.revokeToken(token, signal)))

  const installationOf = async ({ installation, owner = '' }: Params, signal: AbortSignal): Promise<number> => {
    const id = installation ?? installations.get(owner) ?? (await github.installation({ owner }, signal)).id
    if (installation === undefined) installations.set(owner, id)
    return id
  }

  return {
    type: 'github-app',
    revocation: 'immediate',
    residualSeconds: 0,
    inProcess: false,
    handle: 'returned',
    blindWindowSeconds: LIFE_SECONDS + CLOCK_MARGIN_SECONDS,
    shortestLifeSeconds: LIFE_SECONDS,
    cutsSessions: false,
    // Whoever has the token may use it, and only the token can revoke itself.
    sensitiveHandle: true,
    expiryEndsUse: true,

    plan(lease) {
      // Only for what it refuses: nothing at GitHub has a name.
      upstreamName(instance, lease.id)
      return {}
    },

    async mint({ lease, params, expiresAt, until, deadlineMs }) {
      const asked = narrow(params, lease.scope)
      const left = Math.min(deadlineMs, until - now())
      if (left <= 0) throw new ProviderError('timeout', 'the time for this mint was over before it began')
      const time = deadline(left)
      const made = await lateMints.mint(time, async (signal) => {
        const id = await installationOf(params, signal)
        // Not what nobody waits for any more.
        time.left()
        return github.createToken(id, asked, signal).catch((error: unknown) => {
          // It may have been installed anew, under another number.
          if (params.owner !== undefined) installations.delete(params.owner)
          throw error
        })
      })
      const granted = judge(made.answer, asked, params.owner, now() + (LIFE_SECONDS + CLOCK_MARGIN_SECONDS) * 1000)
      if (typeof granted === 'string') {
        // Only where it is gone has nothing been made.
        const isGone = await within(time, () => lateMints.now(made)).catch(() => false)
        if (isGone) throw new ProviderError('refused', `${granted}; it was given back at once`)
        throw new ProviderError('broken', `${granted}; it could not be given back yet`)
      }
      const end = granted.expiresAt
      const times = end < expiresAt ? { expiresAt: end } : { usableUntil: end }
      return { credential: credentialOf(options.api_url, made.token, granted), handle: { token: made.token }, ...times }
    },

    async revoke(handle, deadlineMs) {
      const token = tokenOf(handle)
      return within(deadline(deadlineMs), (signal) => github.revokeToken(token, signal))
    },

    async verify(handle, deadlineMs) {
      const token = tokenOf(handle)
      return within(deadline(deadlineMs), (signal) => github.probe(token, signal))
    },

    async check(roles = []) {
      const time = deadline(timeoutMs)
      const { id, client_id } = await within(time, (signal) => github.app(signal))
      const found = new Map<string, Promise<Installation>>()
      const wrong = await Promise.all(
        roles.map(async ({ name, params }) => {
          const key = `${params.installation} ${params.owner}`
          const asked = found.get(key) ?? within(time, (signal) => github.installation(params, signal))
          found.set(key, asked)
          return problemsOf(name, params, await asked)
        }),
      )
      const all = [
        ...([String(id), client_id].includes(String(options.app_id)) ? [] : ['GitHub takes the key for that of another app: check app_id']),
        ...wrong.flat(),
      ]
      if (all.length > 0) throw new ProviderError('refused', `${all.join('; ')}; see docs/providers/github-app.md`)
    },

    async close() {
      await lateMints.close()
      await close()
    },
  }
}

function problemsOf(name: string, { permissions }: Params, installation: Installation): string[] {
  const missing = beyond(permissions, installation.permissions)
  return [
    ...(typeof installation.suspended_at === 'string' ? [`role "${name}": the installation is suspended`] : []),
    ...(missing.length > 0 ? [`role "${name}": the installation lacks ${missing.join(', ')}: give them to the app and approve them there`] : []),
  ]
}

function tokenOf(handle: unknown): string {
  const parsed = handleShape.safeParse(handle)
  if (parsed.success) return parsed.data.token
  throw new ProviderError('invalid', 'this handle has no token: the mint never answered, and what it made ends by itself')
}

function isKey(pem: string): boolean {
  try {
    normalKey(pem)
    return true
  } catch {
    return false
  }
}
