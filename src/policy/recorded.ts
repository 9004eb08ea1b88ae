import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { createInterface } from 'node:readline'

/** A request that was recorded with its event. */
export interface Recorded {
  readonly request: unknown
  readonly event?: string
  readonly at?: string
}

/** Of one file, from its end. */
const MOST_BYTES = 256 * 2 ** 20
const MARK = '"input":{'

/** The last requests in files of events: events that hold none, and lines that are none (one may be half written), are passed over. */
export async function recordedIn(files: readonly string[], options: { sinceMs?: number; limit: number }): Promise<Recorded[]> {
  const found: Recorded[] = []
  for (const file of files) {
    const { size } = await stat(file)
    const input = createReadStream(file, { encoding: 'utf8', start: Math.max(0, size - MOST_BYTES) })
    for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      const one = line.includes(MARK) ? read(line) : undefined
      if (!one || (options.sinceMs !== undefined && !(Date.parse(one.at ?? '') >= options.sinceMs))) continue
      found.push(one)
      if (found.length >= 2 * options.limit) found.splice(0, found.length - options.limit)
    }
  }
  return found.slice(-options.limit)
}

function read(line: string): Recorded | undefined {
  try {
    const { id, at, detail } = JSON.parse(line) as { id?: unknown; at?: unknown; detail?: { input?: unknown } }
    if (typeof detail?.input !== 'object' || detail.input === null) return undefined
    return { request: detail.input, event: typeof id === 'string' ? id : undefined, at: typeof at === 'string' ? at : undefined }
  } catch {
    return undefined
  }
}
