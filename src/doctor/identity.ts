import { readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import type { Config } from '../config.js'
import type { Identity, IssuerStatus } from '../identity/identity.js'
import { createIdentity, lintIdentity } from '../identity/index.js'
import { type Finding, messageOf } from './finding.js'

/** An issuer gets 5 s for each of two answers. */
const KEYS_WITHIN_MS = 11_000
const LOOK_EVERY_MS = 50

export async function identityFindings({ identity: options }: Config, tokenFile: string | undefined): Promise<Finding[]> {
  const lint = lintIdentity(options).map((what): Finding => ({ area: 'issuers', level: 'fail', what }))
  let identity: Identity
  try {
    identity = createIdentity(options, { consume: () => Promise.resolve(true), now: () => Date.now() })
  } catch (error) {
    return [...lint, { area: 'issuers', level: 'fail', what: messageOf(error), mend: 'mend it in the configuration' }]
  }
  try {
    const issuers = (await keysOf(identity)).map(issuerFinding)
    const token = tokenFile === undefined ? [] : await tokenFindings(identity, tokenFile)
    return [...lint, ...issuers, ...token]
  } finally {
    await identity.close()
  }
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
