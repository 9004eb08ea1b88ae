import type { Ledger } from '../src/ledger/ledger.js'
import { event, newLease, newTask, taskNow } from '../test/ledger/fixture.js'
import { openAt } from '../test/ledger/topology/support.js'
import { startLaggingProxy } from '../test/support/lagging-proxy.js'
import { DOWN_AFTER_MS, startSentinel } from '../test/support/redis-sentinel.js'
import { waitFor } from '../test/support/wait.js'
import { median, round } from './support.js'

const AGENTS = 32
const LOAD_MS = 1_500
const PAUSE_BETWEEN_MS = 20
/** The line from the primary to its replicas: as good as none, another zone of the same region, a replica that is behind. */
const LAGS_MS = [0, 2, 50]
const WAIT = { replicas: 1, timeoutMs: 500 }

/** What was acknowledged, until the primary died. */
interface Acknowledged {
  readonly leases: string[]
  readonly ends: string[]
  readonly freezes: string[]
  /** Told as not replicated: no loss that nobody knows of. */
  untold: number
  refused: number
}
interface Round {
  readonly acknowledged: { readonly grants: number; readonly ends: number; readonly freezes: number }
  readonly lost: { readonly grants: number; readonly ends: number; readonly freezes: number }
  /** From the kill to the next lease; absent where something was missed and a quarantine began, which waits for an operator. */
  readonly again_ms?: number
}

/**
 * A primary with two replicas behind a line that lags, and three Sentinels; the primary is killed under load. Counts what was acknowledged
 * and the new primary does not know, with and without `ledger.wait`; and how long it takes from the kill to the next lease, or
 * whether the loss was recognised, and nothing is issued until an operator says so.
 */
export async function run({ quick, say }: { quick: boolean; say: (line: string) => void }): Promise<object> {
  const rounds = quick ? 1 : 5
  const results = []
  for (const lag of quick ? LAGS_MS.slice(1) : LAGS_MS)
    for (const waits of [false, true]) {
      const each: Round[] = []
      for (let n = 1; n <= rounds; n++) {
        each.push(await oneRound(lag, waits))
        say(`lag ${lag} ms, ${waits ? 'with' : 'without'} wait, round ${n}: ${JSON.stringify(each.at(-1))}`)
      }
      results.push({ lag_ms: lag, wait: waits, rounds, ...summed(each) })
    }
  return { replicas: 2, down_after_ms: DOWN_AFTER_MS, agents: AGENTS, results }
}

async function oneRound(lag: number, waits: boolean): Promise<Round> {
  const proxies: Awaited<ReturnType<typeof startLaggingProxy>>[] = []
  const lineTo = async (port: number) => {
    const proxy = await startLaggingProxy(port, lag)
    proxies.push(proxy)
    return proxy.port
  }
  const sentinel = await startSentinel({ replicas: 2, config: ['appendfsync everysec'], ...(lag > 0 && { lineTo }) })
  const ledger = await openAt({ sentinel: sentinel.address }, { wait: waits ? WAIT : undefined })
  try {
    const tasks = await Promise.all(Array.from({ length: AGENTS }, () => open(ledger)))
    const load = startLoad(ledger, tasks)
    await new Promise((resolve) => setTimeout(resolve, LOAD_MS))
    const first = await sentinel.primary()
    const killedAt = performance.now()
    await first.kill()
    const acknowledged = await load.stop()
    const [probe] = tasks
    const issues = () => lease(ledger, probe ?? '').catch(() => undefined)
    await waitFor('the next lease or a quarantine', async () => ledger.quarantined() !== undefined || (await issues()), 60_000)
    const again_ms = ledger.quarantined() ? undefined : round(performance.now() - killedAt, 0)
    const lost = await lostOf(ledger, acknowledged)
    const { leases, ends, freezes } = acknowledged
    return { acknowledged: { grants: leases.length, ends: ends.length, freezes: freezes.length }, lost, again_ms }
  } finally {
    await ledger.disconnect()
    await sentinel.stop()
    await Promise.all(proxies.map((proxy) => proxy.close()))
  }
}

