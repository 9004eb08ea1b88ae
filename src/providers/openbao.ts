import { z } from 'zod'
import { deadline, within } from './deadline.js'
import { openGiveBack } from './give-back.js'
import { upstreamName } from './name.js'
import { checkHealth, problemsOf } from './openbao/check.js'
import { BaoError, type Client, openClient } from './openbao/client.js'
import { type Options, options, type Params, params } from './openbao/options.js'
import { placeholderProblems, requestOf, type SecretRequest } from './openbao/request.js'
import { isKnown, makeSecret, revokeLease, shorten } from './openbao/secret.js'
import { openSession, type Session, type Token } from './openbao/session.js'
import { type Credential, type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

const handleShape = z.object({ lease_id: z.string().min(1).max(1024) })

/** A lease is to end before the token that made it: for the time between the two answers. */
const TOKEN_MARGIN_MS = 5_000

/** Whatever OpenBao, or Vault, leases: a dynamic secret at any path. `docs/providers/openbao.md`. */
export const openbao: ProviderModule<Options, Params> = {
  type: 'openbao',
  options,
  params,
  secrets: ['token', 'secret_id'],
  checkRole: (params, scope) => placeholderProblems(params, scope),
  target: ({ url, namespace }) => (namespace === undefined ? url : `${url} ${namespace}`),

  async open(options, context) {
    if (options.auth.method === 'jwt' && !context.signer)
      throw new ProviderError('invalid', `provider "${context.name}" logs in with a JWT that it signs: the configuration needs "signing"`)
    const client = await openClient(options, context.timeoutMs)
    return provider(client, openSession(client, options, context), options, context)
  },
}

/** Times are of performance.now(): what it surely lives until, and what it lives until at most; it began between an ask and its answer. */
interface Made {
  readonly lease: string
  readonly credential: Credential
  readonly endsFrom: number
  readonly endsBy: number
}

function provider(
  client: Client,
  session: Session,
  { lease_ttl: longest }: Options,
  { instance, timeoutMs, now = Date.now }: ProviderContext,
): Provider<Params> {
  const giveBack = openGiveBack(({ lease }: Made) => revoke(lease, timeoutMs))

  /** With a token that lives for `ms` more; one that OpenBao no longer knows is not used again. */
  async function authorized<T>(ms: number, signal: AbortSignal, work: (token: Token) => Promise<T>): Promise<T> {
    const token = await session.token(ms)
    return work(token).catch(async (error: unknown) => {
      if (error instanceof BaoError && error.status === 403) await session.doubt(token, signal).catch(() => undefined)
      throw error
    })
  }

  function make(request: SecretRequest, seconds: number, env: Params['env'], signal: AbortSignal): Promise<Made> {
    return authorized(seconds * 1000 + TOKEN_MARGIN_MS, signal, async (token) => {
      const asked = performance.now()
      const { lease, data, seconds: given, renewable } = await makeSecret(client, request, token, signal)
      const madeFrom = (asked: number, left: number): Made => {
        const ends = { endsFrom: Math.min(asked + left * 1000, token.endsAt), endsBy: performance.now() + left * 1000 }
        return { lease, credential: { type: 'openbao', fields: data, env: {} }, ...ends }
      }
      const first = madeFrom(asked, given)
      try {
        if (given > longest)
          throw new ProviderError(
            'invalid',
            'this secret lives longer than lease_ttl says: raise it, or lower the default ttl of its role at OpenBao',
          )
        const credential = { ...first.credential, env: envOf(data, env) }
        if (given <= seconds || !renewable) return { ...first, credential }
        const again = performance.now()
        return { ...madeFrom(again, await shorten(client, lease, seconds, token, signal)), credential }
      } catch (error) {
        // Most refusals say that nothing was made: not this one, unless it is gone again.
        const gone = await revoke(lease, timeoutMs).then(
          () => true,
          () => false,
        )
        if (gone) throw error
        void giveBack.now(first)
        throw new ProviderError('broken', 'the secret cannot be handed out, and could not be given back yet', { cause: error })
      }
    })
  }

  function revoke(lease: string, ms: number): Promise<'revoked' | 'absent'> {
    return within(deadline(ms), (signal) =>
      authorized(timeoutMs, signal, async (token) => {
        const known = await isKnown(client, lease, token, signal)
        // Whatever the lookup said.
        await revokeLease(client, lease, token, signal)
        return known ? 'revoked' : 'absent'
      }),
    )
  }

  return {
    type: 'openbao',
    revocation: 'immediate',
    residualSeconds: 0,
    inProcess: false,
    handle: 'returned',
    blindWindowSeconds: longest,
    // Whether an engine ends what is open, only it knows; OpenBao's for PostgreSQL does not.
    cutsSessions: false,
    sensitiveHandle: false,
    expiryEndsUse: true,

    plan(lease) {
      // Only for what it refuses: OpenBao names its leases itself.
      upstreamName(instance, lease.id)
      return {}
    },

    async mint({ lease, params, expiresAt, until, deadlineMs }) {
      const time = deadline(deadlineMs)
      /** From performance.now() to the ledger's clock. */
      const ahead = until - deadlineMs - performance.now()
      if (until <= now()) throw new ProviderError('timeout', 'the time for this mint was over before it began')
      const request = requestOf(params, lease.scope)
      const seconds = Math.max(1, Math.floor((expiresAt - ahead - performance.now()) / 1000))
      const made = await giveBack.mint(time, (signal) => make(request, seconds, params.env, signal))
      const ends =
        ahead + made.endsFrom <= expiresAt ? { expiresAt: Math.floor(ahead + made.endsFrom) } : { usableUntil: Math.ceil(ahead + made.endsBy) }
      return { credential: made.credential, handle: { lease_id: made.lease }, ...ends }
    },

    async revoke(handle, deadlineMs) {
      return revoke(leaseIn(handle), deadlineMs)
    },

    async verify(handle, deadlineMs) {
      const lease = leaseIn(handle)
      const find = (signal: AbortSignal) => authorized(timeoutMs, signal, (token) => isKnown(client, lease, token, signal))
      return (await within(deadline(deadlineMs), find)) ? 'alive' : 'dead'
    },

    async check(roles = []) {
      const params = roles.map((role) => role.params)
      await within(deadline(timeoutMs), async (signal) => {
        await checkHealth(client, signal)
        const look = (token: Token) => problemsOf(client, token, longest, params, signal)
        const wrong = await authorized(longest * 1000 + TOKEN_MARGIN_MS, signal, look)
        if (wrong.length > 0) throw new ProviderError('refused', `${wrong.join('; ')}; see docs/providers/openbao.md`)
      })
    },

    async close() {
      session.close()
      await giveBack.close()
      await client.close()
    },
  }
}

function leaseIn(handle: Readonly<Record<string, unknown>>): string {
  const parsed = handleShape.safeParse(handle)
  if (!parsed.success) throw new ProviderError('invalid', 'the lease of this secret was never learnt: it ends by itself')
  return parsed.data.lease_id
}

function envOf(fields: Readonly<Record<string, unknown>>, env: Params['env']): Record<string, string> {
  const named = Object.entries(env).map(([name, field]): [string, string] => {
    const value = Object.hasOwn(fields, field) ? fields[field] : undefined
    if (typeof value !== 'string' && typeof value !== 'number')
      throw new ProviderError('invalid', `params.env.${name}: the secret has no text in that field`)
    return [name, String(value)]
  })
  return Object.fromEntries(named)
}
