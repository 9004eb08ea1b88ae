import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import type { Ledger } from '../../src/ledger/ledger.js'
import type { TestRedis } from '../support/redis.js'
import { event, makeDue, newLease, newTask, setFields, taskNow } from './fixture.js'

/**
 * What the scripts should do, in plain TypeScript, beside an upstream of the test's own: spec/lease.pml with real attempts, several leases and two
 * tasks, one below the other. Time does not pass by itself: `TimePasses` and `ComesDue` say that it has.
 */
type State = 'pending' | 'active' | 'closing' | 'revoked'
type Place = 'root' | 'child'
interface ModelLease {
  readonly task: Place
  state: State
  /** Its `mint_until` has passed. */
  late: boolean
  /** A mint was sent, and may arrive yet. */
  underway: boolean
  exists: boolean
  /** The mint has answered its broker, which has not activated it yet. */
  answered: boolean
  attempts: number
  /** It was found upstream once, after it was settled. */
  orphan?: boolean
  /** From the attempt after this one on, what is absent is so for good. */
  conclusive?: number
  due: boolean
}
interface ModelClaim {
  readonly lease: number
  readonly attempt: number
  result?: 'revoked' | 'absent'
}
export interface Model {
  readonly ended: Set<Place>
  frozen: boolean
  readonly leases: ModelLease[]
  readonly claims: ModelClaim[]
}
export interface Real {
  readonly ledger: Ledger
  readonly redis: TestRedis
  readonly provider: string
  readonly agent: string
  readonly tasks: Readonly<Record<Place, string>>
  readonly ids: string[]
  freeze?: string
}
type Command = fc.AsyncCommand<Model, Real>

/** One tree of tasks, an agent and a provider of this run alone: runs share a Redis and do not meet. */
export async function begin(ledger: Ledger, redis: TestRedis): Promise<{ model: Model; real: Real }> {
  const run = randomUUID().slice(0, 8)
  const [agent, provider] = [`agent-${run}`, `upstream-${run}`]
  const open = async (parent?: string) => {
    const opened = await ledger.openTask(newTask(ledger, { parent, assignees: [{ agent }] }), event('task.opened'))
    if (!opened.ok) throw new Error(`the task was refused: ${opened.refused}`)
    return opened.task.id
  }
  const root = await open()
  const tasks = { root, child: await open(root) }
  return { model: { ended: new Set(), frozen: false, leases: [], claims: [] }, real: { ledger, redis, provider, agent, tasks, ids: [] } }
}

const isOver = ({ ended }: Model, task: Place) => ended.has('root') || (task === 'child' && ended.has('child'))
const isLive = ({ state }: ModelLease) => state === 'pending' || state === 'active'
const told = (type: 'lease.issued' | 'lease.closing' | 'lease.revoked' | 'task.ended' | 'freeze.set' | 'freeze.thawed' | 'lease.stuck') => event(type)

/** A claim, as the scripts make one. */
function take(model: Model, index: number): ModelClaim {
  const lease = at(model, index)
  if (lease.conclusive === undefined && lease.late) lease.conclusive = lease.attempts
  lease.attempts++
  lease.due = false
  const claim = { lease: index, attempt: lease.attempts }
  model.claims.push(claim)
  return claim
}
function shut(lease: ModelLease): void {
  lease.state = 'closing'
  lease.due = true
}
function at({ leases }: Pick<Model, 'leases'>, index: number): ModelLease {
  const lease = leases[index]
  if (!lease) throw new Error(`there is no lease ${index}`)
  return lease
}
function same(what: string, found: unknown, expected: unknown): void {
  if (JSON.stringify(found) !== JSON.stringify(expected)) throw new Error(`${what}: ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`)
}

/** What exists has a record that is not settled; and the two agree on each state. */
async function agree(model: Model, { ledger, ids }: Real): Promise<void> {
  for (const [index, lease] of model.leases.entries()) {
    const record = await ledger.lease(ids[index] ?? '')
    same(`state of lease ${index}`, record?.state, lease.state)
    if (lease.exists && lease.state === 'revoked') throw new Error(`lease ${index} is settled, and its credential is there`)
  }
}

function command(name: string, may: (model: Model) => boolean, run: (model: Model, real: Real) => Promise<void>): Command {
  return {
    check: (model) => may(model),
    run: async (model, real) => {
      await run(model, real)
      await agree(model, real)
    },
    toString: () => name,
  }
}
const onLease = (
  name: string,
  which: number,
  may: (lease: ModelLease) => boolean,
  run: (model: Model, real: Real, index: number) => Promise<void>,
) => {
  const index = ({ leases }: Model) => which % leases.length
  return command(
    `${name}(${which})`,
    (model) => model.leases.length > 0 && may(at(model, index(model))),
    (model, real) => run(model, real, index(model)),
  )
}

