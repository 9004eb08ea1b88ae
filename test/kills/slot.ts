import { type Answer, type BrokerProcess, SHORT_LIVED, startBrokerProcess } from '../support/broker.js'
import type { World } from './world.js'

/** What a request is about, as seen from outside: a kill during a `mint` or a `revoke` is what this is for. */
export type Kind = 'open' | 'mint' | 'revoke'
export interface InFlight {
  readonly kind: Kind
  /** Leases that it takes back. */
  readonly leases: readonly string[]
}

/** A place for a broker: when one is killed, the next comes at once. */
export interface Slot {
  /** The agent that asks for credentials here, and nowhere else: the ledger then tells whose mint a pending lease was. */
  readonly agent: string
  readonly broker: () => BrokerProcess | undefined
  readonly inFlight: ReadonlySet<InFlight>
  /** Requests answered by the broker that is here now. */
  answered(): number
  start(): Promise<void>
  /** SIGKILL. Answers what was in flight at that moment. */
  kill(): Promise<readonly InFlight[]>
  /** @throws TypeError when the broker is, or goes, away */
  call(about: InFlight, method: string, path: string, token: string, body?: unknown, headers?: Record<string, string>): Promise<Answer>
  /** Starts so far, ms each. */
  readonly startMs: readonly number[]
}

export function createSlot(world: World, name: string): Slot {
  let broker: BrokerProcess | undefined
  let answered = 0
  const inFlight = new Set<InFlight>()
  const startMs: number[] = []
  return {
    agent: name,
    broker: () => broker,
    inFlight,
    answered: () => answered,
    startMs,
    async start() {
      const began = performance.now()
      const started = await startBrokerProcess(world.prepared, { node: SHORT_LIVED })
      startMs.push(performance.now() - began)
      answered = 0
      broker = started
    },
    async kill() {
      const killed = broker
      if (!killed) throw new Error('there is nothing to kill')
      killed.signal('SIGKILL')
      const cut = [...inFlight]
      broker = undefined
      if ((await killed.ended) !== 'SIGKILL') throw new Error(`a broker ended by itself:\n${killed.output()}`)
      return cut
    },
    async call(about, method, path, token, body, headers) {
      const asked = broker
      if (!asked) throw new TypeError('no broker is here')
      inFlight.add(about)
      try {
        const answer = await asked.call(method, path, token, body, headers)
        answered++
        return answer
      } finally {
        inFlight.delete(about)
      }
    },
  }
}
