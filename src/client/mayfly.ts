import type { TaskRequest, WhoamiAnswer } from '../api.js'
import { type Leases, leases } from './leases.js'
import { type OperatorCalls, operator } from './operator.js'
import { type OpenTask, runTask } from './task.js'
import { type Tasks, tasks } from './tasks.js'
import { type Tools, tools } from './tools.js'
import { type CallOptions, createTransport, type OnBehalfOf, type Transport, type TransportOptions } from './transport.js'

/**
 * The broker's API over `fetch`. A class, because it holds where the broker is and how to get the token. Sends again only what is safe to
 * (reads, returns, heartbeats, ends, and obtaining under a key of its own), at most twice, after a lost connection or a 503 that says when.
 * @throws MayflyApiError what the broker refused · MayflyUnreachableError no answer · the signal's reason
 */
export class Mayfly {
  readonly leases: Leases
  readonly tasks: Tasks
  readonly tools: Tools
  readonly operator: OperatorCalls
  readonly #send: Transport

  constructor(options: TransportOptions) {
    this.#send = createTransport(options)
    this.leases = leases(this.#send)
    this.tasks = tasks(this.#send)
    this.tools = tools(this.#send)
    this.operator = operator(this.#send)
  }

  /** Opens a task for as long as `block` runs: see `runTask`. */
  task<T>(ask: TaskRequest, block: (task: OpenTask) => Promise<T>, options?: CallOptions & OnBehalfOf): Promise<T> {
    return runTask(this, ask, block, options)
  }

  /** Who the broker thinks the caller is; with `task`, what it could obtain for it. */
  whoami({ task, signal }: CallOptions & { task?: string } = {}): Promise<WhoamiAnswer> {
    return this.#send({ method: 'GET', path: 'v1/whoami', query: { task }, repeatable: true, signal })
  }
}