/** Until `stop`: agents that ask without a pause, and beside them ends and freezes, one after the other. */
function startLoad(ledger: Ledger, tasks: readonly string[]): { stop(): Promise<Acknowledged> } {
  const told: Acknowledged = { leases: [], ends: [], freezes: [], untold: 0, refused: 0 }
  let isOver = false
  const repeat = async (work: () => Promise<void>, pauseMs: number): Promise<void> => {
    while (!isOver) {
      await work().catch(() => told.refused++)
      if (pauseMs > 0) await new Promise((resolve) => setTimeout(resolve, pauseMs))
    }
  }
  const grant = (task: string) => async () => {
    told.leases.push(await lease(ledger, task))
  }
  const end = async () => {
    const task = await open(ledger)
    const ended = await ledger.endTask(task, { state: 'completed', cause: 'task_completed' }, event('task.ended'))
    if (!ended.ok) return
    if ((await ended.replicated) === false) told.untold++
    else told.ends.push(task)
  }
  let n = 0
  const freeze = async () => {
    const set = await ledger.freeze({ selector: { agent: [`rogue-${n++}`] }, reason: 'bench', by: 'bench' }, event('freeze.set'))
    if (set.unreachable > 0 || (await set.replicated) === false) told.untold++
    else told.freezes.push(set.freeze.id)
  }
  const loops = [...tasks.map((task) => repeat(grant(task), 0)), repeat(end, PAUSE_BETWEEN_MS), repeat(freeze, PAUSE_BETWEEN_MS)]
  return {
    stop: async () => {
      isOver = true
      await Promise.all(loops)
      return told
    },
  }
}

async function open(ledger: Ledger): Promise<string> {
  const opened = await ledger.openTask(newTask(ledger), event('task.opened'))
  if (!opened.ok) throw new Error(opened.refused)
  return opened.task.id
}

async function lease(ledger: Ledger, task: string): Promise<string> {
  const asked = newLease(ledger, await taskNow(ledger, task))
  const answer = await ledger.grant(asked, event('lease.issued', { lease: asked.id, task }))
  if (!answer.ok) throw new Error(answer.refused)
  return asked.id
}

async function lostOf(ledger: Ledger, { leases, ends, freezes }: Acknowledged): Promise<Round['lost']> {
  const known = new Set((await patiently(() => ledger.freezes())).map(({ id }) => id))
  const count = async (ids: readonly string[], isLost: (id: string) => Promise<boolean>): Promise<number> => {
    let lost = 0
    for (const id of ids) if (await patiently(() => isLost(id))) lost++
    return lost
  }
  return {
    grants: await count(leases, async (id) => (await ledger.lease(id)) === undefined),
    ends: await count(ends, async (id) => (await ledger.task(id, { fresh: true }))?.state !== 'completed'),
    freezes: freezes.filter((id) => !known.has(id)).length,
  }
}

/** The Sentinels may move the others once more. */
async function patiently<T>(ask: () => Promise<T>): Promise<T> {
  const [answer] = await waitFor(
    'an answer',
    () =>
      ask().then(
        (found) => [found] as const,
        () => undefined,
      ),
    30_000,
  )
  return answer
}

function summed(rounds: readonly Round[]) {
  const sum = (of: (one: Round) => Round['lost']) => ({
    grants: rounds.reduce((total, one) => total + of(one).grants, 0),
    ends: rounds.reduce((total, one) => total + of(one).ends, 0),
    freezes: rounds.reduce((total, one) => total + of(one).freezes, 0),
  })
  return {
    acknowledged: sum((one) => one.acknowledged),
    lost: sum((one) => one.lost),
    lost_most: Math.max(...rounds.map(({ lost }) => lost.grants)),
    quarantines: rounds.filter(({ again_ms }) => again_ms === undefined).length,
    again_ms: median(rounds.flatMap(({ again_ms }) => again_ms ?? [])),
  }
}
