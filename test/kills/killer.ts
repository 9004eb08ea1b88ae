import { setTimeout as pause } from 'node:timers/promises'
import { oneOf, type Random } from '../support/random.js'
import { waitFor } from '../support/wait.js'
import { unsettledIn } from './ledger.js'
import type { InFlight, Slot } from './slot.js'
import type { World } from './world.js'

/** What the kills hit. One may hit a mint and a revoke at once. */
export interface Tally {
  kills: number
  /** With a lease `pending` in the ledger whose mint was the dead broker's. */
  duringMint: number
  /** With a lease `closing` in the ledger that a request at the dead broker was taking back. */
  duringRevoke: number
  idle: number
  /** Requests that were cut. */
  cut: number
  /** When no other broker was there. */
  alone: number
}

/** Longest that a moment of the wanted kind is waited for, and how far into it a kill comes, ms. */
const MOMENT_MS = 3_000
const INTO_IT_MS = 12
const ANY_TIME_MS = 400

/** Kills the broker of a slot at one chosen moment after the other, and has the next one start at once, until enough were killed. */
export async function killing(world: World, slot: Slot, others: readonly Slot[], random: Random, tally: Tally, count: number): Promise<void> {
  for (;;) {
    const lookFor = oneOf(random, ['mint', 'mint', 'revoke', 'revoke', 'anything'] as const)
    const wantsCompany = random() < 0.5
    await waitFor('the broker to have answered something', () => slot.answered() > 0, 60_000)
    if (wantsCompany) await waitFor('another broker', () => others.some((other) => other.broker()), 60_000)
    if (lookFor === 'anything') await pause(random() * ANY_TIME_MS)
    else {
      await waitFor(`a ${lookFor}`, () => [...slot.inFlight].some(({ kind }) => kind === lookFor), MOMENT_MS).catch(() => undefined)
      await pause(random() * INTO_IT_MS)
    }
    if (tally.kills >= count) return
    tally.kills++
    if (!others.some((other) => other.broker())) tally.alone++
    const cut = await slot.kill()
    await countHit(world, slot, cut, tally)
    await slot.start()
  }
}

async function countHit(world: World, slot: Slot, cut: readonly InFlight[], tally: Tally): Promise<void> {
  const unsettled = await unsettledIn(world.redis)
  const takenBack = new Set(cut.flatMap(({ leases }) => leases))
  // What others of this agent left pending before is closed as soon as its mint is over, some seconds later: only a cut mint counts.
  const mint = cut.some(({ kind }) => kind === 'mint') && unsettled.some(({ state, agent }) => state === 'p' && agent === slot.agent)
  const revoke = unsettled.some(({ state, id }) => state === 'c' && takenBack.has(id))
  tally.cut += cut.length
  if (mint) tally.duringMint++
  if (revoke) tally.duringRevoke++
  if (!mint && !revoke) tally.idle++
}
