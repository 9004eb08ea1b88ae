import { serviceUrl } from '../providers/http/options.js'
import { signingKeys } from '../signer.js'
import { type ServedKeys, type Signing, serveEphemeralKeys } from './keys.js'
import { lineOf, summaryOf } from './print.js'
import { type ConformanceOptions, conformance, type Verdict } from './run.js'

export interface ProviderTest extends Omit<ConformanceOptions, 'signing' | 'timeoutMs' | 'onCase' | 'scope'> {
  /** A key set as text; absent: a key of its own, published on `port` of loopback. */
  readonly signing?: { readonly issuer: string; readonly keys: string }
  readonly port: number
  readonly scope: Readonly<Record<string, unknown>>
}
export interface ProviderTestOutput {
  /** For people, beside the result. */
  say(text: string): void
  line(text: string): void
  readonly json: boolean
}

const TIMEOUT_MS = 10_000

/** `mayfly provider test`. @throws Error that says what of the command line is wrong */
export async function testProvider({ port, scope, ...options }: ProviderTest, { say, line, json }: ProviderTestOutput): Promise<Verdict> {
  const { url, audience, signal, waitMs = 0 } = options
  for (const [option, value] of Object.entries({ '--url': url, '--audience': audience ?? url }))
    if (!serviceUrl.safeParse(value).success)
      throw new Error(`${option} must be a URL as https://provider.internal/mayfly, without credentials, query, fragment or a slash at its end`)
  const own = options.signing === undefined ? await serveEphemeralKeys(port) : undefined
  try {
    const signing = own ?? signingOf(options.signing)
    if (own) say(announcement(own, audience ?? url, waitMs))
    const onCase: ConformanceOptions['onCase'] = json ? undefined : (result) => line(`${lineOf(result)}\n`)
    const verdict = await conformance({ ...options, scope: scopeOf(scope), signing, timeoutMs: TIMEOUT_MS, waitMs, signal, onCase })
    line(json ? `${JSON.stringify(verdict, null, 2)}\n` : `${summaryOf(verdict, audience)}\n`)
    return verdict
  } finally {
    await own?.close()
  }
}

function signingOf(signing: ProviderTest['signing']): Signing {
  try {
    return { issuer: signing?.issuer ?? '', keys: signingKeys.parse(JSON.parse(signing?.keys ?? '')) }
  } catch {
    throw new Error('--signing-keys must be a JWK set whose first key has its private half: "mayfly keys generate" makes one')
  }
}

function scopeOf(scope: Readonly<Record<string, unknown>>): Record<string, string | string[]> {
  const isText = (value: unknown): value is string => typeof value === 'string'
  return Object.fromEntries(
    Object.entries(scope).map(([key, value]): [string, string | string[]] => {
      if (isText(value)) return [key, value]
      if (Array.isArray(value) && value.every(isText)) return [key, value]
      throw new Error(`--scope: the value of "${key}" must be a text or a list of texts`)
    }),
  )
}

function announcement({ issuer, jwksUrl }: ServedKeys, audience: string, waitMs: number): string {
  return `This run signs with a key of its own. The service has to take
  issuer    ${issuer}
  key set   ${jwksUrl}
  audience  ${audience}
Waiting up to ${waitMs / 1000} s until it does. A service that cannot reach this machine's loopback is tried with --signing-keys and --issuer.

`
}
