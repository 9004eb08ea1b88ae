import { waitFor } from '../support/wait.js'
import type { Caller } from './caller.js'
import { type LedgerEvidence, ledgerEvidence } from './evidence.js'
import type { History } from './history.js'
import type { Stage } from './stage.js'

/** A retry is due a minute after the last at the latest, and what a killed broker had claimed after half of one. */
const SETTLE_MS = 90_000
const START_MS = 120_000
const OUTBOX_MS = 30_000
const LOOK_EVERY_MS = 500

/** Everything works again: all brokers listen, and nothing is between them and the rest. */
export async function heal(stage: Stage): Promise<void> {
  for (const { links } of stage.brokers) for (const link of Object.values(links)) link.heal()
  await Promise.all(
    stage.brokers.map(async (broker) => {
      if (broker.isPaused()) broker.resume()
      void broker.start()
      await waitFor('a broker to listen', () => broker.url(), START_MS)
    }),
  )
}

/** Ends every task that the ledger has, also those that nobody who works knows of, and gives the brokers time for what is closing. */
export async function endAll(stage: Stage, caller: Caller): Promise<void> {
  const end = performance.now() + START_MS
  for (;;) {
    const { tasks } = await ledgerEvidence(stage.redis.client)
    const active = Object.entries(tasks).filter(([, { state }]) => state === 'active')
    if (active.length === 0) return
    if (performance.now() > end) throw new Error(`${active.length} tasks could not be ended`)
    for (const [id] of active) {
      const path = `/v1/tasks/${id}/complete`
      const ask = {
        kind: 'end',
        about: { task: id },
        as: 'flows',
        method: 'POST',
        path,
        body: {},
        keep: ({ state }: { state: string }) => ({ state }),
      } as const
      await caller.ask(ask, Math.random())
    }
  }
}

/** How many leases are not settled, and emergencies not finished. */
export function unsettled({ leases, revocations }: LedgerEvidence): number {
  const open = Object.values(leases).filter(({ state }) => state !== 'r' && state !== 'e').length
  return open + Object.values(revocations).filter((finished) => !finished).length
}

/** The same of what should be over by now: not of what lives, nor of what waits for its upstream's expiry. */
export function overdue({ leases, revocations }: LedgerEvidence): number {
  const late = Object.values(leases).filter(
    ({ state, revocation, expiresAt }) => (state === 'c' && revocation !== 'at-expiry') || (state !== 'r' && state !== 'e' && expiresAt < Date.now()),
  )
  return late.length + Object.values(revocations).filter((finished) => !finished).length
}

/** @returns seconds until nothing was left of this, or the time was over */
export async function settle(stage: Stage, history: History, countLeft: (ledger: LedgerEvidence) => number = unsettled): Promise<number> {
  const began = performance.now()
  for (;;) {
    const left = countLeft(await ledgerEvidence(stage.redis.client))
    const seconds = Math.round((performance.now() - began) / 100) / 10
    if (left > 0 && performance.now() - began < SETTLE_MS) {
      await pause(LOOK_EVERY_MS)
      continue
    }
    history.note({ settled: seconds, left })
    return seconds
  }
}

/** Every event is at a sink. */
export async function tellAll(stage: Stage): Promise<void> {
  const empty = async () => (await ledgerEvidence(stage.redis.client)).outbox.every(({ left }) => left === 0)
  await waitFor('the outbox to be empty', empty, OUTBOX_MS)
}

/** And every broker has ended in order. */
export async function finish(stage: Stage): Promise<void> {
  await tellAll(stage).catch(() => undefined)
  for (const broker of stage.brokers) await broker.term()
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
