import type { Logger } from 'pino'
import type { Extent, Reader } from '../audit/history.js'
import type { House } from '../house.js'
import type { Identity } from '../identity/identity.js'
import type { AgentRule } from '../identity/options.js'
import type { PolicyFile } from '../policy/options.js'
import type { Simulation } from '../policy/simulate.js'
import type { TokenSigner } from '../signer.js'
import type { Description } from './openapi.js'
import type { Surface } from './route.js'

/** A rule that makes agents. */
export interface ConfiguredAgent extends Pick<AgentRule, 'id' | 'owner' | 'autonomy' | 'team' | 'labels' | 'openTasks' | 'match'> {
  /** Whether it could have made this id. */
  makes(id: string): boolean
}

/** What the HTTP side is given by whoever starts it. Functions, because a reload replaces what they answer. */
export interface Surroundings {
  house(): House
  identity(): Identity
  /** Absent where no provider signs tokens. */
  signer(): TokenSigner | undefined
  /** The agents of the configuration. */
  agents(): readonly ConfiguredAgent[]
  /**
   * What other policies than the binding ones would change.
   * @throws MayflyError `policy_unavailable` with all that is wrong with them
   */
  simulate(ask: SimulationRequest): Promise<Simulation>
  /**
   * Shows a reader the events that this broker's sink holds, for so long at most. `elsewhere`: of how many partitions other brokers write now.
   * @throws MayflyError `rate_limited` while somebody else reads
   */
  history(
    reader: Reader,
    deadlineMs: number,
  ): Promise<{ readonly extent: Extent; readonly elsewhere: number; readonly partitions: number; readonly longestTaskSeconds: number }>
  /** True from the moment the broker is told to stop: nothing new is issued. */
  isDraining(): boolean
  /** False while starting, and from a moment before draining, so that a load balancer looks elsewhere first. */
  isReady(): boolean
}

export interface SimulationRequest {
  /** Instead of every policy file; absent: what is only observed, together with the rest. */
  readonly policies?: readonly PolicyFile[]
  readonly schema?: string
  /** As cases are written; absent: the recorded ones. */
  readonly requests?: readonly unknown[]
  readonly sinceMs?: number
  readonly limit: number
  readonly deadlineMs: number
}

/** The same, and what one listener says of itself. */
export interface Around extends Surroundings {
  /** OpenAPI 3.1 of the routes that this listener offers. */
  openapi(): Description
}

export interface AppOptions extends Surroundings {
  readonly log: Logger
  /** `all`: public and operator routes on one listener; metrics have a listener of their own. */
  readonly surface: Surface | 'all'
  /** Addresses and networks of proxies whose `X-Forwarded-*` is believed. */
  readonly trustProxy: readonly string[]
  /** Per principal. */
  readonly requestsPerSecond: number
}
