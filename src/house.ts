import type { Drill } from './drill.js'
import type { Identity } from './identity/identity.js'
import type { Roster, Standing } from './identity/roster.js'
import type { Ledger } from './ledger/ledger.js'
import type { Metrics } from './metrics.js'
import type { Policy } from './policy/policy.js'
import type { Risks } from './risk.js'
import type { Classifier } from './signals/classifier.js'
import type { Approval, Orchestrator, Role, Tool } from './types.js'
import type { Upstream } from './upstream.js'

/**
 * What the paths through the house work with: one consistent snapshot of configuration, policy and upstreams. A reload makes a new
 * one; whoever started with the old one ends with it.
 */
export interface House {
  readonly instance: string
  readonly ledger: Ledger
  readonly policy: Policy
  readonly roles: ReadonlyMap<string, Role>
  /** The catalogue: what is not in it is unknown. */
  readonly tools: ReadonlyMap<string, Tool>
  /** Agents as they are configured now, for decisions about what they hold. */
  readonly roster: Roster
  /** Issuers whose keys are for the day on which no other works. */
  readonly breakGlass: ReadonlySet<string>
  /** On whose behalf agents act: who shows it, and what the configuration makes of what was shown before. */
  readonly humans: { readonly verify: Identity['verifyHuman']; readonly standing: Standing }
  readonly upstreams: ReadonlyMap<string, Upstream>
  readonly vocabulary: { readonly intents: ReadonlySet<string>; readonly environments: ReadonlySet<string> }
  /** Asked what a task is about where nobody's word is enough; absent: nobody is asked. */
  readonly classifier?: Classifying
  readonly limits: Limits
  readonly approvals: Approvals
  /** Credentials that are minted now and then to see how soon they die. */
  readonly drills: readonly Drill[]
  readonly reconciling: Reconciling
  readonly risk: Risks
  readonly metrics: Metrics
  readonly log: Log
  /** Work that an answer does not wait for (revokes under way); a drain waits for it. */
  readonly background: Background
}

export interface Classifying extends Classifier {
  /** Whether this one's own word classifies, where it names an intent of the catalogue. */
  trusts(orchestrator: Pick<Orchestrator, 'id'>): boolean
}

/** What exists upstream is held against the ledger now and then. */
export interface Reconciling {
  /** 0: only when an operator asks. */
  readonly everyMs: number
  readonly revoke: boolean
  /** Orphans of one provider that are revoked without an operator. */
  readonly most: number
}

export interface Limits {
  readonly perAgentLive: number
  readonly perTaskLive: number
  /** Tasks that one agent opened for itself and the ledger still holds. */
  readonly perAgentTasks: number
  /** Longest deadline a task may have, seconds. */
  readonly maxTaskSeconds: number
  readonly maxTaskDepth: number
  /** True: no credential outlives the workload token that asked for it. */
  readonly withinTokenLife: boolean
}

export interface Approvals {
  /** How long humans have to answer, seconds. */
  readonly ttlSeconds: number
  /** How long a granted one may wait to be used. */
  readonly grantedSeconds: number
  /** Not over yet, of one agent in the tree of one task. */
  readonly openPerTask: number
  /** And in all tasks of a partition: humans who are asked too much agree to anything. */
  readonly openPerAgent: number
  /** Tells whoever wants to know. Answers at once, and never throws. */
  notify(what: 'asked' | 'granted' | 'denied', approval: Approval): void
}

export interface Log {
  debug(fields: object, message: string): void
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

export interface Background {
  /** Keeps hold of the promise until it ends; a rejection is logged, never lost. */
  run(what: string, work: Promise<unknown>): void
  /** Waits for all of it, at most `ms`. */
  drain(ms: number): Promise<void>
}
