import { ProviderError, type Register } from '../provider.js'
import { type Asked, closedBefore } from './entries.js'
import type { Iam } from './iam.js'
import type { Rewriting } from './rewrite.js'
import { RoleWriter } from './writer.js'

/** The revocations of all AWS roles of one provider. */
export interface Revocations {
  /** `list` is the ARN of the AWS role. */
  add(list: string, asked: Asked, signal: AbortSignal): Promise<'revoked' | 'absent'>
  /** Sessions issued before this time (ms) are denied, whichever they are. */
  closedBefore(list: string): Promise<number | undefined>
  close(): Promise<void>
}

export interface RevocationsOptions extends Omit<Rewriting, 'list' | 'policy' | 'register' | 'owns'> {
  readonly iam: Iam
  /** Throws unless the role is of the broker's own AWS account; `isAsked`: AWS is asked once more. */
  owns(list: string, isAsked: boolean): Promise<void>
  readonly register: Register | undefined
  /** Between two looks, about: brokers are not to look all at once. */
  readonly lookMs: number
}

export function openRevocations({ iam, register, lookMs, owns, ...given }: RevocationsOptions): Revocations {
  const writers = new Map<string, RoleWriter>()
  const lists = register && told(register)
  const writerOf = (list: string): RoleWriter => {
    if (lists === undefined) throw new ProviderError('broken', 'early revocation needs the ledger')
    const made = () =>
      new RoleWriter({ ...given, list, register: lists, policy: iam.policyOf(roleNameOf(list)), owns: (isAsked) => owns(list, isAsked) })
    const writer = writers.get(list) ?? made()
    writers.set(list, writer)
    return writer
  }
  /** At every role that has revocations: what has passed goes, and what is not as it should be is put right. */
  const look = async () => {
    // A ledger that is away is told by whoever needs it for a lease.
    const names = (await lists?.lists().catch(() => [])) ?? []
    for (const list of names) writerOf(list).look()
  }
  let isClosed = false
  let timer: NodeJS.Timeout | undefined
  const later = () => {
    timer = setTimeout(() => void look().finally(() => !isClosed && later()), lookMs * (0.75 + Math.random() / 2))
    timer.unref()
  }
  if (lists !== undefined) later()

  return {
    add: async (list, asked, signal) => writerOf(list).written(asked, signal),
    async closedBefore(list) {
      if (lists === undefined) throw new ProviderError('broken', 'early revocation needs the ledger')
      const second = closedBefore((await lists.read(list)).entries)
      return second === undefined ? undefined : second * 1000
    },
    async close() {
      isClosed = true
      clearTimeout(timer)
      await Promise.all([...writers.values()].map((writer) => writer.close()))
    },
  }
}

/** The register, with its trouble in a provider's words. */
function told(register: Register): Register {
  const guard = <Answer>(answer: Promise<Answer>): Promise<Answer> =>
    answer.catch((cause: unknown) => {
      throw new ProviderError('unreachable', 'the ledger could not be reached', { cause })
    })
  return {
    add: (list, entry) => guard(register.add(list, entry)),
    read: (list) => guard(register.read(list)),
    lists: () => guard(register.lists()),
    lock: (list, ms) => guard(register.lock(list, ms)),
  }
}

/** IAM names a role without its path. */
export function roleNameOf(arn: string): string {
  return arn.slice(arn.lastIndexOf('/') + 1)
}
