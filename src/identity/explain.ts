import { X509Certificate } from 'node:crypto'
import { MayflyError } from '../errors.js'
import type { Principal } from '../types.js'
import { verifyCertificate } from './certificate.js'
import type { TokenExplanation } from './identity.js'
import { refuse } from './refuse.js'
import { readSvid } from './spiffe/svid.js'
import { type Check, type Verifier, verifyToken } from './verify.js'

type Steps = { check: string; ok: boolean; detail: string }[]

/** Runs the checks of `verify` one by one and tells each, up to the first that fails. Consumes nothing. */
export function explainToken(token: string, verifier: Verifier): Promise<TokenExplanation> {
  return explained(async (check, steps) => {
    const { principal, issuer } = await verifyToken(token, verifier, check)
    if (issuer.singleUse) steps.push({ check: 'single use', ok: true, detail: 'not looked at here: it serves one request' })
    return principal
  })
}

/** The same of an X.509-SVID, with those above it, as PEM. What a handshake would say besides is not looked at. */
export function explainCertificate(pem: string, verifier: Verifier): Promise<TokenExplanation> {
  return explained(async (check) => {
    const chain = await check(
      'PEM',
      () => certificatesOf(pem),
      ({ length }) => `${length} ${length === 1 ? 'certificate' : 'certificates'}`,
    )
    const issuer = await check('trust domain', () => issuerOf(chain[0], verifier), String)
    return (await verifyCertificate({ issuer, chain }, verifier, check)).principal
  })
}

async function explained(run: (check: Check, steps: Steps) => Promise<Principal>): Promise<TokenExplanation> {
  const steps: Steps = []
  const check: Check = async (name, work, describe) => {
    try {
      const found = await work()
      steps.push({ check: name, ok: true, detail: describe(found) })
      return found
    } catch (error) {
      if (error instanceof MayflyError) steps.push({ check: name, ok: false, detail: error.details.internal ?? error.message })
      throw error
    }
  }
  try {
    return { ok: true, steps, principal: await run(check, steps) }
  } catch (error) {
    if (error instanceof MayflyError) return { ok: false, steps }
    throw error
  }
}

function certificatesOf(pem: string): Uint8Array[] {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []
  try {
    return found.map((text) => new X509Certificate(text).raw)
  } catch (error) {
    refuse('token_invalid', 'a certificate of the file cannot be read', error)
  }
}

async function issuerOf(leaf: Uint8Array | undefined, { issuers }: Verifier): Promise<string> {
  if (leaf === undefined) refuse('token_invalid', 'there is no certificate in the file')
  const { trustDomain } = await readSvid(leaf)
  const issuer = issuers.get(`spiffe://${trustDomain}`)
  if (issuer?.domain === undefined) refuse('token_invalid', 'no issuer of the configuration has its trust domain')
  return issuer.name
}
