import type { Body, Caller } from './caller.js'
import type { History, Known } from './history.js'
import type { Credential, Holdings } from './holdings.js'
import { PROVIDER_OF, ROLES, WORKERS } from './installation.js'
import type { OperationKind, Step } from './plan.js'
import type { Stage } from './stage.js'
import { tryOut } from './trial.js'

/** Who works, with what, and who writes it down. */
export interface World {
  readonly stage: Stage
  readonly history: History
  readonly holdings: Holdings
  readonly caller: Caller
}
type Act = (world: World, dice: Step['dice']) => Promise<unknown>

const ORCHESTRATOR = 'flows'
const OPERATOR = 'oncall'
const TTLS = [5, 10, 20, 60, 300] as const
/** Of what cannot be taken back: it is to be over soon after the run. */
const MOST_SIGNED_TTL = 15
const WAIT_SECONDS = 5
const MOST_IN_FLIGHT = 150

/** Does each step when its time comes, whatever became of those before it. @returns how many were left out, with too many under way */
export async function work(world: World, steps: readonly Step[]): Promise<number> {
  const began = performance.now()
  const underWay = new Set<Promise<unknown>>()
  let left = 0
  for (const { at, kind, dice } of steps) {
    const early = at - (performance.now() - began)
    if (early > 0) await new Promise((resolve) => setTimeout(resolve, early))
    if (underWay.size >= MOST_IN_FLIGHT) {
      left++
      continue
    }
    const act = ACTS[kind](world, dice).finally(() => underWay.delete(act))
    underWay.add(act)
  }
  await Promise.all(underWay)
  return left
}

const agentOf = (die: number) => `worker-${Math.floor(die * WORKERS)}`
const oneOf = <T>(list: readonly [T, ...T[]], die: number): T => list[Math.floor(die * list.length)] ?? list[0]
const nothing = (): Known => ({})
const keepTask = ({ task }: Body): Known => ({ task: task.id, state: task.state })
/** None where a human would have to agree. */
const keepLease = ({ lease }: Body): Known => (lease ? { lease: { id: lease.id, state: lease.state, expiresAt: Date.parse(lease.expires_at) } } : {})
const keepEnd = ({ state, leases }: Body): Known => ({ state, leases: leases?.map((one: Body) => ({ id: one.id, state: one.state })) })
const keepStop = ({ freeze, partitions, revocation }: Body): Known => ({
  freeze: freeze?.id,
  revocation: revocation?.id,
  unreachable: (partitions ?? freeze?.partitions)?.unreachable,
})

