import type { Audit } from './audit/audit.js'
import { readHistory } from './audit/history.js'
import type { Config } from './config.js'
import { MayflyError } from './errors.js'
import type { Surroundings } from './http/surroundings.js'

const RETRY_AFTER_SECONDS = 5

/** What this broker's own sink holds, read by one caller at a time: it must not be in the way of issuing. */
export function createHistory(config: () => Config, audit: () => Audit | undefined): Surroundings['history'] {
  let busy = false
  return async (reader, deadlineMs) => {
    if (busy) throw new MayflyError('rate_limited', 'somebody else reads the record', { retryAfterSeconds: RETRY_AFTER_SECONDS })
    busy = true
    try {
      // What is still on its way there; without a ledger, what is there.
      await audit()
        ?.flush()
        .catch(() => undefined)
      const { sinks, ledger, limits } = config()
      const [sink] = sinks
      const extent = sink ? await readHistory(sink.path, reader, { deadlineMs }) : { files: 0, unreadable: 0, complete: true }
      const elsewhere = ledger.partitions - (audit()?.held() ?? 0)
      return { extent, elsewhere, partitions: ledger.partitions, longestTaskSeconds: limits.maxTaskSeconds }
    } finally {
      busy = false
    }
  }
}
