import { IntrospectionAnswer, IntrospectionRequest, LEASE_ID } from '../../api.js'
import type { House } from '../../house.js'
import type { TokenSigner } from '../../signer.js'
import type { Principal } from '../../types.js'
import { BROKER, isPermitted } from '../operator.js'
import { ANYONE, type Route, route } from '../route.js'

/** RFC 7662 §2.2: exactly this, whatever the reason. */
const INACTIVE = { status: 200, body: { active: false } } as const

const introspect = route({
  method: 'post',
  path: '/oauth2/introspect',
  surfaces: ['public', 'operator'],
  who: ANYONE,
  summary: 'Whether a token that Mayfly signed is good at this moment (RFC 7662). Read from the ledger, never from a cache.',
  oauth: true,
  body: IntrospectionRequest,
  bodyType: 'form',
  answers: { 200: IntrospectionAnswer },
  codes: ['ledger_unavailable'],
}).handle(async ({ house, around, principal, body }) => {
  const claims = await around.signer()?.verify(body.token, house.ledger.now())
  if (!claims || !(await mayAsk(house, principal, claims)) || !(await isLive(house, claims))) return INACTIVE
  return { status: 200, body: { ...claims, active: true, token_type: 'Bearer' } }
})

export const introspectRoutes: readonly Route[] = [introspect]

type Claims = NonNullable<Awaited<ReturnType<TokenSigner['verify']>>>

/** RFC 7662 §4: a resource server learns of tokens meant for it and of no others. */
async function mayAsk(house: House, principal: Principal, { aud }: Claims): Promise<boolean> {
  if (principal.kind === 'operator') return isPermitted(house, principal, 'inspect', BROKER)
  return principal.kind === 'gateway' && [aud].flat().some((audience) => audience !== undefined && principal.audiences.includes(audience))
}

async function isLive({ ledger }: House, { jti }: Claims): Promise<boolean> {
  if (jti === undefined || !LEASE_ID.test(jti)) return false
  const lease = await ledger.lease(jti)
  return lease !== undefined && lease.state === 'active' && lease.expiresAt > ledger.now()
}
