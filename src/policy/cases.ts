import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import type { Agent, Decision, Operator, Orchestrator, Task } from '../types.js'
import { APPROVAL_ACTIONS, DELEGATE_ACTIONS, OBTAIN_ACTIONS, OPERATOR_ACTIONS, OPERATOR_RESOURCES, TASK_ACTIONS } from './actions.js'
import type { Policy, PolicyRequest } from './policy.js'

/** Folders of cases: their name is the outcome that each case in them expects. */
const OUTCOMES = ['allow', 'deny', 'step-up'] as const
export interface CaseResult {
  /** `deny/freeze-by-agent.json` */
  readonly file: string
  readonly passed: boolean
  /** What was expected and what came, where they differ; what is wrong with the file, where it cannot be read. */
  readonly problem?: string
  readonly decision?: Decision
}

const sensitivity = z.enum(['public', 'internal', 'confidential', 'restricted'])
const autonomy = z.enum(['scripted', 'supervised', 'autonomous'])
const access = z.enum(OBTAIN_ACTIONS)
const labels = z.array(z.string()).default([])
const caller = { id: z.string().default('anyone'), issuer: z.string().default('cluster'), labels }
const agent = z.strictObject({ ...caller, team: z.string().optional(), owner: z.string().default('owner@example.com'), autonomy })
const orchestrator = z.strictObject({ ...caller, team: z.string().optional() })
const operator = z.strictObject({ ...caller, groups: z.array(z.string()).default([]) })
const role = z.strictObject({
  name: z.string(),
  provider: z.string().default('provider'),
  sensitivity: sensitivity.default('restricted'),
  revocation: z.enum(['immediate', 'deny-policy', 'at-expiry']).default('at-expiry'),
  labels,
})
const task = z
  .strictObject({
    opened_by: z.strictObject({ kind: z.enum(['agent', 'orchestrator']), id: z.string(), issuer: z.string().default('cluster') }).optional(),
    intent: z.string().default('unclassified'),
    classified: z.boolean().default(false),
    confidence: z.number().default(0),
    classification: sensitivity.default('restricted'),
    environment: z.string().default('unknown'),
    depth: z.int().min(0).default(0),
    human: z.string().optional(),
    roles: z.array(z.string()).default([]),
    obtained: z.array(z.string()).default([]),
    counts: z.strictObject({ read: z.int(), write: z.int(), escalate: z.int() }).default({ read: 0, write: 0, escalate: 0 }),
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
/** Only these are compared, and only those that are there. */
const expected = z
  .strictObject({
    policies: z.array(z.string()).optional(),
    reasons: z.array(z.string()).optional(),
    max_ttl: z.int().nullable().optional(),
    max_live: z.int().nullable().optional(),
    step_up: z.array(z.strictObject({ group: z.string(), approvals: z.int() })).optional(),
  })
  .prefault({})
const about = z.string().min(1)
const delegation = z.strictObject({
  to: z.string(),
  depth: z.int().min(1).default(1),
  ttl: z.int().default(300),
  chain: z.array(z.string()).optional(),
})
const SOME_APPROVAL = { id: 'approval_case', agent: 'agent', role: 'role', groups: [] }
const ask = z.union([
  z.strictObject({ about, action: access, agent, role, task, context, expect: expected }),
  z.strictObject({ about, action: z.enum(TASK_ACTIONS), agent: agent.optional(), orchestrator: orchestrator.optional(), task, expect: expected }),
  z.strictObject({ about, action: z.enum(DELEGATE_ACTIONS), agent, task, delegation, expect: expected }),
  z.strictObject({
    about,
    action: z.enum(APPROVAL_ACTIONS),
    agent: agent.optional(),
    operator: operator.optional(),
    approval: z.strictObject({ id: z.string(), agent: z.string(), role: z.string(), groups: z.array(z.string()) }).default(SOME_APPROVAL),
    expect: expected,
  }),
  z.strictObject({
    about,
    action: z.enum(OPERATOR_ACTIONS),
    agent: agent.optional(),
    operator: operator.optional(),
    resource: z.strictObject({ type: z.enum(OPERATOR_RESOURCES), id: z.string() }).default({ type: 'Broker', id: 'this' }),
    expect: expected,
  }),
])
type Case = z.infer<typeof ask>

/**
 * Asks the policy every case below `folder`: `allow/*.json`, `deny/*.json`, `step-up/*.json`, in this order and by name. What a case leaves
 * out has its most restrictive value.
 */
export async function runCases(policy: Policy, folder: string): Promise<CaseResult[]> {
  const results: CaseResult[] = []
  const folders = await readdir(folder)
  for (const outcome of OUTCOMES.filter((one) => folders.includes(one))) {
    for (const name of (await readdir(join(folder, outcome))).filter((one) => one.endsWith('.json')).sort()) {
      const file = `${outcome}/${name}`
      const read = ask.safeParse(json(await readFile(join(folder, file), 'utf8')))
      if (!read.success) results.push({ file, passed: false, problem: z.prettifyError(read.error) })
      else results.push(compare(file, outcome, read.data.expect, await policy.decide(requestOf(read.data))))
    }
  }
  return results
}

/** What isn't JSON is no case either. */
function json(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function compare(file: string, outcome: Decision['outcome'], expect: z.infer<typeof expected>, decision: Decision): CaseResult {
  const pairs: [string, unknown, unknown][] = [
    ['outcome', outcome, decision.outcome],
    ['error', undefined, decision.error],
    ['policies', expect.policies, decision.policies],
    ['reasons', expect.reasons, decision.reasons],
    ['max_ttl', expect.max_ttl, decision.maxTtlSeconds ?? null],
    ['max_live', expect.max_live, decision.maxLive ?? null],
    ['step_up', expect.step_up, decision.stepUp ?? []],
  ]
  const differ = pairs.filter(([what, wanted, got]) => {
    return (wanted !== undefined || what === 'error') && JSON.stringify(wanted) !== JSON.stringify(got)
  })
  if (differ.length === 0) return { file, passed: true, decision }
  const problem = differ.map(([what, wanted, got]) => `${what}: expected ${JSON.stringify(wanted)}, got ${JSON.stringify(got)}`).join('; ')
  return { file, passed: false, problem: `${problem} (decided by ${decision.policies.join(', ') || 'no policy'})`, decision }
}

function requestOf(it: Case): PolicyRequest {
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
    }
  }
  if ('delegation' in it) {
    const { ttl: ttlSeconds, chain = [it.agent.id], ...rest } = it.delegation
    const principal = agentOf(it.agent)
    return {
      action: it.action,
      principal,
      task: taskOf(it.task, { kind: 'agent', id: principal.id, issuer: principal.issuer }),
      delegation: { ...rest, ttlSeconds, chain },
    }
  }
  if ('approval' in it) {
    const principal = it.operator ? operatorOf(it.operator) : agentOf(it.agent ?? agent.parse({ autonomy: 'autonomous' }))
    return { action: it.action, principal, approval: it.approval }
  }
  if ('resource' in it) {
    const principal = it.operator ? operatorOf(it.operator) : agentOf(it.agent ?? agent.parse({ autonomy: 'autonomous' }))
    return { action: it.action, principal, resource: it.resource }
  }
  const principal = it.orchestrator ? orchestratorOf(it.orchestrator) : agentOf(it.agent ?? agent.parse({ autonomy: 'autonomous' }))
  return { action: it.action, principal, task: taskOf(it.task, { kind: principal.kind, id: principal.id, issuer: principal.issuer }) }
}

const token = { subject: 'subject', tokenFingerprint: 'fingerprint', tokenIssuedAt: 0, tokenExpiresAt: 0 }
function agentOf(it: z.infer<typeof agent>): Agent {
  return { ...token, ...it, kind: 'agent' }
}
function orchestratorOf(it: z.infer<typeof orchestrator>): Orchestrator {
  return { ...token, ...it, kind: 'orchestrator' }
}
function operatorOf(it: z.infer<typeof operator>): Operator {
  return { ...token, ...it, kind: 'operator' }
}
function taskOf({ opened_by, roles, ...it }: z.infer<typeof task>, opener: Task['openedBy']): Task {
  const id = 'task_case'
  const times = { openedAt: 0, deadlineAt: 0, contextVersion: 1 }
  const envelope = roles.map((role) => ({ role }))
  return { ...it, ...times, id, root: id, state: 'active', openedBy: opened_by ?? opener, envelope, assignees: [], labels: {} }
}
