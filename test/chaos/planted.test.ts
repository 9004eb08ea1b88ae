import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { createCaller } from './caller.js'
import { check } from './checker.js'
import { startHistory } from './history.js'
import { createHoldings } from './holdings.js'
import type { Step } from './plan.js'
import { plant } from './plant.js'
import { gather, tryAll } from './run.js'
import { endAll, settle, tellAll } from './settle.js'
import { startStage } from './stage.js'
import { type World, work } from './workload.js'

/** What really ran, and nothing was wrong with it: a broker, its ledger, its upstreams, and a defect in them that the checker has to find. */
let folder: string
let world: World

const OPEN: Step = { at: 0, kind: 'open', dice: [0.5, 0.9, 0.5, 0.5] }
/** Of a login at PostgreSQL. */
const OBTAIN: Step = { at: 0, kind: 'obtain', dice: [0.5, 0.1, 0.5, 0.5] }

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mayfly-chaos-test-'))
  const stage = await startStage({ brokers: 1, seed: 1, folder, onCrash: () => undefined })
  const history = startHistory(join(folder, 'history.jsonl'))
  world = { stage, history, holdings: createHoldings(), caller: createCaller(stage, history) }
  await work(world, [OPEN])
  await work(
    world,
    Array.from({ length: 3 }, () => OBTAIN),
  )
  await endAll(stage, world.caller)
  await settle(stage, history)
}, 120_000)
afterAll(async () => {
  await world?.history.close()
  await world?.stage.stop()
  if (folder) await rm(folder, { recursive: true, force: true })
}, 30_000)

const totals = async () => {
  world.history.trials.length = 0
  await tryAll(world, 'last')
  await tellAll(world.stage)
  return check(await gather(world, [])).totals
}
const NONE = { issued: 3, live: 0, orphans: 0, lost: 0, falsely_reported: 0 }
/** The n-th lease alone is what is planted with. */
const of = (n: number): World => ({ ...world, holdings: { ...world.holdings, credentials: world.holdings.credentials.slice(n, n + 1) } })

describe('on what really ran', () => {
  it('the checker finds nothing that is not there', async () => {
    expect(await totals()).toEqual(NONE)
  })

  it('it finds an orphan', async () => {
    await plant('orphan', of(0))
    expect(await totals()).toEqual({ ...NONE, orphans: 1 })
    await world.stage.postgres.query(`DROP ROLE "mf-chaos-00${'a'.repeat(26)}"`)
  })

  it('it finds what was told as dead and works', async () => {
    await plant('falsely_reported', of(0))
    const seen = check(await gather(world, [])).totals
    expect(seen).toMatchObject({ falsely_reported: 1, orphans: 0, lost: 0 })
  })

  it('it finds a lease that the ledger lost', async () => {
    await plant('lost', of(1))
    expect(await totals()).toEqual({ ...NONE, lost: 1 })
  })

  it('it finds what is live', async () => {
    await plant('live', of(2))
    expect(await totals()).toMatchObject({ issued: 3, live: 1, orphans: 0 })
  })
})
