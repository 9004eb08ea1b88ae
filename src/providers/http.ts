import { z } from 'zod'
import type { Scope } from '../types.js'
import { deadline } from './deadline.js'
import { type Caller, openCaller } from './http/caller.js'
import { type Options, options, type Params, params } from './http/options.js'
import type { AnswerOf, Description, RequestOf } from './http/wire.js'
import { WIRE_VERSION } from './http/wire.js'
import { upstreamName } from './name.js'
import { type LeasePlan, type Minted, type MintRequest, type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

const handleShape = z.object({ name: z.string() })

/** Longest timeout that a configuration may give a mint, and a margin for clocks: no mint of a lease ends later than this after its revoke. */
const REMEMBER_MS = 60_000
/** The Date field has whole seconds. */
const MAX_CLOCK_DIFFERENCE_MS = 3_000

/** Whatever a service of the user's makes, told by signed requests. `docs/providers/http.md`. */
export const http: ProviderModule<Options, Params> = {
  type: 'http',
  options,
  params,
  needs: ['signing'],
  checkRole: (_params, scope, { scope_keys }) =>
    Object.keys(scope)
      .filter((key) => !scope_keys.includes(key))
      .map((key) => `scope.${key}: the provider's scope_keys don't name it: the service could not narrow by it`),
  target: ({ url }) => url,

  async open(options, context) {
    const { name, signer, concurrency, timeoutMs, now = Date.now } = context
    if (!signer) throw new ProviderError('invalid', `provider "${name}" signs its requests: the configuration needs "signing"`)
    const { url, audience = url, ca } = options
    const line = { url, audience, ca, connections: concurrency, timeoutMs, signer, now }
    // Apart, so that revoking never waits for minting.
    return provider(options, context, await openCaller(line), await openCaller(line))
  },
}

function provider(options: Options, { instance, timeoutMs, now = Date.now }: ProviderContext, minting: Caller, revoking: Caller): Provider<Params> {
  const nameOf = (handle: unknown) => handleShape.parse(handle).name
  const after = (ms: number) => timeOf(now() + ms)

  return {
    type: 'http',
    revocation: options.revocation,
    residualSeconds: options.residual_seconds,
    inProcess: false,
    handle: 'planned',
    cutsSessions: options.cuts_sessions,
    sensitiveHandle: false,
    expiryEndsUse: options.expiry_ends_use,
    ...(options.shortest_life_seconds > 0 && { shortestLifeSeconds: options.shortest_life_seconds }),

    plan: (lease) => ({ name: upstreamName(instance, lease.id) }),

    async mint(request) {
      const time = deadline(request.deadlineMs)
      return mintedOf(await minting.call('mint', messageOf(request, options), time), request, options)
    },

    async revoke(handle, deadlineMs) {
      if (options.revocation === 'at-expiry') throw new ProviderError('refused', 'what this service makes cannot be taken back before it expires')
      const { outcome } = await revoking.call('revoke', { name: nameOf(handle), until: after(REMEMBER_MS) }, deadline(deadlineMs))
      return outcome
    },

    ...(options.renewable && {
      async renew(handle, expiresAt, deadlineMs) {
        const request = { name: nameOf(handle), expires_at: timeOf(expiresAt), until: after(deadlineMs) }
        const { expires_at } = await minting.call('renew', request, deadline(deadlineMs))
        if (expires_at === undefined || Date.parse(expires_at) !== Math.floor(expiresAt))
          throw new ProviderError('broken', 'the service extended it to another time than it was asked for')
      },
    }),

    ...(options.verifiable && {
      async verify(handle, deadlineMs) {
        return (await revoking.call('verify', { name: nameOf(handle) }, deadline(deadlineMs))).state
      },
    }),

    async check() {
      const time = deadline(timeoutMs)
      const [description, unsigned] = await Promise.all([revoking.call('describe', {}, time), revoking.callUnsigned('describe', time)])
      const ahead = Math.abs(revoking.clockAhead() ?? 0)
      const wrong = [
        ...differences(options, description),
        ...(unsigned.status === 401
          ? []
          : [`it answered ${unsigned.status} to a request without a signature: it must answer 401 to whoever is not Mayfly`]),
        ...(ahead > MAX_CLOCK_DIFFERENCE_MS ? [`its clock is ${Math.round(ahead / 1000)} s off the broker's: mints would be late or too late`] : []),
      ]
      if (wrong.length > 0) throw new ProviderError('refused', `the service is not as the configuration says: ${wrong.join('; ')}`)
    },

    async close() {
      await Promise.all([minting.close(), revoking.close()])
    },
  }
}

function messageOf({ lease, handle, params, issuedAt, expiresAt, until }: MintRequest<Params>, { scope_keys }: Options): RequestOf<'mint'> {
  return {
    lease: leaseOf(lease),
    name: handleShape.parse(handle).name,
    params,
    scope: scopeOf(lease.scope, scope_keys),
    issued_at: timeOf(issuedAt),
    expires_at: timeOf(expiresAt),
    until: timeOf(until),
    idempotency: lease.id,
  }
}

/** These are told for the service's own records, and decide nothing; so a name that is not well-formed is mended rather than refused. */
function leaseOf({ id, task, agent, owner, human, role }: LeasePlan): RequestOf<'mint'>['lease'] {
  const lease = { id, task, agent: agent.toWellFormed(), owner: owner.toWellFormed(), role: role.toWellFormed() }
  return human === undefined ? lease : { ...lease, human: human.toWellFormed() }
}

/** What a scope names decides what is made, so that nothing in it is mended. */
function scopeOf(scope: Scope, keys: readonly string[]): RequestOf<'mint'>['scope'] {
  const entries = Object.entries(scope).map(([key, value]): [string, string | string[]] => {
    if (!keys.includes(key))
      throw new ProviderError('invalid', `this provider can be narrowed by ${keys.map((one) => `"${one}"`).join(', ') || 'nothing'} only`)
    if (![value].flat().every((text) => text.isWellFormed())) throw new ProviderError('invalid', `scope "${key}" is not well-formed Unicode`)
    return [key, typeof value === 'string' ? value : [...value]]
  })
  return Object.fromEntries(entries)
}

/** What the service answers is held to what the operator was told of it: else the lease would promise what is not so. */
function mintedOf(
  { credential, expires_at, usable_until }: AnswerOf<'mint'>,
  { issuedAt, expiresAt }: MintRequest<Params>,
  options: Options,
): Minted {
  const { env, credential_type: type, shortest_life_seconds } = options
  const foreign = Object.keys(credential.env).filter((variable) => !env.includes(variable))
  if (foreign.length > 0) throw new ProviderError('broken', 'the service set an environment variable that the provider\'s "env" does not name')
  const earlier = expires_at === undefined ? undefined : Date.parse(expires_at)
  if (earlier !== undefined && (earlier <= issuedAt || earlier > expiresAt))
    throw new ProviderError('broken', 'the service answered an expires_at before the mint, or after what was asked for')
  const usableUntil = usable_until === undefined ? undefined : Date.parse(usable_until)
  if (
    usableUntil !== undefined &&
    (usableUntil < Math.floor(expiresAt) || usableUntil > Math.max(expiresAt, issuedAt + shortest_life_seconds * 1000))
  )
    throw new ProviderError(
      'broken',
      'the service answered a usable_until before what was asked for, or after what its shortest_life_seconds excuses',
    )
  return { credential: { type, fields: credential.fields, env: credential.env }, expiresAt: earlier, usableUntil }
}

/** What the service says of itself now, and the operator was told otherwise. */
function differences({ credential_type, ...told }: Options, said: Description): string[] {
  const promised: Description = { ...pick(told), version: WIRE_VERSION, type: credential_type }
  const keys = Object.keys(promised) as (keyof Description)[]
  return keys
    .filter((key) => spelt(promised[key]) !== spelt(said[key]))
    .map(
      (key) => `${key === 'type' ? 'credential_type' : key} is ${spelt(promised[key])} in the configuration and ${spelt(said[key])} at the service`,
    )
}
function pick({
  revocation,
  residual_seconds,
  shortest_life_seconds,
  renewable,
  verifiable,
  cuts_sessions,
  expiry_ends_use,
  scope_keys,
  env,
}: Omit<Options, 'credential_type'>): Omit<Description, 'version' | 'type'> {
  return { revocation, residual_seconds, shortest_life_seconds, renewable, verifiable, cuts_sessions, expiry_ends_use, scope_keys, env }
}
function spelt(value: Description[keyof Description]): string {
  return Array.isArray(value) ? `[${[...value].sort().join(', ')}]` : String(value)
}

function timeOf(ms: number): string {
  return new Date(Math.floor(ms)).toISOString()
}
