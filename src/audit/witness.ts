import { randomUUID } from 'node:crypto'
import { mkdir, open, readFile, rename } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { z } from 'zod'
import { lastRecorded } from './history.js'

/** Beside the events: what was seen of the ledger, so that one which has forgotten some of it is recognised. */
export const WITNESS_FILE = 'witness.json'

/** Brokers that share a folder do not write into each other's half. */
const OWN = randomUUID()
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
  /** These events are in the log, on disk; written with the next note. Until then the log itself says so, to whoever opens this. */
  hold(last: ReadonlyMap<number, string>): void
}

/**
 * Opens the witness of a log. It is replaced as a whole, and only ever says what was true before: one that is lost, or a version behind, notices
 * less, and none raises an alarm for nothing. So may brokers share a folder: the last writer's is there.
 * @throws Error when it is that of another instance, or cannot be read
 */
export async function openWitness(folder: string, instance: string): Promise<WitnessFile> {
  const file = join(folder, WITNESS_FILE)
  let content = (await read(file)) ?? { instance, name: randomUUID(), generation: 1, beat: 0, held: {} }
  if (content.instance !== instance)
    throw new Error(`${folder} holds the audit log of instance "${content.instance}", the configuration is that of "${instance}"`)

  const hold = (last: ReadonlyMap<number, string>): void => {
    content = { ...content, held: { ...content.held, ...Object.fromEntries(last) } }
  }
  hold(await lastRecorded(folder))

  /** One after the other, each with all that is known by then. */
  let writing: Promise<void> = Promise.resolve()
  const write = (): Promise<void> => {
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
      content = { ...content, ...change }
      return write()
    },
    hold,
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
  const directory = await open(folder)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
