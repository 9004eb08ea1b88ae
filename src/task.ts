import { notAllowed } from './authorize.js'
import { classify, isEnough, ownWord, toldOf } from './classify.js'
import { envelopeOutside, scopeOutside } from './envelope.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { Ended, NewTask } from './ledger/ledger.js'
import { another, humanShown, humanTold, proofOf } from './on-behalf.js'
import { refusal } from './refusals.js'
import { drive } from './revoke.js'
import { checkDeclared, type Declared, declaredOf, toolsOutside } from './toolbox.js'
import type {
  Agent,
  Assignee,
  Cause,
  EnvelopeEntry,
  LeaseState,
  Orchestrator,
  Principal,
  RequestContext,
  Sensitivity,
  Task,
  TaskEnd,
} from './types.js'

/** What an orchestrator, or an agent for itself, asks for. */
export interface TaskAsk {
  readonly intent: string
  readonly confidence?: number
  readonly classification?: Sensitivity
  readonly environment?: string
  readonly assignees?: readonly Assignee[]
  readonly envelope: readonly EnvelopeEntry[]
  readonly tools?: Declared['tools']
  readonly check?: Declared['check']
  readonly plan?: Declared['plan']
  /** Milliseconds since the epoch. */
  readonly deadlineAt: number
  readonly heartbeatSeconds?: number
  readonly externalId?: string
  readonly human?: string
  /** A token of the human's, which says who that is. */
  readonly humanToken?: string
  readonly labels?: Readonly<Record<string, string>>
}

/** Opens a task; twice with the same external id answers the first one. */
export async function openTask(
  house: House,
  opener: Orchestrator | Agent,
  ask: TaskAsk,
  context: RequestContext,
): Promise<{ task: Task; created: boolean }> {
  const said = opener.kind === 'agent' ? ownTask(house, opener, ask) : orderedTask(house, opener, ask)
  const no = (error: MayflyError) => refuseOperation(house, opener, context, error)
  const shown = await humanShown(house, opener, ask.humanToken)?.().catch(async (error: unknown) => {
    throw error instanceof MayflyError && error.status === 403 ? await no(error) : error
  })
  if (shown && opener.kind === 'orchestrator' && ask.human !== undefined && ask.human !== shown.id) throw await no(another('task'))
  const stated = shown ? { ...said, human: shown.id, humanProof: proofOf(shown) } : said
  const enough = isEnough(house, opener, stated)
  // Who asks again is answered without anybody being asked again.
  const known = enough ? undefined : await house.ledger.knownTask(stated)
  if (known && !known.ok) throw taken()
  const { task, detail } = known || enough ? { task: stated, detail: toldOf(stated) } : await classifiedTask(house, opener, ask, stated)
  const decision = await house.policy.decide({ action: 'openTask', principal: opener, task: known?.task ?? task })
  if (decision.outcome !== 'allow') throw await refuseOperation(house, opener, context, notAllowed(decision))
  if (known) return { task: known.task, created: false }
  const about = { task: task.id, human: humanTold(task), decision, detail: { ...toldOfTask(task), ...detail } }
  const opened = await house.ledger.openTask(task, event('task.opened', context, opener, about))
  if (opened.ok) return opened
  if (opened.refused === 'conflict') throw taken()
  if (opened.refused === 'quarantined' || opened.refused === 'frozen' || opened.refused === 'outbox_full' || opened.refused === 'stale')
    throw refusal(opened.refused)
  if (opened.refused === 'quota') throw tooManyTasks()
  throw new MayflyError('task_ended', 'the parent task takes no children any more')
}

async function classifiedTask(house: House, opener: Orchestrator | Agent, ask: TaskAsk, word: NewTask) {
  const { intent, classified, confidence, classification } = word
  const { reading, verdict } = await classify(house, opener, ask, word)
  const task: NewTask = { ...word, classifiedBy: undefined, ...reading, stated: { intent, classified, confidence, classification } }
  return { task, detail: toldOf(reading, verdict) }
}

/** What its event keeps of a task: who could obtain what with it, and until when, can be told from that long after. */
export function toldOfTask({ parent, intent, assignees, envelope, deadlineAt }: NewTask) {
  const entries = envelope.map(({ role, scope, maxTtlSeconds, maxLeases }) => ({ role, scope, max_ttl: maxTtlSeconds, max_leases: maxLeases }))
  return { parent, intent, assignees, envelope: entries, deadline_at: deadlineAt }
}

