import { createHash, randomBytes } from 'node:crypto'
import { z } from 'zod'
import { deadline, within } from './deadline.js'
import { LATE_MS, openGiveBack } from './give-back.js'
import { upstreamName } from './name.js'
import { type Asked, CLOCK_MARGIN_SECONDS, isBearer, judge } from './oauth2/answer.js'
import { type Options, options } from './oauth2/options.js'
import { checkRole, narrow, type Params, params } from './oauth2/role.js'
import { type AuthorizationServer, type Endpoints, type Made, openServer } from './oauth2/server.js'
import { exchangeOf, signerFor, TOKEN_EXCHANGE } from './oauth2/subject.js'
import { openOutbound } from './outbound.js'
import { type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'

const handleShape = z.object({ token: z.string().regex(/^[\x21-\x7e]{1,16400}$/) })
/** What is common for who verifies a JWT to grant past its `exp`. */
const VERIFIER_LEEWAY_SECONDS = 60

/** An access token of any authorization server. `docs/providers/oauth2.md`. */
export const oauth2: ProviderModule<Options, Params> = {
  type: 'oauth2',
  options,
  params,
  needs: ['sealing'],
  secrets: ['client_secret', 'private_key'],
  checkRole,
  target: ({ issuer, client_id, endpoints }) => [issuer, client_id, ...Object.values(endpoints ?? {})].join(' '),

  async open(options, context) {
    const outbound = await openOutbound(context.timeoutMs + LATE_MS)
    return provider(options, context, await openServer(options, outbound), outbound.close)
  },
}

function provider(
  options: Options,
  { instance, timeoutMs, signer, now = Date.now }: ProviderContext,
  server: AuthorizationServer,
  close: () => Promise<void>,
): Provider<Params> {
  const { verification, max_token_life: maxLifeSeconds } = options
  const isIntrospected = verification === 'introspection'
  const lateMints = openGiveBack(({ tokens: { access_token: access, refresh_token: refresh } }: Made) =>
    within(deadline(timeoutMs), async (signal) => {
      if (access === undefined || !isBearer(access)) throw new ProviderError('broken', 'if there is a token, this is not what it is called')
      // The refresh token first: it could make more.
      if (refresh !== undefined) await server.revoke(refresh, 'refresh_token', signal)
      await server.revoke(access, 'access_token', signal)
    }),
  )

  return {
    type: 'oauth2',
    revocation: isIntrospected ? 'immediate' : 'at-expiry',
    residualSeconds: isIntrospected ? 0 : VERIFIER_LEEWAY_SECONDS,
    inProcess: false,
    handle: 'returned',
    blindWindowSeconds: maxLifeSeconds + CLOCK_MARGIN_SECONDS,
    // A client cannot ask for a shorter one, and only each answer says how long it is; this is the most that it may be.
    shortestLifeSeconds: maxLifeSeconds,
    cutsSessions: false,
    // RFC 7009 takes the token itself, and nothing else, for its name.
    sensitiveHandle: isIntrospected,
    expiryEndsUse: true,

    plan(lease) {
      // Only for what it refuses: nothing at the server has a name.
      upstreamName(instance, lease.id)
      return {}
    },

    async mint({ lease, params, issuedAt, expiresAt, until, deadlineMs }) {
      const scopes = narrow(params, lease.scope)
      const { grant, resource, audience } = params
      const common = { scope: scopes.join(' '), ...(resource && { resource }), ...(audience && { audience }) }
      const left = Math.min(deadlineMs, until - now())
      if (left <= 0) throw new ProviderError('timeout', 'the time for this mint was over before it began')
      const time = deadline(left)
      const made = await lateMints.mint(time, async (signal) => {
        refuseUnlessRevocable(await server.endpoints(signal, true))
        // Not what nobody waits for any more.
        time.left()
        if (grant === 'client_credentials') return server.token(grant, common, signal)
        const subject = await exchangeOf({ lease, params, scopes, issuer: options.issuer, issuedAt }, signerFor(signer))
        return server.token(TOKEN_EXCHANGE, { ...common, ...subject }, signal)
      })
      const asked: Asked = { scopes, grant, maxLifeSeconds, verification }
      const granted = judge(made, asked, now())
      if (typeof granted === 'string') {
        // Only where it is gone has nothing been made; and who checks the signature alone does not know of it.
        const isGone = await within(time, () => lateMints.now(made)).catch(() => false)
        if (isGone && isIntrospected) throw new ProviderError('refused', `${granted}; it was given back at once`)
        throw new ProviderError('broken', `${granted}; it was not handed out, but may be good until it expires`)
      }
      const { token, expiresAt: end } = granted
      const fields = { access_token: token, token_type: 'Bearer', expires_at: new Date(end).toISOString(), scope: granted.scopes.join(' ') }
      return {
        credential: { type: 'oauth2', fields, env: { [params.env]: token } },
        handle: isIntrospected ? { token } : { fingerprint: createHash('sha256').update(token).digest('base64url').slice(0, 16) },
        ...(end < expiresAt ? { expiresAt: end } : { usableUntil: end }),
      }
    },

    async revoke(handle, deadlineMs) {
      const token = tokenOf(handle)
      if (!isIntrospected) throw new ProviderError('refused', 'a token that is only checked by its signature cannot be taken back before it expires')
      const time = deadline(deadlineMs)
      return within(time, async (signal) => {
        // RFC 7009 §2.2 answers 200 for tokens that it does not know, too. Whether there was one is only told, and holds nothing up.
        const short = AbortSignal.any([signal, AbortSignal.timeout(Math.ceil(time.left() / 3))])
        const before = await server.isActive(token, short).catch(() => undefined)
        await server.revoke(token, 'access_token', signal)
        if ((await server.isActive(token, signal)) === true)
          throw new ProviderError('broken', 'the server has revoked the token, and still calls it active')
        return before === false ? 'absent' : 'revoked'
      })
    },

    ...(isIntrospected && {
      async verify(handle, deadlineMs) {
        const token = tokenOf(handle)
        const isActive = await within(deadline(deadlineMs), (signal) => server.isActive(token, signal))
        if (isActive === undefined) throw new ProviderError('refused', 'the server offers no introspection (RFC 7662), so that nobody can tell')
        return isActive ? 'alive' : 'dead'
      },
    }),

    async check(roles = []) {
      if (roles.some(({ params }) => params.grant === 'token_exchange')) signerFor(signer)
      await within(deadline(timeoutMs), async (signal) => {
        const found = await server.endpoints(signal, true)
        refuseUnlessRevocable(found)
        // A token that nobody has: revoking it shows that the client may, RFC 7009 §2.2.
        const nobodys = randomBytes(32).toString('base64url')
        if (found.revocation_endpoint !== undefined) await server.revoke(nobodys, 'access_token', signal)
        if (found.introspection_endpoint !== undefined && isIntrospected) await server.isActive(nobodys, signal)
      })
    },

    async close() {
      await lateMints.close()
      await close()
    },
  }

  function refuseUnlessRevocable(found: Endpoints): void {
    if (isIntrospected && found.revocation_endpoint === undefined)
      throw new ProviderError('refused', 'the server offers no revocation (RFC 7009): only "verification: signature" is true of it')
  }
}

function tokenOf(handle: unknown): string {
  const parsed = handleShape.safeParse(handle)
  if (parsed.success) return parsed.data.token
  throw new ProviderError('invalid', 'this handle has no token: the mint never answered, or the token is only checked by its signature')
}
