import { createHash } from 'node:crypto'
import { MayflyError } from '../errors.js'
import type { House } from '../house.js'
import type { Provider, PublishedDocument } from '../providers/provider.js'

/** A document as it is served. */
export interface Served {
  readonly contentType: string
  readonly bytes: Uint8Array
  /** Strong: of these very octets. */
  readonly etag: string
}

/** Anybody may ask: a document costs its provider one look at a time, and another one this long after it. */
const FRESH_MS = 1_000
const RETRY_AFTER_SECONDS = 1

interface Look {
  readonly served: Promise<Served>
  freshUntil: number
}
const looks = new WeakMap<Provider, Map<string, Look>>()

/**
 * What a provider publishes under a name, at most a second old; undefined where it publishes no such thing.
 * @throws MayflyError `ledger_unavailable|document_unavailable`
 */
export async function published({ upstreams }: Pick<House, 'upstreams'>, provider: string, name: string): Promise<Served | undefined> {
  const upstream = upstreams.get(provider)
  const document = upstream?.provider.documents?.find((one) => one.name === name)
  if (!upstream || !document) return undefined
  const ofProvider = looks.get(upstream.provider) ?? new Map<string, Look>()
  looks.set(upstream.provider, ofProvider)
  const last = ofProvider.get(name)
  if (last && performance.now() < last.freshUntil) return last.served
  const look: Look = { served: read(document, upstream.timeoutMs), freshUntil: Number.POSITIVE_INFINITY }
  ofProvider.set(name, look)
  // A failure is as fresh as an answer: whoever asks again at once would make it no better.
  const over = () => {
    look.freshUntil = performance.now() + FRESH_MS
  }
  look.served.then(over, over)
  return look.served
}

async function read(document: PublishedDocument, timeoutMs: number): Promise<Served> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(unavailable('it was not read in time')), timeoutMs)
  })
  try {
    const bytes = await Promise.race([document.read(), late])
    return { contentType: document.contentType, bytes, etag: `"${createHash('sha256').update(bytes).digest('base64url')}"` }
  } catch (error) {
    if (error instanceof MayflyError) throw error
    // A provider's own words hold no secret, by its contract; a stranger's are not repeated.
    throw unavailable(error instanceof Error && error.name === 'ProviderError' ? error.message : 'unexpected failure', error)
  } finally {
    clearTimeout(timer)
  }
}

function unavailable(internal: string, cause?: unknown): MayflyError {
  return new MayflyError('document_unavailable', 'this document cannot be read now', { retryAfterSeconds: RETRY_AFTER_SECONDS, internal, cause })
}
