import { z } from 'zod'
import { deadline, within } from '../deadline.js'
import { ProviderError, type Signer } from '../provider.js'
import { BaoError, type Client } from './client.js'
import type { Options } from './options.js'

/** The broker's own token at OpenBao. Leases die with the token that made them, so its end matters as much as its rights. */
export interface Token {
  readonly value: string
  /** Milliseconds of performance.now(); Infinity: never. */
  readonly endsAt: number
  /** How long it lived when it was made or renewed, ms. */
  readonly lifeMs: number
}
export interface Session {
  /** A token that lives for `ms` more, if one can be had; a login or renewal under way is shared. */
  token(ms: number): Promise<Token>
  /** After a 403: forgets the token if OpenBao no longer knows it, so that the next call logs in. */
  doubt(token: Token, signal: AbortSignal): Promise<void>
  close(): void
}

const ASSERTION_SECONDS = 60
const SHORTEST_PAUSE_MS = 1000
/** What setTimeout takes. */
const LONGEST_PAUSE_MS = 2 ** 31 - 1
const policies = z.array(z.string()).nullish()
const authAnswer = z.object({
  auth: z.object({
    client_token: z.string().min(1),
    policies,
    lease_duration: z.number().min(0),
    token_type: z.string().optional(),
  }),
})
const lookupAnswer = z.object({
  data: z.object({ policies, ttl: z.number().min(0), renewable: z.boolean().optional(), type: z.string().optional() }),
})

export function openSession(
  client: Client,
  options: Options,
  { timeoutMs, instance, signer, now = Date.now }: { timeoutMs: number; instance: string; signer?: Signer; now?: () => number },
): Session {
  const { auth } = options
  let current: Token | undefined
  let refreshing: Promise<Token> | undefined
  let timer: NodeJS.Timeout | undefined
  let closed = false

  async function login(signal: AbortSignal): Promise<Token> {
    const asked = performance.now()
    const body =
      auth.method === 'jwt' ? { role: auth.role, jwt: await assertion(auth) } : { role_id: Object(auth).role_id, secret_id: options.secret_id }
    const mount = auth.method === 'token' ? [] : auth.mount.split('/')
    const answer = await client.call({ method: 'POST', path: ['auth', ...mount, 'login'], body, signal }).catch((error: unknown) => {
      if (error instanceof BaoError && (error.status === 400 || error.status === 403))
        throw new ProviderError('refused', `OpenBao does not let the broker log in by ${auth.method}: check auth, and the role it names at OpenBao`, {
          cause: error.cause,
        })
      throw error
    })
    return tokenOf(answer, asked)
  }

  function assertion(how: { subject?: string; audience: string }): Promise<string> {
    if (!signer) throw new ProviderError('invalid', 'auth.method jwt needs "signing"')
    const iat = Math.floor(now() / 1000)
    const claims = { sub: how.subject ?? `mayfly-${instance}`, aud: how.audience, iat, nbf: iat, exp: iat + ASSERTION_SECONDS }
    return signer.sign(claims, { typ: 'JWT' })
  }

  /** A token that was given: looked at first, then renewed, as often as OpenBao lets it. */
  async function keep(signal: AbortSignal): Promise<Token> {
    const value = options.token ?? ''
    const asked = performance.now()
    const looked = lookupAnswer.safeParse(await client.call({ method: 'GET', path: ['auth', 'token', 'lookup-self'], token: value, signal }))
    if (!looked.success) throw new ProviderError('broken', 'OpenBao answered a lookup of the token with something else')
    const { ttl, renewable, policies, type } = looked.data.data
    refuse(policies, type)
    if (!renewable)
      return { value, endsAt: ttl === 0 ? Number.POSITIVE_INFINITY : asked + ttl * 1000, lifeMs: ttl === 0 ? Number.POSITIVE_INFINITY : ttl * 1000 }
    return tokenOf(await client.call({ method: 'POST', path: ['auth', 'token', 'renew-self'], token: value, body: {}, signal }), asked)
  }

  function tokenOf(answer: unknown, asked: number): Token {
    const made = authAnswer.safeParse(answer)
    if (!made.success) throw new ProviderError('broken', 'OpenBao answered a login with something else')
    const { client_token: value, policies, lease_duration: seconds, token_type: type } = made.data.auth
    refuse(policies, type)
    const lifeMs = seconds === 0 ? Number.POSITIVE_INFINITY : seconds * 1000
    return { value, endsAt: asked + lifeMs, lifeMs }
  }

  function refresh(): Promise<Token> {
    refreshing ??= within(deadline(timeoutMs), auth.method === 'token' ? keep : login)
      .then((token) => {
        current = token
        schedule(token)
        return token
      })
      .finally(() => {
        refreshing = undefined
      })
    return refreshing
  }

  /** A given token that nobody uses for a while would end otherwise, and cannot be had again. */
  function schedule({ endsAt }: Token): void {
    clearTimeout(timer)
    const left = endsAt - performance.now()
    if (auth.method !== 'token' || closed || left <= 0 || left === Number.POSITIVE_INFINITY) return
    const half = Math.min(Math.max(left / 2, SHORTEST_PAUSE_MS), LONGEST_PAUSE_MS)
    timer = setTimeout(() => {
      refresh().catch(() => current && schedule(current))
    }, half).unref()
  }

  return {
    async token(ms) {
      const token = current
      if (token === undefined) return refresh()
      const left = token.endsAt - performance.now()
      if (left > ms) return token
      // A new one would be no better, and each one that is made stays until its own end.
      if (left > token.lifeMs / 2 && token.lifeMs < ms) return token
      return refresh()
    },
    async doubt(token, signal) {
      const known = await client.call({ method: 'GET', path: ['auth', 'token', 'lookup-self'], token: token.value, signal }).then(
        () => true,
        (error: unknown) => !(error instanceof BaoError && error.status === 403),
      )
      if (!known && current === token) current = undefined
    },
    close() {
      closed = true
      clearTimeout(timer)
    },
  }
}

function refuse(policies: readonly string[] | null | undefined, type: string | undefined): void {
  if (policies?.includes('root'))
    throw new ProviderError('refused', "OpenBao's root token may do everything: give the broker one with the policy of docs/providers/openbao.md")
  if (type === 'batch') throw new ProviderError('refused', 'a batch token cannot have leases renewed: set token_type=service at the auth role')
}