const ACTS: Readonly<Record<OperationKind, Act>> = {
  async open({ caller, holdings }, [who, also, how, die]) {
    const agents = [...new Set(also < 0.3 ? [agentOf(who), agentOf(also / 0.3)] : [agentOf(who)])]
    const body = {
      ...{ intent: 'incident-triage', confidence: 0.9, classification: 'internal', environment: 'production' },
      assignees: agents.map((agent) => ({ agent })),
      envelope: ROLES.map((role) => ({ role })),
      deadline_at: new Date(Date.now() + (how < 0.1 ? 8_000 : 600_000)).toISOString(),
      ...(how > 0.8 && { heartbeat_seconds: 6 }),
      ...(how > 0.1 && how < 0.4 && { external_id: `job-${how}` }),
    }
    const ask = { kind: 'open', about: {}, as: ORCHESTRATOR, method: 'POST', path: '/v1/tasks', body, keep: keepTask } as const
    let answer = await caller.ask(ask, die)
    // What may have been opened is opened once more: the same task, where it has a name.
    if (answer.operation.outcome === 'unknown' && body.external_id !== undefined) answer = await caller.ask(ask, 1 - die)
    if (answer.operation.outcome === 'ok') holdings.tasks.push({ id: answer.body.task.id, agents, ending: false })
  },

  async child({ caller, holdings }, [which, whose, , die]) {
    const parent = holdings.task(which, false)
    if (!parent) return
    const agent = agentOf(whose)
    const body = { assignees: [{ agent }], envelope: ROLES.map((role) => ({ role })) }
    const [as = ''] = parent.agents
    const path = `/v1/tasks/${parent.id}/children`
    const answer = await caller.ask({ kind: 'child', about: { task: parent.id, agent }, as, method: 'POST', path, body, keep: keepTask }, die)
    if (answer.operation.outcome === 'ok') holdings.tasks.push({ id: answer.body.task.id, agents: [agent], ending: false })
  },

  obtain: (world, dice) => obtain(world, dice, false),
  /** For a task whose end was asked for. */
  'obtain-again': (world, dice) => obtain(world, dice, true),

  async renew({ caller, holdings }, [which, , , die]) {
    const held = holdings.credential(which)
    if (!held) return
    const about = { lease: held.lease, task: held.task, agent: held.agent, role: held.role }
    const wanted = held.role === 'api-signed' ? { ttl: MOST_SIGNED_TTL } : {}
    const path = `/v1/leases/${held.lease}/renew`
    const ask = { kind: 'renew', about, as: held.agent, method: 'POST', path, body: wanted, keep: keepLease } as const
    const { operation, body } = await caller.ask(ask, die)
    if (operation.outcome === 'ok' && body.credential) holdings.credentials.push(received(body, about, operation.until))
  },

  async release({ caller, holdings, stage, history }, [which, wait, , die]) {
    const held = holdings.credential(which)
    if (!held) return
    const path = `/v1/leases/${held.lease}${wait < 0.5 ? `?wait=${WAIT_SECONDS}` : ''}`
    const about = { lease: held.lease, task: held.task }
    const { body } = await caller.ask({ kind: 'release', about, as: held.agent, method: 'DELETE', path, keep: keepLease }, die)
    if (body?.lease?.state === 'revoked') await tryOut(stage, history, held)
  },

  async use({ holdings, stage, history }, [which]) {
    const held = holdings.credential(which)
    if (held) await tryOut(stage, history, held)
  },

  async read({ caller, holdings }, [which, , , die]) {
    const held = holdings.credential(which)
    if (!held) return
    const about = { lease: held.lease, task: held.task }
    await caller.ask({ kind: 'read', about, as: held.agent, method: 'GET', path: `/v1/leases/${held.lease}`, keep: keepLease }, die)
  },

  async heartbeat({ caller, holdings }, [which, ended, , die]) {
    const task = holdings.task(which, ended < 0.1)
    if (!task) return
    const ask = {
      kind: 'heartbeat',
      about: { task: task.id },
      as: task.agents[0] ?? '',
      method: 'POST',
      path: `/v1/tasks/${task.id}/heartbeat`,
    } as const
    await caller.ask({ ...ask, body: {}, keep: ({ state }) => ({ state }) }, die)
  },

  async context({ caller, holdings }, [which, what, , die]) {
    const task = holdings.task(which, false)
    if (!task) return
    const body = what < 0.5 ? { labels: { step: String(what) } } : { confidence: what }
    const ask = { kind: 'context', about: { task: task.id }, as: ORCHESTRATOR, method: 'PATCH', path: `/v1/tasks/${task.id}/context`, body } as const
    await caller.ask({ ...ask, keep: keepTask }, die)
  },

  end: (world, dice) => end(world, dice, false),
  'end-waiting': (world, dice) => end(world, dice, true),

  async freeze({ caller, holdings }, [what, which, , die]) {
    const selector: Record<string, readonly string[]> = what < 0.8 ? { agent: [agentOf(which)] } : { role: [oneOf(ROLES, which)] }
    const ask = {
      kind: 'freeze',
      about: { selector },
      as: OPERATOR,
      method: 'POST',
      path: '/v1/freezes',
      body: { selector, reason: 'chaos' },
    } as const
    const { operation } = await caller.ask({ ...ask, keep: keepStop }, die)
    if (operation.answer?.freeze !== undefined) holdings.freezes.push(operation.answer.freeze)
  },

  async thaw({ caller, holdings }, [, , , die]) {
    const freeze = holdings.freezes.shift()
    if (freeze === undefined) return
    const path = `/v1/freezes/${freeze}/thaw`
    const ask = { kind: 'thaw', about: { freeze }, as: OPERATOR, method: 'POST', path, body: { reason: 'chaos' }, keep: nothing } as const
    const { operation } = await caller.ask(ask, die)
    if (operation.outcome === 'unknown') holdings.freezes.push(freeze)
  },

  async emergency({ caller, holdings }, [what, which, , die]) {
    const task = holdings.task(which, false)
    const byTask = what < 0.3 && task !== undefined
    if (byTask) task.ending = true
    const agent = [agentOf(which)]
    const selector: Record<string, readonly string[]> = byTask
      ? { task: [task.id] }
      : what < 0.75
        ? { agent }
        : what < 0.85
          ? { agent, role: [oneOf(ROLES, what)] }
          : { role: [oneOf(ROLES, which)] }
    const body = { selector, reason: 'chaos' }
    const ask = { kind: 'emergency', about: { selector }, as: OPERATOR, method: 'POST', path: '/v1/emergency/revoke', body, keep: keepStop } as const
    const { operation } = await caller.ask(ask, die)
    if (operation.answer?.freeze !== undefined) holdings.freezes.push(operation.answer.freeze)
  },
}