function orderedTask(house: House, opener: Orchestrator, ask: TaskAsk): NewTask {
  if (!ask.assignees) throw invalid('assignees', 'name the agents that may work on the task')
  return taskOf(house, opener, ask, ask.assignees)
}

/** An agent's own word classifies nothing, places it nowhere, and opens no more than its configuration lets it. */
function ownTask(house: House, opener: Agent, ask: TaskAsk): NewTask {
  if (!opener.openTasks) throw new MayflyError('denied', 'this agent opens no tasks', { next: 'have an orchestrator open it' })
  const wider = envelopeOutside(house.roles, opener.openTasks, ask.envelope)
  if (wider) throw new MayflyError('outside_envelope', wider, { next: 'open it within the open_tasks envelope of the configuration' })
  const more = toolsOutside(opener.openTools ?? [], ask.tools ?? [])
  if (more) throw new MayflyError('outside_envelope', more, { next: 'open it within the open_tasks tools of the configuration' })
  if (ask.check === 'sensitive_only') throw new MayflyError('denied', 'each call of a task that an agent opened for itself is checked')
  const assignees = [{ agent: opener.id, instance: opener.instance }]
  return { ...taskOf(house, opener, ask, assignees), environment: 'unknown', human: undefined, maxOpened: house.limits.perAgentTasks }
}

function taskOf(house: House, opener: Orchestrator | Agent, ask: TaskAsk, assignees: readonly Assignee[]): NewTask {
  const { ledger, limits, vocabulary } = house
  if (ask.deadlineAt <= ledger.now()) throw invalid('deadline_at', 'is in the past')
  if (ask.deadlineAt > ledger.now() + limits.maxTaskSeconds * 1000) throw invalid('deadline_at', `is more than ${limits.maxTaskSeconds} s away`)
  checkEnvelope(house, ask.envelope)
  checkDeclared(house, ask, ask.envelope)
  return {
    id: newTaskId(house, opener, ask, assignees),
    assignees,
    openedBy: { kind: opener.kind, id: opener.id, issuer: opener.issuer, instance: instanceOf(opener) },
    owner: opener.kind === 'agent' ? opener.owner : undefined,
    ...ownWord(house, opener, ask),
    environment: ask.environment !== undefined && vocabulary.environments.has(ask.environment) ? ask.environment : 'unknown',
    envelope: ask.envelope,
    ...declaredOf({}, ask),
    labels: ask.labels ?? {},
    human: ask.human,
    externalId: ask.externalId,
    deadlineAt: ask.deadlineAt,
    heartbeatSeconds: ask.heartbeatSeconds,
    maxDepth: limits.maxTaskDepth,
  }
}

/** Each role once, of those that there are, limited in ways that it knows. */
export function checkEnvelope({ roles }: House, envelope: readonly EnvelopeEntry[]): void {
  const seen = new Set<string>()
  for (const [index, entry] of envelope.entries()) {
    const role = roles.get(entry.role)
    if (!role) throw invalid(`envelope.${index}.role`, `there is no role "${entry.role}"`)
    if (seen.has(entry.role)) throw invalid(`envelope.${index}.role`, `role "${entry.role}" is named twice`)
    seen.add(entry.role)
    const outside = scopeOutside(role.scope, {}, entry.scope ?? {})
    if (outside) throw invalid(`envelope.${index}.scope`, outside)
  }
}

/**
 * An agent's own tasks, and a task for one agent, live where that agent is counted; an orchestrator's external id decides where its task
 * lives, so that it is found again.
 */
function newTaskId({ ledger }: House, opener: Orchestrator | Agent, { externalId }: TaskAsk, [first, ...others]: readonly Assignee[]): string {
  if (opener.kind === 'agent') return ledger.newTaskId({ agent: opener.id })
  if (externalId !== undefined) return ledger.newTaskId({ orchestrator: `${opener.kind}:${opener.id}`, externalId })
  return ledger.newTaskId(first && others.length === 0 ? { agent: first.agent } : undefined)
}

/** A task, and who opened the root of its tree where that is another. */
export type TaskInTree = Task & { readonly rootOpenedBy?: Task['openedBy'] }

/**
 * A task that this principal opened, or whose tree it opened, or, with `assignee`, works on; anybody else's looks like none.
 */
