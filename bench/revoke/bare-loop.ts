import { resolve } from 'node:path'
import { MEASURED, startPinned } from '../support.js'

/** Of revokes at PostgreSQL, in the broker and in the baseline. */
export const CONCURRENCY = 8

/** The seconds in which a bare loop ends as many roles, on the broker's core, shared out among these broker users. */
export async function bareLoop(urls: readonly string[], roles: number): Promise<number> {
  const script = resolve(import.meta.dirname, 'bare-sql.ts')
  const bare = await startPinned(MEASURED, [process.execPath, '--import', 'tsx', script, JSON.stringify(urls), `${roles}`, `${CONCURRENCY}`], {
    ready: (line) => (line.startsWith('{"seconds"') ? Number(JSON.parse(line).seconds) : undefined),
  })
  await bare.stop()
  return bare.answer
}
