import { z } from 'zod'
import type { Agent, Gateway, Operator, Orchestrator, Principal, Task } from '../types.js'
import { APPROVAL_ACTIONS, DELEGATE_ACTIONS, OBTAIN_ACTIONS, OPERATOR_ACTIONS, OPERATOR_RESOURCES, TASK_ACTIONS, TOOL_ACTIONS } from './actions.js'
import type { PolicyRequest, PolicyTask } from './policy.js'

/**
 * A request as data: what cases are written in, what events keep of a request (`policy-input.ts`) and what OPA is asked with. `document.ts` is
 * the way back. What is left out has its most restrictive value; but of how an agent behaved nothing was counted then.
 */
const sensitivity = z.enum(['public', 'internal', 'confidential', 'restricted'])
const autonomy = z.enum(['scripted', 'supervised', 'autonomous'])
const access = z.enum(OBTAIN_ACTIONS)
const labels = z.array(z.string()).default([])
const caller = { id: z.string().default('anyone'), issuer: z.string().default('cluster'), labels }
const counts = z.strictObject({ read: z.int(), write: z.int(), escalate: z.int() }).default({ read: 0, write: 0, escalate: 0 })
const agent = z.strictObject({
  ...caller,
  team: z.string().optional(),
  owner: z.string().default('owner@example.com'),
  autonomy,
  risk: z.int().min(0).max(100).default(0),
  recent: counts,
})
const orchestrator = z.strictObject({ ...caller, team: z.string().optional() })
const operator = z.strictObject({ ...caller, groups: z.array(z.string()).default([]) })
const gateway = z.strictObject({ ...caller, team: z.string().optional() })
/** Who asks, one of them; nobody: an agent of whom nothing is known. */
const asking = { agent: agent.optional(), orchestrator: orchestrator.optional(), operator: operator.optional(), gateway: gateway.optional() }
const opener = z.strictObject({ kind: z.enum(['agent', 'orchestrator']), id: z.string(), issuer: z.string().default('cluster') })
const role = z.strictObject({
  name: z.string(),
  provider: z.string().default('provider'),
  sensitivity: sensitivity.default('restricted'),
  revocation: z.enum(['immediate', 'deny-policy', 'at-expiry']).default('at-expiry'),
  labels,
})
const task = z
  .strictObject({
    id: z.string().default('task_case'),
    opened_by: opener.optional(),
    /** Who opened the root of its tree, where that is another task: the first is for who runs tasks, the second for what is obtained in them. */
    root_opened_by: opener.optional(),
    orchestrator: z.string().optional(),
    intent: z.string().default('unclassified'),
    classified: z.boolean().default(false),
    confidence: z.number().default(0),
    classification: sensitivity.default('restricted'),
    environment: z.string().default('unknown'),
    depth: z.int().min(0).default(0),
    human: z.string().optional(),
    /** What their token showed; absent: somebody named them. */
    human_proof: z.strictObject({ team: z.string().optional(), groups: z.array(z.string()).default([]) }).optional(),
    roles: z.array(z.string()).default([]),
    obtained: z.array(z.string()).default([]),
    counts,
  })
  .prefault({})
const context = z
  .strictObject({
    renewal: z.boolean().default(false),
    ttl: z.int().default(300),
    scope: z.record(z.string(), z.union([z.string(), z.array(z.string())])).default({}),
    tool: z.string().optional(),
    destination: z.string().optional(),
    external: z.boolean().default(true),
  })
  .prefault({})
const SOME_APPROVAL = { id: 'approval_case', agent: 'agent', role: 'role', groups: [] }
/** The groups whose consent comes with it: asked as the second question after `step-up`. */
const approval = z.strictObject({ groups: z.array(z.string()) }).optional()
const obtain = z.strictObject({ action: access, agent, role, task, context, approval })
const callTool = z.strictObject({
  action: z.enum(TOOL_ACTIONS),
  agent,
  tool: z.strictObject({
    name: z.string(),
    access: access.default('write'),
    sensitivity: sensitivity.default('restricted'),
    external: z.boolean().default(true),
    labels,
  }),
  task,
  call: z.strictObject({
    action: z.string(),
    target: z.string(),
    destination: z.string().optional(),
    enforced: z.boolean().default(false),
  }),
})
const onTask = z.strictObject({ action: z.enum(TASK_ACTIONS), agent: asking.agent, orchestrator: asking.orchestrator, task })
const delegate = z.strictObject({
  action: z.enum(DELEGATE_ACTIONS),
  ...asking,
  task,
  delegation: z.strictObject({
    to: z.string(),
    to_teams: z.array(z.string()).default([]),
    to_autonomy: autonomy.default('autonomous'),
    depth: z.int().min(1).default(1),
    ttl: z.int().default(300),
    chain: z.array(z.string()).optional(),
  }),
})
const approve = z.strictObject({
  action: z.enum(APPROVAL_ACTIONS),
  ...asking,
  approval: z.strictObject({ id: z.string(), agent: z.string(), role: z.string(), groups: z.array(z.string()) }).default(SOME_APPROVAL),
})
const operate = z.strictObject({
  action: z.enum(OPERATOR_ACTIONS),
  ...asking,
  resource: z.strictObject({ type: z.enum(OPERATOR_RESOURCES), id: z.string() }).default({ type: 'Broker', id: 'this' }),
  approval,
})
type Form = typeof obtain | typeof callTool | typeof onTask | typeof delegate | typeof approve | typeof operate
/** As it was read: with a value for everything. */
export type Written = z.output<Form>
/** As it may be written. */
export type PolicyDocument = z.input<Form>