const reserve = (task: Place) =>
  command(
    `Reserve(${task})`,
    ({ leases }) => leases.length < 4,
    async (model, { ledger, provider, agent, tasks, ids }) => {
      const as = newLease(ledger, await taskNow(ledger, tasks[task]))
      const lease = { ...as, agent: { ...as.agent, id: agent }, role: { ...as.role, provider } }
      const answer = await ledger.reserve(lease, event('lease.reserved'))
      const refused = isOver(model, task) ? 'ended' : model.frozen ? 'frozen' : undefined
      same('reserve', answer.ok ? undefined : answer.refused, refused)
      if (refused !== undefined) return
      ids.push(lease.id)
      model.leases.push({ task, state: 'pending', late: false, underway: true, exists: false, answered: false, attempts: 0, due: false })
    },
  )

const mintArrives = (which: number) =>
  onLease(
    'MintArrives',
    which,
    ({ underway }) => underway,
    async (model, _real, index) => {
      Object.assign(at(model, index), { underway: false, exists: true, answered: true })
    },
  )

const activate = (which: number) =>
  onLease(
    'Activate',
    which,
    ({ answered }) => answered,
    async (model, { ledger, provider, agent, tasks, ids }, index) => {
      const lease = at(model, index)
      const record = await ledger.lease(ids[index] ?? '')
      const as = newLease(ledger, await taskNow(ledger, tasks[lease.task]), { id: ids[index] })
      const asked = {
        ...as,
        agent: { ...as.agent, id: agent },
        role: { ...as.role, provider },
        facts: { ...as.facts, contextVersion: record?.contextVersion ?? 1 },
      }
      const answer = await ledger.activate(asked, { handle: { user: 'mf_y' }, expiresAt: ledger.now() + 600_000 }, told('lease.issued'))
      lease.answered = false
      if (lease.state !== 'active') {
        lease.late = true
        lease.conclusive = lease.attempts
      }
      if (lease.state === 'pending' && !isOver(model, lease.task) && !model.frozen) Object.assign(lease, { state: 'active', due: false })
      same('activate', answer.state, lease.state === 'active' ? 'active' : 'closing')
      if (lease.state === 'active') return
      shut(lease)
      same('the claim of activate', answer.claim?.attempt, take(model, index).attempt)
    },
  )

const close = (which: number) =>
  onLease(
    'Close',
    which,
    () => true,
    async (model, { ledger, ids }, index) => {
      const lease = at(model, index)
      const answer = await ledger.close(ids[index] ?? '', 'released', told('lease.closing'))
      const claims = isLive(lease) || (lease.state === 'closing' && lease.due)
      if (isLive(lease)) shut(lease)
      same('the claim of close', answer.ok ? answer.claim?.attempt : 'none', claims ? take(model, index).attempt : undefined)
    },
  )

/** Its name is there again, whoever made it, and reconciliation finds it. */
const found = (which: number) =>
  onLease(
    'Found',
    which,
    () => true,
    async (model, { ledger, provider, ids }, index) => {
      const lease = at(model, index)
      const orphan = { lease: ids[index] ?? '', provider, handle: { user: 'mf_y' }, revocation: 'immediate', residualSeconds: 0 } as const
      const answer = await ledger.adopt(orphan, told('lease.closing'))
      const isNew = lease.state === 'revoked'
      same('adopted', answer.adopted, isNew)
      if (!isNew) return
      Object.assign(lease, { state: 'closing', exists: true, late: true, orphan: true, conclusive: lease.attempts })
      same('the claim of what was adopted', answer.claim?.attempt, take(model, index).attempt)
    },
  )

const timePasses = (which: number) =>
  onLease(
    'TimePasses',
    which,
    ({ late }) => !late,
    async (model, { ledger, redis, provider, ids }, index) => {
      const lease = at(model, index)
      lease.late = true
      lease.underway = false
      await setFields(redis, 'lease', ids[index] ?? '', { mu: ledger.now() - 1_000 })
      if (lease.state !== 'pending') return
      lease.due = true
      await makeDue(redis, `due:${provider}`, ids[index] ?? '')
    },
  )

/** The visibility of a claim has passed, or the time of the next attempt has come. */
const comesDue = (which: number) =>
  onLease(
    'ComesDue',
    which,
    ({ state, due }) => state === 'closing' && !due,
    async (model, { redis, provider, ids }, index) => {
      at(model, index).due = true
      await makeDue(redis, `due:${provider}`, ids[index] ?? '')
    },
  )

const endTask = (task: Place) =>
  command(
    `EndTask(${task})`,
    () => true,
    async (model, { ledger, tasks, ids }) => {
      const first = !isOver(model, task)
      const answer = await ledger.endTask(tasks[task], { state: 'completed', cause: 'task_completed' }, told('task.ended'))
      model.ended.add(task)
      const over = model.leases.map((lease, index) => ({ lease, index })).filter(({ lease }) => isLive(lease) && isOver(model, lease.task))
      for (const { lease } of over) shut(lease)
      const found = answer.ok ? answer.claims.map((claim) => ids.indexOf(claim.lease.id)).sort() : []
      same('the claims of an end', found, first ? over.map(({ index }) => index) : [])
      for (const { index } of over) take(model, index)
    },
  )