async function obtain({ caller, holdings }: World, [which, what, how, die]: Step['dice'], ending: boolean): Promise<void> {
  const task = holdings.task(which, ending)
  if (!task) return
  const role = oneOf(ROLES, what)
  const agent = task.agents[Math.floor(how * task.agents.length)] ?? ''
  const ttl = oneOf(TTLS, how)
  const body = { task: task.id, role, ttl: role === 'api-signed' ? Math.min(ttl, MOST_SIGNED_TTL) : ttl }
  const key = what * 4 - Math.floor(what * 4) < 0.3 ? `key-${which}-${what}` : undefined
  const about = { task: task.id, agent, role, key }
  const headers: Record<string, string> = key === undefined ? {} : { 'idempotency-key': key }
  const ask = {
    kind: ending ? 'obtain-again' : 'obtain',
    about,
    as: agent,
    method: 'POST',
    path: '/v1/leases',
    body,
    headers,
    keep: keepLease,
  } as const
  let answer = await caller.ask(ask, die)
  // Whoever did not hear asks again: the first lease, should there be one, is closed for it.
  if (answer.operation.outcome === 'unknown' && key !== undefined) answer = await caller.ask(ask, 1 - die)
  if (answer.status === 201) holdings.credentials.push(received(answer.body, about, answer.operation.until))
}

async function end({ caller, holdings, stage, history }: World, [which, how, , die]: Step['dice'], waiting: boolean): Promise<void> {
  const task = holdings.task(which, false)
  if (!task) return
  task.ending = true
  const path = `/v1/tasks/${task.id}/${oneOf(['complete', 'fail', 'cancel'], how)}${waiting ? `?wait=${WAIT_SECONDS}` : ''}`
  const ask = {
    kind: waiting ? 'end-waiting' : 'end',
    about: { task: task.id },
    as: ORCHESTRATOR,
    method: 'POST',
    path,
    body: {},
    keep: keepEnd,
  } as const
  const { operation } = await caller.ask(ask, die)
  if (operation.outcome === 'unknown') task.ending = false
  const revoked = new Set(operation.answer?.leases?.flatMap(({ id, state }) => (state === 'revoked' ? [id] : [])))
  // What was told as revoked fails at once.
  await Promise.all(holdings.credentials.filter(({ lease }) => revoked.has(lease)).map((held) => tryOut(stage, history, held)))
}

function received({ lease, credential }: Body, { task, agent, role }: { task: string; agent: string; role: string }, at = 0): Credential {
  return { lease: lease.id, task, agent, role, provider: PROVIDER_OF[role] as Credential['provider'], receivedAt: at, env: credential.env }
}
