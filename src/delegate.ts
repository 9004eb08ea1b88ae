import { notAllowed } from './authorize.js'
import { envelopeOutside } from './envelope.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { NewTask } from './ledger/ledger.js'
import type { Delegation } from './policy/policy.js'
import { refusal } from './refusals.js'
import { checkEnvelope, refuseOperation, taskOfCaller, toldOfTask, tooManyTasks } from './task.js'
import { checkDeclared, type Declared, declaredOf, declaredOutside } from './toolbox.js'
import type { Agent, Assignee, Decision, EnvelopeEntry, Orchestrator, RequestContext, Task } from './types.js'

/** A part of a task, for others. What it is about, and for whom, is the parent's. */
export interface DelegationAsk {
  readonly assignees: readonly Assignee[]
  readonly envelope: readonly EnvelopeEntry[]
  readonly tools?: Declared['tools']
  readonly check?: Declared['check']
  readonly plan?: Declared['plan']
  /** Milliseconds since the epoch; the parent's when absent. */
  readonly deadlineAt?: number
  readonly heartbeatSeconds?: number
  readonly labels?: Readonly<Record<string, string>>
}

const MOST_DECISIONS = 3
/** The most first. */
const AUTONOMIES = ['autonomous', 'supervised', 'scripted'] as const

/**
 * Opens a child of a task: within its envelope and its time, with its intent, context and human, and ending with it. Who works on the parent
 * may, or who opened it; nothing is inherited but what narrows, and nothing of what the parent obtained.
 */
export async function delegate(
  house: House,
  principal: Orchestrator | Agent,
  parentId: string,
  ask: DelegationAsk,
  context: RequestContext,
): Promise<Task> {
  const id = house.ledger.newTaskId({ parent: parentId })
  for (let round = 1; ; round++) {
    const parent = await taskOfCaller(house, principal, parentId, 'assignee')
    const no = (error: MayflyError) => refuseOperation(house, principal, context, error)
    if (parent.state !== 'active') throw await no(refusal('ended', parent.state))
    const wider = widerThan(house, parent, ask)
    if (wider) throw await no(new MayflyError('outside_envelope', wider, { next: 'delegate within the envelope and the deadline of the parent' }))
    const child = childOf(house, principal, parent, ask, id)
    const decision = await decide(house, principal, parent, child)
    if (decision.outcome !== 'allow') throw await no(notAllowed(decision))
    const chain = chainOf(parent, principal)
    const told = event('task.opened', context, principal, { task: id, decision, chain, detail: toldOfTask(child) })
    const opened = await house.ledger.openTask(child, told)
    if (opened.ok) return opened.task
    if (opened.refused === 'stale' && round < MOST_DECISIONS) continue
    throw await no(refusalOf(opened.refused, house.limits.maxTaskDepth))
  }
}

function widerThan(house: House, parent: Task, ask: DelegationAsk): string | undefined {
  checkEnvelope(house, ask.envelope)
  checkDeclared(house, ask, ask.envelope)
  if (ask.deadlineAt !== undefined && ask.deadlineAt <= house.ledger.now()) return 'the deadline is in the past'
  if (ask.deadlineAt !== undefined && ask.deadlineAt > parent.deadlineAt) return 'the deadline is later than that of the parent'
  return envelopeOutside(house.roles, parent.envelope, ask.envelope) ?? declaredOutside(parent, ask)
}

function childOf(house: House, opener: Orchestrator | Agent, parent: Task, ask: DelegationAsk, id: string): NewTask {
  const { intent, classified, confidence, classification, environment, human, humanProof } = parent
  return {
    id,
    parent: parent.id,
    openedBy: { kind: opener.kind, id: opener.id, issuer: opener.issuer, instance: opener.kind === 'agent' ? opener.instance : undefined },
    owner: opener.kind === 'agent' ? opener.owner : undefined,
    ...{ intent, classified, confidence, classification, environment, human, humanProof },
    assignees: ask.assignees,
    envelope: ask.envelope,
    ...declaredOf(parent, ask),
    labels: ask.labels ?? {},
    deadlineAt: ask.deadlineAt ?? parent.deadlineAt,
    heartbeatSeconds: ask.heartbeatSeconds,
    maxDepth: house.limits.maxTaskDepth,
    contextVersion: parent.contextVersion,
    maxOpened: opener.kind === 'agent' ? house.limits.perAgentTasks : undefined,
  }
}

/** An agent is asked about each to whom it hands on, and one no is a no; an orchestrator opens one more task. */
async function decide(house: House, principal: Orchestrator | Agent, parent: Task, child: NewTask): Promise<Decision> {
  if (principal.kind === 'orchestrator') return house.policy.decide({ action: 'openTask', principal, task: child })
  const ttlSeconds = Math.max(0, Math.floor((child.deadlineAt - house.ledger.now()) / 1000))
  const about = { depth: parent.depth + 1, ttlSeconds, chain: chainOf(parent, principal) ?? [] }
  let last: Decision | undefined
  for (const to of new Set(child.assignees.map(({ agent }) => agent))) {
    last = await house.policy.decide({ action: 'delegate', principal, task: child, delegation: { to, ...knownOf(house, to), ...about } })
    if (last.outcome !== 'allow') return last
  }
  if (!last) throw new MayflyError('request_invalid', 'assignees: name the agents that may work on the task')
  return last
}

/** What the configuration says of an agent by its id alone: where several rules make that id, what holds by all of them. */
function knownOf({ roster }: House, id: string): Pick<Delegation, 'toTeams' | 'toAutonomy'> {
  // Whether or not its running copies are told apart.
  const known = [...roster({ id }), ...roster({ id, instance: '' })]
  const [first, ...others] = known
  const isSame = first?.team !== undefined && others.every(({ team }) => team === first.team)
  const toAutonomy = AUTONOMIES.find((one) => known.some(({ autonomy }) => autonomy === one)) ?? 'autonomous'
  return { toTeams: isSame ? [first.team ?? ''] : [], toAutonomy }
}

/** The agents through which a child of this task comes to those who work on it. */
function chainOf({ chain = [] }: Task, opener: Orchestrator | Agent): readonly string[] | undefined {
  const all = opener.kind === 'agent' ? [...chain, opener.id] : chain
  return all.length > 0 ? all : undefined
}

function refusalOf(
  refused: 'quarantined' | 'conflict' | 'frozen' | 'parent_ended' | 'stale' | 'too_deep' | 'quota' | 'outbox_full',
  deepest: number,
): MayflyError {
  if (refused === 'too_deep')
    return new MayflyError('denied', `a tree of tasks is at most ${deepest} deep`, { next: 'do it in the task that you have' })
  if (refused === 'parent_ended') return refusal('ended')
  return refused === 'quota' ? tooManyTasks() : refusal(refused)
}
