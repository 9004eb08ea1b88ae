import { readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import type { Config } from '../config.js'
import type { Identity, IssuerStatus } from '../identity/identity.js'
import { createIdentity, lintIdentity } from '../identity/index.js'
import type { IdentityOptions } from '../identity/options.js'
import { type Finding, messageOf } from './finding.js'

/** An issuer gets 5 s for each of two answers. */
const KEYS_WITHIN_MS = 11_000
const LOOK_EVERY_MS = 50
const NO_TOKENS = 'publish one with "use": "jwt-svid" and a "kid", or take the audience away'

export async function identityFindings({ identity: options, listeners }: Config, tokenFile: string | undefined): Promise<Finding[]> {
  const lint = lintIdentity(options).map((what): Finding => ({ area: 'issuers', level: 'fail', what }))
  const loose = [...namelessFindings(options), ...gatewayFindings(options)]
  let identity: Identity
  try {
    identity = createIdentity(options, { consume: () => Promise.resolve(true), now: () => Date.now() })
  } catch (error) {
    return [...lint, ...loose, { area: 'issuers', level: 'fail', what: messageOf(error), mend: 'mend it in the configuration' }]
  }
  try {
    const states = await keysOf(identity)
    const issuers = [...states.map(issuerFinding), ...states.flatMap((state) => bundleFindings(state, options, listeners))]
    const token = tokenFile === undefined ? [] : await tokenFindings(identity, tokenFile)
    return [...lint, ...loose, ...issuers, ...token]
  } finally {
    await identity.close()
  }
}

/** Many people under one rule, of whom nothing is known but what their accounts are called. */
function namelessFindings({ operators = [] }: IdentityOptions): Finding[] {
  return operators.flatMap(({ id, persons }, index) => {
    if (persons !== undefined || !id.includes('{')) return []
    const what = `operators[${index}]: no person: whether a request is their own is told from the id and the token's sub alone`
    return [
      { area: 'issuers', level: 'warn', what, mend: 'name the claim that says what owners and humans are called, for example person: "{email}"' },
    ]
  })
}

/** What is counted against an agent then rests on the word of each of them. */
function gatewayFindings({ gateways = [] }: IdentityOptions): Finding[] {
  return gateways.flatMap(({ tools = [], agents }, index) => {
    if (agents !== undefined || tools.length === 0) return []
    const what = `gateways[${index}]: no agents: it can have calls of any agent that it names counted, and the agent suspended for them`
    return [{ area: 'issuers', level: 'warn', what, mend: 'name those that call its tools, for example agents: [triage, "team-a/*"]; "*" says all' }]
  })
}

/** Waits until each issuer has answered, or has said why it cannot. */
async function keysOf(identity: Identity): Promise<readonly IssuerStatus[]> {
  const end = Date.now() + KEYS_WITHIN_MS
  while (identity.status().some(({ state, error }) => state === 'down' && error === undefined) && Date.now() < end) await pause(LOOK_EVERY_MS)
  return identity.status()
}

function issuerFinding({ name, state, keys, authorities, error }: IssuerStatus): Finding {
  const held = `${keys} ${keys === 1 ? 'key' : 'keys'}${authorities === undefined ? '' : `, ${authorities} X.509 authorities`}`
  if (state === 'ready') return { area: 'issuers', level: 'ok', what: `${name}: ${held}` }
  const where = authorities === undefined ? 'url (or jwks_uri)' : 'bundle'
  const mend = `its tokens are refused until its keys can be fetched: check ${where}, ca and the way there`
  return { area: 'issuers', level: state === 'stale' ? 'warn' : 'fail', what: `${name}: ${error ?? 'no answer in time'}`, mend }
}

/** What is wanted of a trust domain and its bundle does not vouch for. */
function bundleFindings({ name, state, keys, authorities }: IssuerStatus, { issuers }: IdentityOptions, listeners: Config['listeners']): Finding[] {
  const takes = (['public', 'operator'] as const).filter((listener) => listeners[listener]?.tls?.spiffe === name)
  if (authorities === undefined || state !== 'ready') return []
  const findings: Finding[] = []
  if (keys === 0 && issuers[name]?.audience !== undefined)
    findings.push({ area: 'issuers', level: 'warn', what: `${name}: its bundle has no key for JWT-SVIDs: its tokens are refused`, mend: NO_TOKENS })
  if (authorities === 0 && takes.length > 0)
    findings.push({
      area: 'issuers',
      level: 'warn',
      what: `${name}: its bundle has no X.509 authority: certificates at the ${takes.join(' and ')} listener are refused`,
      mend: 'each authority must be self-signed; take tls.spiffe away where there are none',
    })
  return findings
}

async function tokenFindings(identity: Identity, file: string): Promise<Finding[]> {
  let token: string
  try {
    token = (await readFile(file, 'utf8')).trim()
  } catch (error) {
    return [{ area: 'token', level: 'fail', what: messageOf(error), mend: 'check --token-file' }]
  }
  const { ok, steps, principal } = await identity.explain(token)
  const findings = steps.map((step): Finding => ({ area: 'token', level: step.ok ? 'ok' : 'fail', what: `${step.check}: ${step.detail}` }))
  if (ok && principal !== undefined) findings.push({ area: 'token', level: 'ok', what: `accepted: it is the ${principal.kind} "${principal.id}"` })
  return findings
}
