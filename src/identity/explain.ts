import { MayflyError } from '../errors.js'
import type { TokenExplanation } from './identity.js'
import { type Check, type Verifier, verifyToken } from './verify.js'

/** Runs the checks of `verify` one by one and tells each, up to the first that fails. Consumes nothing. */
export async function explainToken(token: string, verifier: Verifier): Promise<TokenExplanation> {
  const steps: { check: string; ok: boolean; detail: string }[] = []
  const check: Check = async (name, run, describe) => {
    try {
      const found = await run()
      steps.push({ check: name, ok: true, detail: describe(found) })
      return found
    } catch (error) {
      if (error instanceof MayflyError) steps.push({ check: name, ok: false, detail: error.details.internal ?? error.message })
      throw error
    }
  }
  try {
    const { principal, issuer } = await verifyToken(token, verifier, check)
    if (issuer.singleUse) steps.push({ check: 'single use', ok: true, detail: 'not looked at here: it serves one request' })
    return { ok: true, steps, principal }
  } catch (error) {
    if (error instanceof MayflyError) return { ok: false, steps }
    throw error
  }
}
