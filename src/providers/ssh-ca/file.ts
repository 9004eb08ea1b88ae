import { constants } from 'node:fs'
import { access, open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { ProviderError } from '../provider.js'

/** sshd, which reads it, may run as another user. */
const MODE = 0o644

/** Puts the bytes in the file's place at once: a reader sees the old ones or the new ones, also after a loss of power. */
export async function replaceFile(path: string, bytes: Buffer): Promise<void> {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`
  try {
    const file = await open(temporary, 'wx', MODE)
    try {
      await file.chmod(MODE)
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
    const folder = await open(dirname(path), 'r')
    await folder.sync().finally(() => folder.close())
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => undefined)
    throw new ProviderError('broken', `krl_file cannot be written${codeOf(cause)}: the broker must be able to make files in its folder`, { cause })
  }
}

/** Keeps a file as `read` says, one write at a time; whoever asks while one waits is served by it. */
export interface KeptFile {
  /** Once it returns, the file holds what was to be read when this was called. */
  write(): Promise<void>
  /** @throws ProviderError when it cannot be written, or the last write failed */
  check(): Promise<void>
  close(): Promise<void>
}

export function keepFile(path: string, everyMs: number, read: () => Promise<Buffer>): KeptFile {
  let trouble: unknown
  let waiting: Promise<void> | undefined
  let running: Promise<unknown> = Promise.resolve()
  const writeNow = async () => {
    waiting = undefined
    const bytes = await read()
    const there = await readFile(path).catch(() => undefined)
    if (there?.equals(bytes) !== true) await replaceFile(path, bytes)
  }
  const write = (): Promise<void> => {
    if (waiting !== undefined) return waiting
    waiting = running.then(writeNow)
    running = waiting.then(
      () => {
        trouble = undefined
      },
      (error: unknown) => {
        trouble = error
      },
    )
    return waiting
  }
  // What fails here is told by the next check, and to whom a revoke fails.
  const timer = setInterval(() => void write().catch(() => undefined), everyMs)
  timer.unref()
  void write().catch(() => undefined)
  return {
    write,
    async check() {
      await checkFolder(path)
      if (trouble !== undefined) throw trouble
    },
    async close() {
      clearInterval(timer)
      await running
    },
  }
}

/** Whether files can be made beside this one. */
export async function checkFolder(path: string): Promise<void> {
  await access(dirname(path), constants.W_OK | constants.X_OK).catch((cause: unknown) => {
    throw new ProviderError('refused', `krl_file: the broker may not make files in its folder${codeOf(cause)}`, { cause })
  })
}

function codeOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? ` (${String(error.code)})` : ''
}