export async function taskOfCaller(house: House, principal: Principal, id: string, who: 'opener' | 'assignee'): Promise<TaskInTree> {
  const task = await house.ledger.task(id, { fresh: true })
  if (task && isOpener(task, principal)) return task
  const root = task?.parent === undefined ? undefined : await house.ledger.task(task.root)
  if (task && root && isOpener(root, principal)) return { ...task, rootOpenedBy: root.openedBy }
  if (task && who === 'assignee' && principal.kind === 'agent' && task.assignees.some((one) => isSelf(one, principal))) return task
  throw refusal('not_found')
}

export async function heartbeat(house: House, principal: Principal, id: string): Promise<{ state: Task['state']; heartbeatDueAt?: number }> {
  await taskOfCaller(house, principal, id, 'assignee')
  const touched = await house.ledger.touchTask(id)
  if (!touched.ok) throw refusal('not_found')
  return touched
}

const CAUSES: Record<TaskEnd, Cause> = {
  completed: 'task_completed',
  failed: 'task_failed',
  cancelled: 'task_cancelled',
  expired: 'task_expired',
  revoked: 'task_revoked',
}

/**
 * Ends a task. When this answers, nothing more is issued for it or for what descends from it, and each live lease is on its way back;
 * `outcomes` is there for who wants to wait for the upstreams.
 */
export async function endTask(
  house: House,
  principal: Orchestrator | Agent,
  id: string,
  end: { state: TaskEnd; reason?: string },
  context: RequestContext,
): Promise<{ state: TaskEnd; closing: number; replicated?: boolean; outcomes: { lease: string; state: Promise<LeaseState> }[] }> {
  const task = await taskOfCaller(house, principal, id, 'opener')
  const decision = await house.policy.decide({ action: 'endTask', principal, task })
  if (decision.outcome !== 'allow') throw await refuseOperation(house, principal, context, notAllowed(decision))
  const told = event('task.ended', context, principal, { task: id, cause: CAUSES[end.state], decision })
  const ended = await house.ledger.endTask(id, { ...end, cause: CAUSES[end.state] }, told)
  if (!ended.ok) throw refusal('not_found')
  const outcomes = ended.claims.map((claim) => ({ lease: claim.lease.id, state: drive(house, claim) }))
  const others = await takenByOthers(house, id, ended)
  return { state: ended.state, closing: ended.closing, replicated: await ended.replicated, outcomes: [...outcomes, ...others] }
}

/** What this end leaves to the sweepers, or an earlier end closed: not driven here, and waited for all the same. */
async function takenByOthers(house: House, id: string, { claims, closing }: Ended): Promise<{ lease: string; state: Promise<LeaseState> }[]> {
  if (closing <= claims.length) return []
  const driven = new Set(claims.map(({ lease }) => lease.id))
  const unsettled = await house.ledger.leasesOfTask(id).catch(() => [])
  return unsettled.filter((lease) => !driven.has(lease.id)).map((lease) => ({ lease: lease.id, state: Promise.resolve(lease.state) }))
}

/** Records that somebody was refused something other than a lease. */
export async function refuseOperation(house: House, principal: Principal, context: RequestContext, error: MayflyError): Promise<MayflyError> {
  const { policies, internal: because } = error.details
  const told = event('operator.refused', context, principal, { code: error.code, detail: { policies, because } })
  const { ok } = await house.ledger.record(told)
  return new MayflyError(error.code, error.message, { ...error.details, event: ok ? told.id : undefined })
}

/** An agent's copies are told apart here too: one may not end what another works on. */
export function isOpener({ openedBy }: Pick<Task, 'openedBy'>, principal: Principal): boolean {
  const { kind, id, issuer, instance } = openedBy
  return kind === principal.kind && id === principal.id && issuer === principal.issuer && instance === instanceOf(principal)
}

function instanceOf(principal: Principal): string | undefined {
  return principal.kind === 'agent' ? principal.instance : undefined
}

function isSelf(one: Assignee, agent: Agent): boolean {
  return one.agent === agent.id && (one.instance === undefined || one.instance === agent.instance)
}

function taken(): MayflyError {
  return new MayflyError('conflict', 'this external_id is taken by a task with another body')
}

export function tooManyTasks(): MayflyError {
  const next = 'end tasks that are done; an ended task counts until its record is gone'
  return new MayflyError('quota_exceeded', 'this agent has opened too many tasks', { next, retryAfterSeconds: 60 })
}

function invalid(path: string, message: string): MayflyError {
  return new MayflyError('request_invalid', `${path}: ${message}`, { issues: [{ path, message }] })
}