/** A request, and beside it the fields that `more` says. */
export function written<More extends z.ZodRawShape>(more: More) {
  return z.union([obtain.extend(more), callTool.extend(more), onTask.extend(more), delegate.extend(more), approve.extend(more), operate.extend(more)])
}

export function requestOf(it: Written): PolicyRequest {
  if ('role' in it) {
    const { ttl, tool, ...rest } = it.context
    const role = { ...it.role, access: it.action, maxTtlSeconds: ttl, maxLifetimeSeconds: ttl, scope: {}, params: {} }
    const toolAsked = tool === undefined ? undefined : { name: tool, access: it.action }
    return {
      action: it.action,
      principal: agentOf(it.agent),
      role,
      task: taskOf(it.task, { kind: 'orchestrator', id: 'orchestrator', issuer: 'cluster' }),
      context: { ...rest, ttlSeconds: ttl, tool: toolAsked },
      ...(it.approval && { consent: it.approval.groups }),
    }
  }
  if ('call' in it) {
    const task = taskOf(it.task, { kind: 'orchestrator', id: 'orchestrator', issuer: 'cluster' })
    return { action: it.action, principal: agentOf(it.agent), tool: it.tool, task, call: it.call }
  }
  if ('delegation' in it) {
    const principal = principalOf(it)
    const { ttl: ttlSeconds, to_teams: toTeams, to_autonomy: toAutonomy, chain = [principal.id], ...rest } = it.delegation
    const opener = { kind: 'agent', id: principal.id, issuer: principal.issuer } as const
    return { action: it.action, principal, task: taskOf(it.task, opener), delegation: { ...rest, toTeams, toAutonomy, ttlSeconds, chain } }
  }
  if ('resource' in it) {
    const { action, resource, approval: agreed } = it
    return { action, principal: principalOf(it), resource, ...(agreed && { consent: agreed.groups }) }
  }
  if ('approval' in it) return { action: it.action, principal: principalOf(it), approval: it.approval }
  const principal = it.orchestrator ? orchestratorOf(it.orchestrator) : agentOf(it.agent ?? nobody())
  return { action: it.action, principal, task: taskOf(it.task, { kind: principal.kind, id: principal.id, issuer: principal.issuer }) }
}

const token = { subject: 'subject', tokenFingerprint: 'fingerprint', tokenIssuedAt: 0, tokenExpiresAt: 0 }
function agentOf({ risk, recent, ...it }: z.infer<typeof agent>): Agent {
  return { ...token, ...it, kind: 'agent', conduct: { risk, recent } }
}
function orchestratorOf(it: z.infer<typeof orchestrator>): Orchestrator {
  return { ...token, ...it, kind: 'orchestrator' }
}
function operatorOf(it: z.infer<typeof operator>): Operator {
  return { ...token, ...it, kind: 'operator' }
}
function gatewayOf(it: z.infer<typeof gateway>): Gateway {
  return { ...token, ...it, kind: 'gateway', audiences: [], tools: [] }
}
function nobody() {
  return agent.parse({ autonomy: 'autonomous' })
}
function principalOf(it: Extract<Written, { operator?: unknown }>): Principal {
  if (it.operator) return operatorOf(it.operator)
  if (it.orchestrator) return orchestratorOf(it.orchestrator)
  return it.gateway ? gatewayOf(it.gateway) : agentOf(it.agent ?? nobody())
}
function taskOf({ opened_by, root_opened_by, roles, human_proof, ...it }: z.infer<typeof task>, opener: Task['openedBy']): Task & PolicyTask {
  const times = { openedAt: 0, deadlineAt: 0, contextVersion: 1 }
  const envelope = roles.map((role) => ({ role }))
  const by = { openedBy: opened_by ?? opener, rootOpenedBy: root_opened_by }
  const humanProof = human_proof && { ...token, issuer: 'sso', ...human_proof }
  return { ...it, ...times, ...by, humanProof, root: it.id, state: 'active', envelope, assignees: [], labels: {} }
}
