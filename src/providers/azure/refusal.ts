import { z } from 'zod'
import { ProviderError } from '../provider.js'

type Kind = ProviderError['kind']
const DOCS = 'see docs/providers/azure.md'
/**
 * Codes are for diagnosis and may change (https://learn.microsoft.com/entra/identity-platform/reference-error-codes): they only choose a better
 * sentence; what kind of error it is, an unknown one says by its HTTP status.
 */
const BY_CODE: Readonly<Record<number, readonly [Kind, string]>> = {
  70021: [
    'refused',
    `Entra ID knows no federated credential of this application for Mayfly's issuer, subject and audience (a new one takes minutes): ${DOCS}`,
  ],
  700211: ['refused', `the application has no federated credential for this issuer: it must be Mayfly's "signing.issuer", letter by letter; ${DOCS}`],
  700212: ['refused', `the application has no federated credential for this audience: ${DOCS}`],
  700213: ['refused', `the application has no federated credential for this subject: it must be the option "subject", letter by letter; ${DOCS}`],
  7002137: ['refused', `the application has no federated credential for this subject: it must be the option "subject", letter by letter; ${DOCS}`],
  7002138: ['refused', `the subject of the federated credential differs from the option "subject" in upper and lower case; ${DOCS}`],
  7000272: ['refused', `Entra ID does not find the key in what Mayfly publishes: its issuer must be reachable from the internet; ${DOCS}`],
  5002738: ['refused', `Entra ID does not take the algorithm of the assertion: ${DOCS}`],
  700024: ['refused', "Entra ID says that the assertion is not valid now: compare the broker's clock"],
  700027: ['refused', `Entra ID could not verify the assertion with the keys that Mayfly publishes; ${DOCS}`],
  700016: ['refused', 'the tenant has no application with this client id'],
  90002: ['refused', 'there is no such tenant at this authority'],
  500011: ['invalid', 'the tenant does not know the resource of this scope'],
  70011: ['invalid', 'Entra ID does not take this scope'],
  1002012: ['invalid', 'Entra ID does not take this scope for an application: it must end with "/.default"'],
  501051: ['refused', 'the application has no role at this resource, and the resource asks for one'],
  53003: ['refused', 'a Conditional Access policy blocks the application'],
  7000112: ['refused', 'the application is disabled'],
  90033: ['throttled', 'Entra ID is busy for a moment'],
  50196: ['throttled', 'Entra ID was asked for the same too often'],
}
const body = z.looseObject({ error_codes: z.array(z.int()).min(1) })

/** Why Entra said no, in words of ours: its own hold trace ids, times and what it was asked. */
export function refusal(status: number, text: string): ProviderError {
  const code = codeOf(text)
  const cause = new Error(`HTTP ${status}${code === undefined ? '' : `, AADSTS${code}`}`)
  const known = code === undefined ? undefined : BY_CODE[code]
  if (status === 429) return new ProviderError('throttled', 'Entra ID is throttling', { cause })
  if (known) return new ProviderError(known[0], known[1], { cause })
  const named = code === undefined ? '' : ` (AADSTS${code})`
  if (status === 503) return new ProviderError('throttled', `Entra ID says that it is unavailable${named}`, { cause })
  if (status >= 400 && status < 500) return new ProviderError('refused', `Entra ID refused it${named}: ${DOCS}`, { cause })
  return new ProviderError('broken', `Entra ID answered with an error (HTTP ${status})${named}`, { cause })
}

function codeOf(text: string): number | undefined {
  try {
    return body.safeParse(JSON.parse(text)).data?.error_codes[0]
  } catch {
    return undefined
  }
}
