import { MayflyError } from '../errors.js'
import type { Agent, Human, Orchestrator } from '../types.js'
import { checkTime } from './claims.js'
import type { IdentityCapabilities } from './identity.js'
import { fingerprint } from './jws.js'
import { exposeClaims } from './presets.js'
import { consumeOnce } from './replay.js'
import { authenticToken, type Check, type Verifier } from './verify.js'

const run: Check = async (_name, check) => check()

/**
 * A human's token -> the human, for this very caller to act for: every check that a caller's own token is put to, with the binding to who
 * presents it in place of the broker's audience. Never remembered, so that nothing of it outlives its time, its key or its rule.
 * @throws MayflyError `on_behalf_of_invalid|on_behalf_of_expired`; what failed is in `details.internal` alone
 */
export async function verifyHuman(
  token: string,
  presenter: Agent | Orchestrator,
  verifier: Verifier,
  consume: IdentityCapabilities['consume'],
): Promise<Human> {
  try {
    const { jws, issuer } = await authenticToken(token, verifier, run)
    verifier.binding.check(jws, issuer, presenter)
    const now = verifier.now()
    const { issuedAt, expiresAt } = checkTime(jws, issuer, now)
    const human = verifier.mapping.human(exposeClaims(jws.claims, issuer.preset), {
      issuer: issuer.name,
      subject: jws.claims.sub,
      tokenFingerprint: fingerprint(jws),
      tokenIssuedAt: issuedAt,
      tokenExpiresAt: expiresAt,
    })
    // Last, so that whom it is not for cannot spend it.
    if (issuer.singleUse) await consumeOnce(consume, jws, issuer, expiresAt - now)
    return Object.freeze(human)
  } catch (error) {
    throw asHumans(error)
  }
}

/** The caller is known, and it is another's token that is wrong. */
function asHumans(error: unknown): unknown {
  if (!(error instanceof MayflyError) || error.status !== 401) return error
  const { internal, cause } = error.details
  if (error.code === 'token_expired')
    return new MayflyError('on_behalf_of_expired', 'the token of the human on whose behalf this is asked has expired', { internal, cause })
  return new MayflyError('on_behalf_of_invalid', 'the token of the human on whose behalf this is asked was not accepted', { internal, cause })
}
