import {
  ChildRequest,
  ContextAnswer,
  ContextRequest,
  EndAnswer,
  EndRequest,
  HeartbeatAnswer,
  HeartbeatRequest,
  TASK_ID,
  TaskAnswer,
  TaskDetailAnswer,
  TaskRequest,
  TasksAnswer,
  TasksQuery,
  WaitQuery,
} from '../../api.js'
import { changeContext } from '../../context.js'
import { type DelegationAsk, delegate } from '../../delegate.js'
import { endTask, heartbeat, isOpener, openTask, type TaskAsk, type TaskInTree, taskOfCaller } from '../../task.js'
import type { Declared } from '../../toolbox.js'
import type { Assignee, EnvelopeEntry, Lease, Principal, TaskEnd } from '../../types.js'
import { notFound, permit, resourceOf } from '../operator.js'
import { type Route, route } from '../route.js'
import { leaseView, taskView, timeView, treeView } from '../view.js'
import { patienceOf, untilSettled } from '../wait.js'

const open = route({
  method: 'post',
  path: '/v1/tasks',
  surfaces: ['public'],
  who: ['orchestrator', 'agent'],
  summary: 'Opens a task; twice with the same external_id answers the first one with 200.',
  widens: true,
  body: TaskRequest,
  answers: { 201: TaskAnswer, 200: TaskAnswer },
  codes: [
    ...(['denied', 'on_behalf_of_invalid', 'on_behalf_of_expired', 'outside_envelope', 'frozen', 'quarantined', 'conflict', 'task_ended'] as const),
    ...(['ledger_unavailable', 'audit_unavailable', 'draining'] as const),
  ],
}).handle(async ({ house, principal, body, context }) => {
  const { task, created } = await openTask(house, principal, askOf(body), context)
  return { status: created ? 201 : 200, body: { task: taskView(task) } }
})

const read = route({
  method: 'get',
  path: '/v1/tasks/{id}',
  surfaces: ['public', 'operator'],
  who: ['orchestrator', 'agent', 'operator'],
  summary: 'A task, its unsettled leases, and the tree of what was handed on of it; an assignee sees its own leases only.',
  id: TASK_ID,
  answers: { 200: TaskDetailAnswer },
  codes: ['not_found', 'denied', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, principal, id } = call
  if (principal.kind === 'operator') await permit(call, 'inspect', { type: 'Task', id })
  const task: TaskInTree | undefined =
    principal.kind === 'operator' ? await house.ledger.task(id, { fresh: true }) : await taskOfCaller(house, principal, id, 'assignee')
  if (!task) throw notFound('task')
  const [leases, below] = await Promise.all([house.ledger.leasesOfTask(id), house.ledger.descendants(id, MOST_DESCENDANTS)])
  const seen = leases.filter((lease) => maySee(principal, task, lease)).map((one) => leaseView(one, house.ledger))
  return { status: 200, body: { task: taskView(task), leases: seen, children: treeView(id, below.tasks), more_children: below.more } }
})

const beat = route({
  method: 'post',
  path: '/v1/tasks/{id}/heartbeat',
  surfaces: ['public'],
  who: ['orchestrator', 'agent'],
  summary: 'Says that work goes on; the answer tells an assignee when the task has ended.',
  id: TASK_ID,
  body: HeartbeatRequest,
  bodyOptional: true,
  answers: { 200: HeartbeatAnswer },
  codes: ['not_found', 'ledger_unavailable'],
}).handle(async ({ house, principal, id }) => {
  const { state, heartbeatDueAt } = await heartbeat(house, principal, id)
  return { status: 200, body: { state, heartbeat_due_at: heartbeatDueAt === undefined ? undefined : timeView(heartbeatDueAt) } }
})

const change = route({
  method: 'patch',
  path: '/v1/tasks/{id}/context',
  surfaces: ['public'],
  who: ['orchestrator', 'agent'],
  summary:
    'Changes what decisions depend on, and decides every live lease of the task and below anew; an agent may only raise the classification and lower the confidence.',
  id: TASK_ID,
  body: ContextRequest,
  query: WaitQuery,
  answers: { 200: ContextAnswer },
  codes: ['not_found', 'denied', 'approval_required', 'task_ended', 'conflict', 'ledger_unavailable', 'audit_unavailable'],
}).handle(async ({ house, around, principal, id, body, query, context, callerGone }) => {
  const { task, reviewed } = await changeContext(house, principal, id, body, context)
  const leases = { kept: reviewed.kept, closing: reviewed.closing.map(({ lease }) => lease) }
  if (!query.wait) return { status: 200, body: { task: taskView(task), leases } }
  const outcomes = (await untilSettled(house, reviewed.closing, patienceOf(query.wait, { callerGone, around }))).map((one) =>
    leaseView(one, house.ledger),
  )
  return { status: 200, body: { task: taskView(task), leases: { ...leases, outcomes } } }
})

