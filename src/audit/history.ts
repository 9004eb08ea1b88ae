import { createReadStream } from 'node:fs'
import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { createGunzip } from 'node:zlib'
import { isAfter, partsOf } from '../stream-id.js'
import type { Event } from '../types.js'
import { EVENTS_FILE } from './jsonl.js'

/** An event as the sink wrote it. */
export interface Recorded {
  readonly at: number
  readonly event: Event
}

/** Who reads the record: which lines it wants, told from their text, and what it makes of them. */
export interface Reader {
  fits(line: string): boolean
  read(recorded: Recorded): void
}

/** What was read. */
export interface Extent {
  readonly files: number
  /** Of the first and of the last event, whatever they are about. */
  readonly from?: number
  readonly to?: number
  /** Lines that are no events: half written, or written by somebody else. */
  readonly unreadable: number
  /** False: time was up before the end. */
  readonly complete: boolean
}

/** The file that is written, and those that it was renamed to: events.jsonl, events.jsonl.1, events-2030-01-31.jsonl.gz. */
const FILE = /^events\b.*\.jsonl(?:[.-][\w.-]*)?$/
/** How each line begins. */
const HEAD = /^\{"partition":(\d+),"stream_id":"(\d+-\d+)","at":"([^"]+)",/
const HEADS = new RegExp(HEAD, 'gm')
/** More than a broker writes between two versions of its witness, a second apart. */
const END_BYTES = 8 * 1024 * 1024

/**
 * Reads a JSONL sink's folder from its first event to its last, changing nothing, a line at a time whatever its size. An event that was written
 * twice is read once.
 */
export async function readHistory(folder: string, reader: Reader, { deadlineMs }: { deadlineMs: number }): Promise<Extent> {
  const end = performance.now() + deadlineMs
  const files = await filesIn(folder)
  /** The last of each partition: what comes again is not after it. */
  const seen = new Map<string, string>()
  let from: number | undefined
  let to: number | undefined
  let unreadable = 0
  const done = (complete: boolean): Extent => ({ files: files.length, from, to, unreadable, complete })
  for (const file of files) {
    for await (const line of linesOf(file)) {
      if (performance.now() > end) return done(false)
      const [, partition = '', id = '', time = ''] = HEAD.exec(line) ?? []
      const at = Date.parse(time)
      if (Number.isNaN(at)) {
        if (line !== '') unreadable++
        continue
      }
      from = Math.min(from ?? at, at)
      to = Math.max(to ?? at, at)
      if (!isAfter(id, seen.get(partition) ?? '')) continue
      seen.set(partition, id)
      if (!reader.fits(line)) continue
      const event = eventIn(line)
      if (event) reader.read({ at, event })
      else unreadable++
    }
  }
  return done(true)
}

/** By partition, the last event of the file that is written, of those since a time, in ms on the ledger's clock, and as far as its end says. */
export async function lastRecorded(folder: string, since: number): Promise<Map<number, string>> {
  const file = await open(join(folder, EVENTS_FILE)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (!file) return new Map()
  try {
    const { size } = await file.stat()
    const length = Math.min(size, END_BYTES)
    const { buffer, bytesRead } = await file.read(Buffer.alloc(length), 0, length, size - length)
    const text = buffer.toString('utf8', 0, bytesRead)
    // Where it does not begin with the file, it begins with the rest of a line.
    const lines = length < size ? text.slice(text.indexOf('\n') + 1) : text
    const heads = [...lines.matchAll(HEADS)].filter(([, , id = '']) => partsOf(id)[0] >= since)
    return new Map(heads.map(([, partition, id = '']) => [Number(partition), id]))
  } finally {
    await file.close()
  }
}

/** In the order of their first events: what they are called says nothing. */
async function filesIn(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => [])
  const found = await Promise.all(
    names
      .filter((name) => FILE.test(name))
      .map(async (name) => {
        const file = join(folder, name)
        return { file, first: await firstIn(file) }
      }),
  )
  return found.sort((a, b) => a.first - b.first).map(({ file }) => file)
}

async function firstIn(file: string): Promise<number> {
  for await (const line of linesOf(file)) {
    const at = Date.parse(HEAD.exec(line)?.[3] ?? '')
    if (!Number.isNaN(at)) return at
  }
  return Number.POSITIVE_INFINITY
}

async function* linesOf(file: string): AsyncGenerator<string> {
  const source = createReadStream(file)
  const input: Readable = file.endsWith('.gz') ? source.pipe(createGunzip()) : source
  source.on('error', (error) => input.destroy(error))
  try {
    yield* createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })
  } finally {
    source.destroy()
    input.destroy()
  }
}

function eventIn(line: string): Event | undefined {
  try {
    return JSON.parse(line) as Event
  } catch {
    return undefined
  }
}