const freeze = command(
  'Freeze',
  ({ frozen }) => !frozen,
  async (model, real) => {
    const frozen = await real.ledger.freeze({ selector: { agent: [real.agent] }, reason: 'test', by: 'oncall' }, told('freeze.set'))
    real.freeze = frozen.freeze.id
    model.frozen = true
  },
)
const thaw = command(
  'Thaw',
  ({ frozen }) => frozen,
  async (model, real) => {
    await real.ledger.thaw(real.freeze ?? '', { reason: 'test', by: 'oncall' }, told('freeze.thawed'))
    model.frozen = false
  },
)

export const sweep = command(
  'Sweep',
  () => true,
  async (model, { ledger, provider, ids }) => {
    const { claims } = await ledger.claim(new Map([[provider, 100]]))
    const due = model.leases.map((lease, index) => ({ lease, index })).filter(({ lease }) => lease.due && lease.state !== 'revoked')
    for (const { lease } of due) if (isLive(lease)) shut(lease)
    const expected = due.map(({ index }) => [index, take(model, index).attempt])
    same('the claims of a sweep', claims.map((claim) => [ids.indexOf(claim.lease.id), claim.attempt]).sort(), expected.sort())
  },
)

const onClaim = (
  name: string,
  which: number,
  may: (claim: ModelClaim) => boolean,
  run: (model: Model, real: Real, claim: ModelClaim) => Promise<void>,
) => {
  const of = ({ claims }: Model) => claims[which % claims.length]
  return command(
    `${name}(${which})`,
    (model) => {
      const claim = model.claims.length > 0 ? of(model) : undefined
      return claim !== undefined && may(claim)
    },
    async (model, real) => {
      const claim = of(model)
      if (claim) await run(model, real, claim)
    },
  )
}

/** The upstream answers; its broker may take its time before it says so. */
export const revoke = (which: number) =>
  onClaim(
    'Revoke',
    which,
    ({ result }) => result === undefined,
    async (model, _real, claim) => {
      const lease = at(model, claim.lease)
      claim.result = lease.exists ? 'revoked' : 'absent'
      lease.exists = false
    },
  )

export const settle = (which: number) =>
  onClaim(
    'Settle',
    which,
    ({ result }) => result !== undefined,
    async (model, { ledger, ids }, claim) => {
      const lease = at(model, claim.lease)
      const { result = 'absent', attempt } = claim
      const before = lease.state
      const settled = await ledger.settle({ lease: ids[claim.lease] ?? '', attempt }, { result }, told('lease.revoked'))
      model.claims.splice(model.claims.indexOf(claim), 1)
      if (before === 'closing') {
        const isAboutIt = !lease.orphan || attempt > (lease.conclusive ?? 0)
        if ((result === 'revoked' && isAboutIt) || (lease.conclusive !== undefined && attempt > lease.conclusive)) lease.state = 'revoked'
        else if (attempt === lease.attempts) lease.due = lease.late
      }
      same('settle', settled.state, lease.state)
    },
  )

const fail = (which: number) =>
  onClaim(
    'Fail',
    which,
    ({ result }) => result === undefined,
    async (model, { ledger, redis, provider, ids }, claim) => {
      const lease = at(model, claim.lease)
      const id = ids[claim.lease] ?? ''
      const settled = await ledger.settle({ lease: id, attempt: claim.attempt }, { result: 'failed', error: 'test' }, told('lease.stuck'))
      model.claims.splice(model.claims.indexOf(claim), 1)
      same('a failure', settled.state, lease.state)
      if (lease.state !== 'closing' || claim.attempt !== lease.attempts) return
      // When exactly is chance: it has come.
      lease.due = true
      await makeDue(redis, `due:${provider}`, id)
    },
  )

/** A broker that dies with a claim in its hands: what it did upstream stays done. */
const die = (which: number) =>
  onClaim(
    'Die',
    which,
    () => true,
    async (model, _real, claim) => {
      model.claims.splice(model.claims.indexOf(claim), 1)
    },
  )

const which = fc.nat({ max: 11 })
const place = fc.constantFrom<Place>('root', 'child')
export const commands = [
  place.map(reserve),
  place.map(reserve),
  which.map(mintArrives),
  which.map(mintArrives),
  which.map(activate),
  which.map(activate),
  which.map(close),
  which.map(timePasses),
  which.map(comesDue),
  place.map(endTask),
  fc.constant(freeze),
  fc.constant(thaw),
  fc.constant(sweep),
  which.map(revoke),
  which.map(settle),
  which.map(fail),
  which.map(die),
  which.map(found),
]

/** Time goes on, and no broker dies any more: then everything settles, and nothing is left. */
export async function drain(model: Model, real: Real): Promise<void> {
  const run = async (one: Command) => {
    if (one.check(model)) await one.run(model, real)
  }
  await run(endTask('root'))
  for (const index of model.leases.keys()) {
    await run(timePasses(index))
    if (at(model, index).answered) await run(activate(index))
    await run(comesDue(index))
  }
  await run(sweep)
  for (const index of model.claims.keys()) await run(revoke(index))
  while (model.claims.length > 0) await run(settle(0))
  for (const [index, { state, exists }] of model.leases.entries())
    same(`lease ${index} in the end`, { state, exists }, { state: 'revoked', exists: false })
}
