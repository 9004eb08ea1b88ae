import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createCaller } from './caller.js'
import { check, type Verdict } from './checker.js'
import { type Evidence, heldEvidence, ledgerEvidence, sinkEvidence, upstreamEvidence } from './evidence.js'
import { strikeAll } from './faults.js'
import { startHistory, type Trial } from './history.js'
import { createHoldings } from './holdings.js'
import type { Plan } from './plan.js'
import { type Plant, plant } from './plant.js'
import { endAll, finish, heal, overdue, settle } from './settle.js'
import { startStage } from './stage.js'
import { tryOut } from './trial.js'
import { type World, work } from './workload.js'

export interface Outcome extends Verdict {
  readonly seed: number
  readonly seconds: number
  readonly faults: Readonly<Record<string, number>>
}

const TRIED_AT_ONCE = 12

/** One run: breaks things while people work, mends them, ends everything, tries every credential, and compares. */
export async function run(plan: Plan, { folder, say, planted }: { folder: string; say: (line: string) => void; planted?: Plant }): Promise<Outcome> {
  const began = performance.now()
  const crashes: string[] = []
  const stage = await startStage({ brokers: plan.brokers, seed: plan.seed, folder, onCrash: (what) => crashes.push(what) })
  const history = startHistory(join(folder, 'history.jsonl'))
  const world: World = { stage, history, holdings: createHoldings(), caller: createCaller(stage, history) }
  const { holdings, caller } = world
  try {
    say(`everything runs after ${secondsSince(began)} s`)
    const [faults, left] = await Promise.all([strikeAll(stage, plan.faults, history), work(world, plan.steps)])
    say(`${history.operations.length} requests, ${left} left out, ${holdings.credentials.length} credentials`)
    await heal(stage)
    const mended = secondsSince(began)
    say(`mended after ${mended} s; settled ${await settle(stage, history, overdue)} s later`)
    await tryAll(world, 'mended')
    await endAll(stage, caller)
    say(`settled ${await settle(stage, history)} s after the last task ended`)
    if (planted) await plant(planted, world)
    await tryAll(world, 'last')
    await finish(stage)
    const evidence = await gather(world, crashes)
    await writeFile(join(folder, 'evidence.json'), JSON.stringify(evidence), { mode: 0o600 })
    const verdict = check(evidence)
    return { seed: plan.seed, seconds: secondsSince(began), ...verdict, faults }
  } finally {
    await history.close()
    await stage.stop()
  }
}

/** Every credential that anybody received. */
export async function tryAll({ stage, history, holdings }: World, phase: Trial['phase']): Promise<void> {
  let next = 0
  const tryNext = async () => {
    for (let held = holdings.credentials[next++]; held; held = holdings.credentials[next++]) await tryOut(stage, history, held, phase)
  }
  await Promise.all(Array.from({ length: TRIED_AT_ONCE }, tryNext))
}

export async function gather({ stage, history, holdings }: World, crashes: readonly string[]): Promise<Evidence> {
  const [upstream, ledger, events] = [await upstreamEvidence(stage), await ledgerEvidence(stage.redis.client), await sinkEvidence(stage)]
  return { operations: history.operations, trials: history.trials, held: heldEvidence(holdings.credentials), ledger, events, upstream, crashes }
}

function secondsSince(began: number): number {
  return Math.round((performance.now() - began) / 100) / 10
}
