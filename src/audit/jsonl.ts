import { type FileHandle, mkdir, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Sink, SourceEntry } from './audit.js'

/** File in the sink's folder. Reopened for each batch, so that it may be rotated by renaming. */
export const EVENTS_FILE = 'events.jsonl'

/** One JSON object a line: `{partition, stream_id, at, …event}`, on disk (fsync) before `write` answers. The folder is private. */
export function createJsonlSink(name: string, folder: string): Sink {
  return {
    name,
    write: async (entries) => {
      await mkdir(folder, { recursive: true, mode: 0o700 })
      const file = await open(join(folder, EVENTS_FILE), 'a+', 0o600)
      try {
        const { size } = await file.stat()
        const torn = await endsInTornLine(file, size)
        await file.appendFile(`${torn ? '\n' : ''}${entries.map(lineOf).join('')}`)
        await file.datasync()
        // That there is such a file is the folder's to remember.
        if (size === 0) await syncFolder(folder)
      } finally {
        await file.close()
      }
    },
  }
}

/** What was made or renamed in it is there after a power cut. */
export async function syncFolder(folder: string): Promise<void> {
  const directory = await open(folder)
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

/** A broker that died, or a disk that was full, in the middle of a line: the next event must not become its end. */
async function endsInTornLine(file: FileHandle, size: number): Promise<boolean> {
  if (size === 0) return false
  const { buffer } = await file.read(Buffer.alloc(1), 0, 1, size - 1)
  return buffer.toString() !== '\n'
}

/** U+2028 and U+2029 are line ends to some readers; JSON leaves them as they are. */
const LINE_SEPARATORS = /[\u2028\u2029]/g

function lineOf({ partition, streamId, json }: SourceEntry): string {
  const at = new Date(Number(streamId.split('-')[0])).toISOString()
  const line = `{"partition":${partition},"stream_id":"${streamId}","at":"${at}",${json.slice(1)}\n`
  return line.replace(LINE_SEPARATORS, (character) => (character === '\u2028' ? '\\u2028' : '\\u2029'))
}
