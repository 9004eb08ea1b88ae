import { randomUUID } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { isAfter } from '../stream-id.js'
import { lastRecorded } from './history.js'
import { syncFolder } from './jsonl.js'

/** Beside the events: what was seen of the ledger, so that one which has forgotten some of it is recognised. */
export const WITNESS_FILE = 'witness.json'

/** Brokers that share a folder do not write into each other's half. */
const OWN = randomUUID()
const WRITE_MS = 1_000
/** Before the last beat: events may be told a moment before they are handed over, and more than a moment where the sink was down. */
const OVERLAP_MS = 10_000
const NUMBERS = /^\d+-\d+$/
const Content = z.object({
  instance: z.string(),
  name: z.string(),
  ledger: z.string().optional(),
  generation: z.int().default(1),
  beat: z.int().default(0),
  /** By partition. */
  held: z.record(z.string(), z.string().regex(NUMBERS)).default({}),
})
type Content = z.output<typeof Content>

export interface WitnessFile {
  readonly name: string
  /** As it is by now; undefined before anything was noted of a ledger. */
  kept(): { readonly ledger: string; readonly generation: number; readonly beat: number; readonly held: ReadonlyMap<number, string> } | undefined
  note(change: { readonly ledger?: string; readonly generation?: number; readonly beat?: number }): Promise<void>
  /** These events are in the log, on disk. Written within a second, or with a note: until then the log itself says so, to whoever opens this. */
  hold(last: ReadonlyMap<number, string>): void
  /** Writes what is not written yet. Does not throw. */
  close(): Promise<void>
}

/**
 * Opens the witness of a log. It is replaced as a whole, and only ever says what was true before: one that is lost, or a version behind, notices
 * less, and none raises an alarm for nothing. So may brokers share a folder: the last writer's is there.
 * `onFailed`: what was held could not be written. One that stays behind notices less; the events are there all the same.
 * @throws Error when it is that of another instance, or cannot be read
 */
export async function openWitness(folder: string, instance: string, onFailed: (error: unknown) => void = () => undefined): Promise<WitnessFile> {
  const file = join(folder, WITNESS_FILE)
  let content = (await read(file)) ?? { instance, name: randomUUID(), generation: 1, beat: 0, held: {} }
  if (content.instance !== instance)
    throw new Error(`${folder} holds the audit log of instance "${content.instance}", the configuration is that of "${instance}"`)

  const add = (last: ReadonlyMap<number, string>): void => {
    const newer = [...last].filter(([partition, id]) => isAfter(id, content.held[partition] ?? ''))
    content = { ...content, held: { ...content.held, ...Object.fromEntries(newer) } }
  }
  // The log may be that of another ledger, from before this one; what came since the last version is not.
  if (content.ledger !== undefined && content.beat > 0) add(await lastRecorded(folder, content.beat - OVERLAP_MS))

  /** One after the other, each with all that is known by then. */
  let writing: Promise<void> = Promise.resolve()
  let timer: NodeJS.Timeout | undefined
  const writeHeld = () => write().catch(onFailed)
  const write = (): Promise<void> => {
    clearTimeout(timer)
    timer = undefined
    writing = writing.catch(() => undefined).then(() => replace(file, JSON.stringify(content)))
    return writing
  }
  return {
    name: content.name,
    kept: () => {
      const { ledger, generation, beat, held } = content
      return ledger === undefined
        ? undefined
        : { ledger, generation, beat, held: new Map(Object.entries(held).map(([partition, id]) => [Number(partition), id])) }
    },
    note: (change) => {
      const isOther = change.ledger !== undefined && change.ledger !== content.ledger
      content = { ...content, ...change, ...(isOther && { held: {} }) }
      return write()
    },
    hold: (last) => {
      add(last)
      timer ??= setTimeout(() => void writeHeld(), WRITE_MS).unref()
    },
    close: () => (timer ? writeHeld() : writing.catch(onFailed)),
  }
}

async function read(file: string): Promise<Content | undefined> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw error
  })
  if (text === undefined) return undefined
  try {
    return Content.parse(JSON.parse(text))
  } catch (cause) {
    throw new Error(`${file} cannot be read; remove it, if you know that Redis has lost nothing`, { cause })
  }
}

/** All or nothing, and there once this answers. */
async function replace(file: string, text: string): Promise<void> {
  const folder = dirname(file)
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const other = `${file}.${OWN}`
  const next = await open(other, 'w', 0o600)
  try {
    await next.writeFile(text)
    await next.datasync()
  } finally {
    await next.close()
  }
  await rename(other, file)
  await syncFolder(folder)
}