const handOn = route({
  method: 'post',
  path: '/v1/tasks/{id}/children',
  surfaces: ['public'],
  who: ['agent', 'orchestrator'],
  summary: 'Hands a part of a task on to other agents: within its envelope and time, with its intent and human, ending with it.',
  widens: true,
  id: TASK_ID,
  body: ChildRequest,
  answers: { 201: TaskAnswer },
  codes: [
    ...([
      'not_found',
      'denied',
      'approval_required',
      'outside_envelope',
      'task_ended',
      'frozen',
      'quarantined',
      'conflict',
      'quota_exceeded',
    ] as const),
    ...(['ledger_unavailable', 'audit_unavailable', 'draining'] as const),
  ],
}).handle(async ({ house, principal, id, body, context }) => {
  const task = await delegate(house, principal, id, childOf(body), context)
  return { status: 201, body: { task: taskView(task) } }
})

const end = (verb: 'complete' | 'fail' | 'cancel', state: TaskEnd) =>
  route({
    method: 'post',
    path: `/v1/tasks/{id}/${verb}`,
    surfaces: ['public'],
    who: ['orchestrator', 'agent'],
    summary: `Ends a task as ${state}. When this answers, nothing more is issued for it; with ?wait it also tells each lease's outcome.`,
    id: TASK_ID,
    body: EndRequest,
    bodyOptional: true,
    query: WaitQuery,
    answers: { 200: EndAnswer },
    codes: ['not_found', 'denied', 'ledger_unavailable'],
  }).handle(async ({ house, around, principal, id, body, query, context, callerGone }) => {
    const ended = await endTask(house, principal, id, { state, reason: body.reason }, context)
    const answer = { state: ended.state, closing: ended.closing, replicated: ended.replicated }
    if (!query.wait) return { status: 200, body: answer }
    const leases = await untilSettled(house, ended.outcomes, patienceOf(query.wait, { callerGone, around }))
    return { status: 200, body: { ...answer, leases: leases.map((one) => leaseView(one, house.ledger)) } }
  })

const list = route({
  method: 'get',
  path: '/v1/tasks',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'Tasks by filter, a page at a time.',
  query: TasksQuery,
  answers: { 200: TasksAnswer },
  codes: ['denied', 'ledger_unavailable'],
}).handle(async (call) => {
  const { limit, cursor, ...filter } = call.query
  const { agent, orchestrator } = filter
  await permit(call, 'inspect', resourceOf({ agent: agent ? [agent] : undefined, orchestrator: orchestrator ? [orchestrator] : undefined }))
  const page = await call.house.ledger.tasks(filter, { limit, cursor })
  return { status: 200, body: { tasks: page.tasks.map(taskView), next_cursor: page.cursor } }
})

/** More of a tree is not told at once: each of its tasks answers for itself. */
const MOST_DESCENDANTS = 200

export const taskRoutes: readonly Route[] = [
  open,
  list,
  beat,
  change,
  handOn,
  end('complete', 'completed'),
  end('fail', 'failed'),
  end('cancel', 'cancelled'),
  read,
]

function askOf(body: TaskRequest): TaskAsk {
  const { intent, confidence, classification, environment, human, labels } = body
  return {
    intent,
    confidence,
    classification,
    environment,
    human,
    humanToken: body.on_behalf_of,
    labels,
    assignees: body.assignees?.map(assigneeOf),
    envelope: body.envelope.map(entryOf),
    ...declaredIn(body),
    deadlineAt: Date.parse(body.deadline_at),
    heartbeatSeconds: body.heartbeat_seconds,
    externalId: body.external_id,
  }
}

function childOf(body: ChildRequest): DelegationAsk {
  return {
    assignees: body.assignees.map(assigneeOf),
    envelope: body.envelope.map(entryOf),
    ...declaredIn(body),
    deadlineAt: body.deadline_at === undefined ? undefined : Date.parse(body.deadline_at),
    heartbeatSeconds: body.heartbeat_seconds,
    labels: body.labels,
  }
}

function declaredIn({ tools, check, plan }: Pick<ChildRequest, 'tools' | 'check' | 'plan'>): Declared {
  return { tools: tools?.map(({ max_calls: maxCalls, ...entry }) => ({ ...entry, maxCalls })), check, plan }
}

function assigneeOf({ agent, instance, bind_instance: bindInstance }: ChildRequest['assignees'][number]): Assignee {
  return { agent, instance, bindInstance }
}

function entryOf({ role, scope, max_ttl: maxTtlSeconds, max_leases: maxLeases }: ChildRequest['envelope'][number]): EnvelopeEntry {
  return { role, scope, maxTtlSeconds, maxLeases }
}

/** Who opened the task, or the root of its tree, answers for all of it; who works on it sees its own. */
function maySee(principal: Principal, task: TaskInTree, lease: Lease): boolean {
  if (principal.kind !== 'agent' || isOpener(task, principal) || task.rootOpenedBy) return true
  return lease.agent === principal.id && lease.instance === principal.instance
}
