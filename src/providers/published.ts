import { deadline, within } from './deadline.js'
import { ProviderError, type Register, type RegisterEntry } from './provider.js'

/** What was withdrawn, as of one moment. The same version is the same entries, at every broker. */
export interface Withdrawn {
  readonly version: number
  readonly entries: readonly RegisterEntry[]
}

/** One list of the register, each call inside its time, with trouble as a ProviderError. */
export interface WithdrawnList {
  add(entry: RegisterEntry, ms: number): Promise<void>
  read(): Promise<Withdrawn>
}

export function withdrawnList(register: Register | undefined, name: string, timeoutMs: number): WithdrawnList {
  const run = async <T>(ms: number, call: (register: Register) => Promise<T>): Promise<T> => {
    if (register === undefined) throw new ProviderError('invalid', 'nothing can be withdrawn or published without a ledger')
    try {
      return await within(deadline(ms), () => call(register))
    } catch (cause) {
      if (cause instanceof ProviderError) throw cause
      throw new ProviderError('unreachable', 'the ledger, which keeps what was withdrawn, cannot be reached', { cause })
    }
  }
  return {
    add: (entry, ms) => run(ms, (it) => it.add(name, entry)),
    read: () => run(timeoutMs, (it) => it.read(name)),
  }
}

/**
 * A document made of a list: the list is read each time (who serves it sees to it that it is not asked for too often), the document is made
 * anew when the list has changed, or after `keepMs`, for documents with an end of their own.
 */
export function published<T>(
  read: () => Promise<Withdrawn>,
  build: (withdrawn: Withdrawn) => T,
  keepMs = Number.POSITIVE_INFINITY,
): () => Promise<T> {
  let last: { readonly version: number; readonly document: T; readonly builtAt: number } | undefined
  return async () => {
    const withdrawn = await read()
    const now = performance.now()
    if (last?.version !== withdrawn.version || now - last.builtAt >= keepMs)
      last = { version: withdrawn.version, document: build(withdrawn), builtAt: now }
    return last.document
  }
}
