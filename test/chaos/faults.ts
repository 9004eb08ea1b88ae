import type { History } from './history.js'
import { type Fault, LINKS, type Link, TROUBLES, type Trouble } from './plan.js'
import type { Stage } from './stage.js'

/** Breaks what the plan says, for as long as it says, and mends it. `skipped`: there was nothing to break, because something else had. */
export async function strike(stage: Stage, fault: Fault): Promise<'struck' | 'skipped'> {
  const { redis, cache, postgres } = stage
  const broker = fault.broker === undefined ? undefined : stage.brokers[fault.broker]
  const [, link, trouble] = PROXIED.exec(fault.kind) ?? []
  if (link !== undefined) {
    const links = (broker ? [broker] : stage.brokers).map(({ links }) => links[link as Link])
    for (const one of links) one.trouble(trouble as Trouble, fault.amount)
    await pause(fault.forMs)
    for (const one of links) one.heal()
    return 'struck'
  }
  switch (fault.kind) {
    case 'broker-kill':
    case 'broker-term':
    case 'clock-skew':
      // One that is starting is as good as one that works.
      if (broker === undefined || broker.isPaused()) return 'skipped'
      await (fault.kind === 'broker-term' ? broker.term() : broker.kill())
      await pause(fault.forMs)
      void broker.start({ skewMs: fault.kind === 'clock-skew' ? fault.amount : 0 })
      return 'struck'
    case 'broker-pause':
      if (!broker?.pause()) return 'skipped'
      await pause(fault.forMs)
      broker.resume()
      return 'struck'
    case 'redis-kill':
      await redis.kill()
      await pause(fault.forMs)
      await redis.restart()
      return 'struck'
    case 'redis-pause':
    case 'cache-pause': {
      const { pid } = fault.kind === 'redis-pause' ? redis : cache
      process.kill(pid(), 'SIGSTOP')
      await pause(fault.forMs)
      process.kill(pid(), 'SIGCONT')
      return 'struck'
    }
    case 'redis-full':
      await redis.client.config('SET', 'maxmemory', '1mb')
      await pause(fault.forMs)
      await redis.client.config('SET', 'maxmemory', '0')
      return 'struck'
    case 'script-flush':
      await redis.client.script('FLUSH')
      return 'struck'
    case 'postgres-kill':
      await postgres.crash()
      await pause(fault.forMs)
      await postgres.restart()
      return 'struck'
  }
  throw new Error(`there is no fault "${fault.kind}"`)
}

/** Strikes each fault when its time comes. @returns how often each was struck */
export async function strikeAll(stage: Stage, faults: readonly Fault[], history: History): Promise<Record<string, number>> {
  const struck: Record<string, number> = {}
  const began = performance.now()
  await Promise.all(
    faults.map(async (fault) => {
      await pause(fault.at - (performance.now() - began))
      history.note({ fault, at: performance.timeOrigin + performance.now() })
      const what = await strike(stage, fault)
      history.note({ mended: fault.kind, what, at: performance.timeOrigin + performance.now() })
      if (what === 'struck') struck[fault.kind] = (struck[fault.kind] ?? 0) + 1
    }),
  )
  return struck
}

const PROXIED = new RegExp(`^(${LINKS.join('|')})-(${TROUBLES.join('|')})$`)

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, ms)))
}
