import { lookup as resolve } from 'node:dns/promises'
import { isIP, type LookupFunction } from 'node:net'
import ipaddr from 'ipaddr.js'
import { Client } from 'undici'
import { type JsonObject, parseStrictObject } from './json.js'

const MAX_BODY_BYTES = 1024 * 1024
const TIMEOUT_MS = 5_000
/** Instance metadata outside the link-local range: AWS over IPv6, Alibaba Cloud, Oracle Cloud. */
const METADATA_ADDRESSES = new Set(['fd00:ec2::254', '100.100.100.200', '192.0.0.192'])
const PRIVATE_RANGES = new Set(['private', 'uniqueLocal', 'carrierGradeNat'])

export interface OutboundRules {
  readonly allowHttpLoopback?: boolean
  readonly allowPrivateAddresses?: boolean
  readonly ca?: string
  /** Instead of the name in the URL: what the certificate of the other side must be, after its chain was verified. */
  readonly checkServerIdentity?: (host: string, certificate: { readonly raw: Uint8Array }) => Error | undefined
  readonly signal?: AbortSignal
  /** For the whole exchange, name resolution included; 5,000 when absent. */
  readonly timeoutMs?: number
  /** Of the answer's body; 1 MB when absent. */
  readonly maxBytes?: number
}

/**
 * GETs JSON from a configured issuer: https (or http to loopback where allowed), no redirects, at most 1 MB, connected to the very address that
 * was checked, so that a name can't resolve to one thing for the check and to another for the connection.
 */
export async function getJson(address: string, rules: OutboundRules): Promise<unknown> {
  const url = checkUrl(address, rules)
  const { status, text } = await exchange(url, { method: 'GET', headers: { accept: 'application/json, application/jwk-set+json' } }, rules)
  if (status >= 300 && status < 400) throw new Error(`${url.href} answered with a redirect, which is not followed`)
  if (status !== 200) throw new Error(`${url.href} answered ${status}`)
  return parse(text, url)
}

/** POSTs to a configured address under the same rules. Answers the status, whatever it is. */
export async function post(
  address: string,
  request: { headers: Readonly<Record<string, string>>; body: string },
  rules: OutboundRules,
): Promise<number> {
  return (await exchange(checkUrl(address, rules), { method: 'POST', ...request }, rules)).status
}

/** The same, and what it answered where that is one JSON object that no two parsers read differently. */
export async function postForJson(
  address: string,
  request: { headers: Readonly<Record<string, string>>; body: string },
  rules: OutboundRules,
): Promise<{ status: number; answer?: JsonObject }> {
  const { status, text } = await exchange(checkUrl(address, rules), { method: 'POST', ...request }, rules)
  try {
    return { status, answer: parseStrictObject(text) }
  } catch {
    return { status }
  }
}

interface Outgoing {
  readonly method: 'GET' | 'POST'
  readonly headers: Readonly<Record<string, string>>
  readonly body?: string
}

async function exchange(url: URL, request: Outgoing, rules: OutboundRules): Promise<{ status: number; text: string }> {
  const deadline = AbortSignal.timeout(rules.timeoutMs ?? TIMEOUT_MS)
  const signal = rules.signal === undefined ? deadline : AbortSignal.any([deadline, rules.signal])
  const pinned = await until(signal, checkedAddresses(url, rules))
  const { checkServerIdentity } = rules
  const client = new Client(url.origin, {
    connect: { lookup: pinnedLookup(pinned), ca: rules.ca, ...(checkServerIdentity && { checkServerIdentity }) },
    maxResponseSize: rules.maxBytes ?? MAX_BODY_BYTES,
  })
  try {
    const { statusCode, body } = await client.request({ ...request, path: `${url.pathname}${url.search}`, signal })
    return { status: statusCode, text: await body.text() }
  } catch (error) {
    if (deadline.aborted) throw new Error(`${url.href} did not answer in time`, { cause: error })
    throw error
  } finally {
    // Not `close`: that waits for the rest of a body that nobody wants.
    await client.destroy()
  }
}

/** Checks the form of a URL that will be fetched. Throws an `Error` that says what to do. */
export function checkUrl(address: string, rules: OutboundRules): URL {
  let url: URL
  try {
    url = new URL(address)
  } catch {
    throw new Error('is not a URL')
  }
  if (url.username !== '' || url.password !== '' || url.hash !== '') throw new Error('must have no credentials and no fragment')
  if (url.protocol === 'https:' || (url.protocol === 'http:' && rules.allowHttpLoopback === true)) return url
  throw new Error('must be https (http only to loopback, where the configuration allows it)')
}

async function checkedAddresses(url: URL, rules: OutboundRules): Promise<Address[]> {
  const host = hostOf(url)
  const family = isIP(host)
  const found = family === 0 ? await resolve(host, { all: true }) : [{ address: host, family }]
  if (found.length === 0) throw new Error(`${url.hostname} has no address`)
  // All must pass, not some: a name that also points inside is not one to trust.
  for (const { address } of found) checkAddress(address, url, rules)
  return found
}

function checkAddress(address: string, url: URL, rules: OutboundRules): void {
  const ip = ipaddr.process(address)
  const embedded = ip.kind() === 'ipv6' && ip.range() === 'rfc6052' ? ipaddr.fromByteArray(ip.toByteArray().slice(12)) : undefined
  const range = embedded === undefined ? ip.range() : embedded.range()
  const text = (embedded ?? ip).toString()
  if (range === 'loopback' && (rules.allowHttpLoopback === true || rules.allowPrivateAddresses === true)) return
  if (url.protocol === 'http:') throw new Error(`${url.hostname} is not loopback, and only loopback may be asked over http`)
  if (METADATA_ADDRESSES.has(text)) throw new Error(`${url.hostname} is an instance metadata address`)
  if (range === 'unicast') return
  if (PRIVATE_RANGES.has(range) && rules.allowPrivateAddresses === true) return
  const mend = PRIVATE_RANGES.has(range) || range === 'loopback' ? '; allow private addresses for this issuer if that is meant' : ''
  throw new Error(`${url.hostname} resolves to a ${range} address, which is not asked${mend}`)
}

/** For connections that are kept: checks what a name resolves to each time one is opened. An address in figures is checked here and now. */
export function checkedLookup(url: URL, rules: OutboundRules): LookupFunction {
  const host = hostOf(url)
  if (isIP(host) !== 0) checkAddress(host, url, rules)
  return (hostname, options, callback) => {
    checkedAddresses(url, rules).then(
      (found) => pinnedLookup(found)(hostname, options, callback),
      (error: NodeJS.ErrnoException) => callback(error, '', 0),
    )
  }
}

function hostOf(url: URL): string {
  return url.hostname.replace(/^\[|\]$/g, '')
}

interface Address {
  readonly address: string
  readonly family: number
}

function pinnedLookup(pinned: readonly Address[]): LookupFunction {
  return (_hostname, options, callback) => {
    const [first] = pinned
    if (options.all === true) callback(null, [...pinned])
    else callback(null, first?.address ?? '', first?.family)
  }
}

function parse(text: string, url: URL): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw new Error(`${url.href} did not answer with JSON`)
  }
}

/** `dns.lookup` takes no signal. */
function until<T>(signal: AbortSignal, work: Promise<T>): Promise<T> {
  // What nobody waits for any more may fail unheard.
  work.catch(() => undefined)
  signal.throwIfAborted()
  return new Promise((fulfil, reject) => {
    const abort = () => reject(signal.reason)
    signal.addEventListener('abort', abort, { once: true })
    work.then(fulfil, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}
