import { readFileSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { waitFor } from '../../test/support/wait.js'
import { type Fleet, startFleet } from '../fleet.js'
import { median, round } from '../support.js'
import { seed } from './seed.js'

const ROLES = ['role-0', 'role-long']
const STARTS = 10
/** After a start, while all that lives is decided anew. */
const SETTLE_MS = 15_000
const SAMPLE_MS = 50

/** What a start costs with many live leases, beside one on an empty ledger and one with a tenth: alternating, in the same run. */
export async function measureStartup({ quick, say }: { quick: boolean; say: (line: string) => void }): Promise<object> {
  const leases = quick ? 50_000 : 1_000_000
  const starts = quick ? 3 : STARTS
  const fleets = { empty: await fleet(), tenth: await fleet(), full: await fleet() }
  say(`seeding ${leases} live leases, and a tenth of them`)
  const { issued, sample } = await seed(fleets.full, leases)
  await seed(fleets.tenth, leases / 10)
  const [empty, full] = [fleets.empty, fleets.full]
  const commands = { empty: await commandsOfAStart(empty), full: await commandsOfAStart(full) }

  const ms = { empty: [] as number[], full: [] as number[] }
  for (const one of Object.values(fleets)) await one.stopBroker()
  for (let n = 1; n <= starts; n++) {
    for (const which of n % 2 === 0 ? (['full', 'empty'] as const) : (['empty', 'full'] as const)) {
      const began = performance.now()
      await fleets[which].startBroker()
      ms[which].push(performance.now() - began)
      await fleets[which].stopBroker()
    }
    say(`start ${n}: empty ${round(ms.empty.at(-1) ?? 0, 0)} ms, full ${round(ms.full.at(-1) ?? 0, 0)} ms`)
  }
  const memory = { empty: await memoryAfterStart(empty), tenth: await memoryAfterStart(fleets.tenth), full: await memoryAfterStart(full) }
  await full.startBroker()
  const checked = await check(full, leases, sample)
  for (const one of Object.values(fleets)) await one.stop()
  const middle = { empty: round(median(ms.empty), 0), full: round(median(ms.full), 0) }
  return {
    leases,
    seeded: true,
    issued_by_broker: issued,
    commands,
    ms: { ...middle, difference: round(median(ms.full.map((one, n) => one - (ms.empty[n] ?? 0))), 0), starts },
    memory,
    ...checked,
  }
}

async function fleet(): Promise<Fleet> {
  return startFleet({ roles: ROLES, ttlSeconds: 3_600 })
}

/**
 * Commands that a broker sends from its first connection until its first sweep or audit turn, when start-up is over and its regular rounds
 * begin. As Redis's MONITOR shows them; what scripts call inside is Redis's work, not a command.
 */
export async function commandsOfAStart(fleet: Fleet): Promise<number> {
  await fleet.stopBroker()
  const redis = new Redis(fleet.redisSocket)
  const monitor = await redis.monitor()
  let sent = 0
  let started = false
  monitor.on('monitor', (_time: string, args: string[], source: string) => {
    if (source === 'lua' || started) return
    if (args.some((arg) => /^mf:\{p\d+\}:(sweep|audit)$/.test(arg))) started = true
    else sent++
  })
  await fleet.startBroker()
  await waitFor('the first sweep', () => started)
  monitor.disconnect()
  redis.disconnect()
  return sent
}

/**
 * While all that lives is decided anew: `rss_mib` with what V8 has yet to collect, which depends on how much is done; `heap_mib` the least that the heap
 * came down to, which is what is kept.
 */
async function memoryAfterStart(fleet: Fleet): Promise<{ rss_mib: number; heap_mib: number }> {
  await fleet.startBroker()
  await pause(SETTLE_MS)
  let heap = Number.POSITIVE_INFINITY
  for (const until = performance.now() + SETTLE_MS; performance.now() < until; await pause(SAMPLE_MS))
    heap = Math.min(heap, Number(/^mayfly_nodejs_heap_size_used_bytes (\S+)$/m.exec(await fleet.metrics())?.[1]))
  const status = readFileSync(`/proc/${fleet.pid}/status`, 'utf8')
  await fleet.stopBroker()
  return { rss_mib: round(Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024, 0), heap_mib: round(heap / 2 ** 20, 0) }
}

/** What was written beside the broker is to it what it wrote itself: counted, shown, returned, and ended with its task. */
async function check(fleet: Fleet, leases: number, { task, agent, clone }: { task: string; agent: string; clone: string }): Promise<object> {
  const call = async (sub: string, path: string, method = 'GET') => {
    const headers = { authorization: `Bearer ${await fleet.token(sub)}`, 'content-type': 'application/json' }
    const answer = await fetch(`http://127.0.0.1:${fleet.port}${path}`, { method, headers, ...(method === 'POST' && { body: '{}' }) })
    if (answer.status !== 200) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`)
    return (await answer.json()) as { lease?: { state: string }; leases?: { state: string }[] }
  }
  const live = Number(/^mayfly_leases_live (\d+)$/m.exec(await fleet.metrics())?.[1])
  const shown = (await call('oncall', `/v1/leases?task=${task}&state=active&limit=500`)).leases?.length
  const returned = (await call(agent, `/v1/leases/${clone}?wait=10`, 'DELETE')).lease?.state
  const ended = (await call('flows', `/v1/tasks/${task}/complete?wait=10`, 'POST')).leases ?? []
  const revoked = ended.filter(({ state }) => state === 'revoked').length
  if (live !== leases || returned !== 'revoked' || revoked !== (shown ?? 0) - 1)
    throw new Error(`the seeded leases are not what they should be: ${JSON.stringify({ live, shown, returned, revoked })}`)
  return { checked: { live, shown, returned, revoked_with_their_task: revoked } }
}
