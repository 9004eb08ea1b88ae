import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PolicyOptions } from '../../src/policy/options.js'
import type { ObtainContext, PolicyRequest } from '../../src/policy/policy.js'
import type { Agent, HumanProof, Operator, Orchestrator, Role, Task } from '../../src/types.js'

const config = join(import.meta.dirname, '../../config')
const file = (name: string) => ({ name, text: readFileSync(join(config, 'policies', name), 'utf8') })

/** What the example configuration has. */
export const sample: Omit<PolicyOptions, 'files'> = {
  schema: readFileSync(join(config, 'schema.cedarschema'), 'utf8'),
  vocabulary: { intents: ['incident-triage', 'deploy', 'data-report'], environments: ['production', 'staging', 'development'] },
  known: {
    teams: ['analytics', 'platform', 'dev', 'data', 'company'],
    groups: ['sre-oncall', 'security'],
    providers: ['warehouse', 'cache', 'tokens', 'aws-main'],
    roles: ['warehouse-read', 'warehouse-write', 'cache-read', 'api-token', 's3-export'],
    tools: ['github/create_issue', 'github/get_issue', 'db/query'],
    issuers: ['cluster', 'sso'],
  },
}
export const shipped: PolicyOptions = {
  ...sample,
  files: ['obtain.cedar', 'guardrails.cedar', 'autonomy.cedar', 'risk.cedar', 'tasks.cedar', 'tools.cedar', 'operators.cedar'].map(file),
}
export const development: PolicyOptions = { ...sample, files: ['dev/obtain.cedar', 'dev/tools.cedar', 'tasks.cedar', 'operators.cedar'].map(file) }

export function withPolicies(text: string, more: Partial<PolicyOptions> = {}): PolicyOptions {
  return { ...sample, files: [{ name: 'test.cedar', text }], ...more }
}

const token = { subject: 'subject', tokenFingerprint: 'fingerprint', tokenIssuedAt: 0, tokenExpiresAt: 0 }
export function agent(it: Partial<Agent> = {}): Agent {
  const who = { id: 'triage', issuer: 'cluster', labels: [], owner: 'owner@example.com', team: 'analytics' }
  return { ...token, kind: 'agent', autonomy: 'supervised', ...who, ...it }
}
export function orchestrator(it: Partial<Orchestrator> = {}): Orchestrator {
  return { ...token, kind: 'orchestrator', id: 'flows', issuer: 'cluster', labels: [], ...it }
}
export function operator(it: Partial<Operator> = {}): Operator {
  return { ...token, kind: 'operator', id: 'sso/ann', issuer: 'sso', labels: [], groups: ['sre-oncall'], ...it }
}
export function proof(it: Partial<HumanProof> = {}): HumanProof {
  return { ...token, issuer: 'sso', groups: [], ...it }
}
export function task(it: Partial<Task> = {}): Task {
  return {
    id: 'task_1',
    root: 'task_1',
    depth: 0,
    state: 'active',
    openedBy: { kind: 'orchestrator', id: 'flows', issuer: 'cluster' },
    intent: 'incident-triage',
    classified: true,
    confidence: 0.9,
    classification: 'internal',
    environment: 'production',
    assignees: [{ agent: 'triage' }],
    envelope: [{ role: 'warehouse-read' }],
    labels: {},
    openedAt: 0,
    deadlineAt: 0,
    contextVersion: 1,
    obtained: [],
    counts: { read: 0, write: 0, escalate: 0 },
    ...it,
  }
}
export type AskedRole = Role & { revocation: 'immediate' | 'deny-policy' | 'at-expiry' }
export function role(it: Partial<AskedRole> = {}): AskedRole {
  const limits = { maxTtlSeconds: 900, maxLifetimeSeconds: 3600, scope: {}, params: {} }
  const name = { name: 'warehouse-read', provider: 'warehouse', labels: [] }
  return { ...name, access: 'read', sensitivity: 'confidential', revocation: 'immediate', ...limits, ...it }
}
export interface Asked {
  agent?: Partial<Agent>
  role?: Partial<AskedRole>
  task?: Partial<Task>
  context?: Partial<ObtainContext>
}
export function obtain(it: Asked = {}): PolicyRequest {
  const asked = role(it.role)
  const context = { renewal: false, ttlSeconds: 300, scope: {}, external: false, ...it.context }
  return { action: asked.access, principal: agent(it.agent), role: asked, task: task(it.task), context }
}
