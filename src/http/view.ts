import type * as api from '../api.js'
import type { House } from '../house.js'
import type { Frozen } from '../ledger/ledger.js'
import type { Behalf } from '../on-behalf.js'
import type { Credential } from '../providers/provider.js'
import type { ThawAsked } from '../thaw.js'
import type {
  AgentRisk,
  Approval,
  Assignee,
  EmergencyRevocation,
  EnvelopeEntry,
  Freeze,
  LeaseRecord,
  Scope,
  Selector,
  Task,
  ToolEntry,
} from '../types.js'
import { SELECTOR_KEYS } from '../types.js'

/** The inside's nouns as the wire spells them. What is not named here is not told. */

const time = (ms: number): string => new Date(ms).toISOString()
const maybeTime = (ms: number | undefined): string | undefined => (ms === undefined ? undefined : time(ms))

/** The ledger's: a lease's times are of it. */
type Clock = Pick<House['ledger'], 'now'>

export function leaseView(lease: LeaseRecord, clock: Clock): api.Lease {
  return {
    id: lease.id,
    task: lease.task,
    agent: lease.agent,
    role: lease.role,
    provider: lease.provider,
    access: lease.access,
    ...behalfView(lease),
    state: lease.state,
    issued_at: time(lease.issuedAt),
    expires_at: time(lease.expiresAt),
    usable_until: maybeTime(lease.usableUntil),
    renewable_until: time(lease.renewableUntil),
    renewals: lease.renewals,
    revocation: { mode: lease.revocation, residual_seconds: residualOf(lease, clock.now()) },
    scope: scopeView(lease.scope),
    cause: lease.cause,
    settled_at: maybeTime(lease.settledAt),
    last_error: lease.lastError,
  }
}

/** Who a human is at their issuer is for events alone. */
function behalfView({ human, humanProof }: Behalf): Pick<api.Task, 'human' | 'human_proof'> {
  return { human, human_proof: humanProof && { issuer: humanProof.issuer, team: humanProof.team, groups: [...humanProof.groups] } }
}

/** From a revoke on, how long it may still work: what cannot be taken back works to its end, and then for as long as verifiers tolerate. */
function residualOf({ revocation, residualSeconds, expiresAt, usableUntil = expiresAt }: LeaseRecord, now: number): number {
  if (revocation !== 'at-expiry') return residualSeconds
  return Math.max(0, Math.ceil((usableUntil - now) / 1000)) + residualSeconds
}

/** The only time that the secret is told. */
export function credentialView({ type, fields, env }: Credential, { expires_at }: api.Lease): api.Credential {
  return { ...fields, type, env: { ...env }, expires_at }
}

export function taskView(task: Task): api.Task {
  return {
    id: task.id,
    state: task.state,
    parent: task.parent,
    chain: task.chain && [...task.chain],
    opened_by: { kind: task.openedBy.kind, id: task.openedBy.id },
    intent: task.intent,
    stated_intent: task.statedIntent,
    classified: task.classified,
    classified_by: task.classifiedBy,
    confidence: task.confidence,
    classification: task.classification,
    environment: task.environment,
    assignees: task.assignees.map(assigneeView),
    envelope: task.envelope.map(entryView),
    tools: (task.tools ?? []).map(toolView),
    check: task.check ?? 'every_call',
    plan: task.plan?.map((step) => ({ ...step })),
    labels: { ...task.labels },
    ...behalfView(task),
    external_id: task.externalId,
    opened_at: time(task.openedAt),
    deadline_at: time(task.deadlineAt),
    heartbeat_seconds: task.heartbeatSeconds,
    heartbeat_due_at: maybeTime(task.heartbeatDueAt),
    ended_at: maybeTime(task.endedAt),
    reason: task.reason,
    obtained: [...task.obtained],
  }
}

/** What is below a task, as a tree; parents come before their children. */
export function treeView(root: string, descendants: readonly Task[]): api.TaskNode[] {
  const nodes = new Map<string, api.TaskNode[]>([[root, []]])
  for (const { id, parent = root, state, openedBy, assignees, deadlineAt } of descendants) {
    const children: api.TaskNode[] = []
    nodes.set(id, children)
    const by = { kind: openedBy.kind, id: openedBy.id }
    nodes.get(parent)?.push({ id, state, opened_by: by, assignees: assignees.map(assigneeView), deadline_at: time(deadlineAt), children })
  }
  return nodes.get(root) ?? []
}

function assigneeView({ agent, instance, bindInstance }: Assignee): api.Assignee {
  return { agent, instance, bind_instance: bindInstance }
}

export function entryView({ role, scope, maxTtlSeconds, maxLeases }: EnvelopeEntry): api.EnvelopeEntry {
  return { role, scope: scope && scopeView(scope), max_ttl: maxTtlSeconds, max_leases: maxLeases }
}

export function toolView({ tool, actions, targets, maxCalls }: ToolEntry): api.ToolEntry {
  return { tool, actions: actions && [...actions], targets: targets && [...targets], max_calls: maxCalls }
}

export function scopeView(scope: Scope): api.Lease['scope'] {
  return Object.fromEntries(Object.entries(scope).map(([key, value]) => [key, typeof value === 'string' ? value : [...value]]))
}

export function riskView({ value, risk: level, signals, floor, recent, since, driftedAt }: AgentRisk): api.AgentRisk {
  return {
    ...{ value, level, signals: { ...signals } },
    floor: floor && { value: floor.value, reason: floor.reason, by: floor.by, at: time(floor.at), until: maybeTime(floor.until) },
    recent: { reads: recent.read, writes: recent.write, escalations: recent.escalate },
    counted_since: maybeTime(since),
    drifted_at: maybeTime(driftedAt),
  }
}

/** What each state leaves to the asker. */
const NEXT: Record<Approval['state'], api.Approval['next']> = {
  open: 'wait',
  granted: 'present',
  bound: 'none',
  spent: 'none',
  denied: 'ask_differently',
  expired: 'ask_again',
}

/** Who decided is for operators. */
export function approvalView(approval: Approval, forOperator: boolean): api.Approval {
  const { id, state, task, agent, instance, role, needs, consents, denial, request, lease, cause } = approval
  const { owner, autonomy, provider, access, sensitivity, revocation, residualSeconds, renews, policies, reasons, claimed } = request
  const { openedBy, intent, statedIntent, classified, classifiedBy, confidence, classification, environment, deadlineAt } = request.task
  const given = (group: string) => consents.filter(({ groups }) => groups.includes(group)).length
  const decisions = [
    ...consents.map(({ id: by, groups, at, reason }) => ({ decision: 'approve' as const, by, groups: [...groups], at: time(at), reason })),
    ...(denial ? [{ decision: 'deny' as const, by: denial.id, groups: [], at: time(denial.at), reason: denial.reason }] : []),
  ]
  const read = { intent, stated_intent: statedIntent, classified, classified_by: classifiedBy, confidence }
  const about = { ...read, classification, environment, opened_by: { kind: openedBy.kind, id: openedBy.id } }
  const revoking = { mode: revocation, residual_seconds: residualSeconds }
  const minted = { provider, access, sensitivity, revocation: revoking, scope: scopeView(request.scope), ttl: request.ttlSeconds, renews }
  return {
    id,
    state,
    next: NEXT[state],
    task,
    agent,
    instance,
    role,
    needs: needs.map(({ group, approvals }) => ({ group, approvals, given: given(group) })),
    asked_at: time(approval.askedAt),
    expires_at: time(approval.expiresAt),
    lease,
    cause,
    request: { owner, autonomy, ...minted, ...behalfView(request), ...about, task_deadline_at: time(deadlineAt) },
    policies: [...policies],
    reasons: [...reasons],
    claimed: { ...claimed },
    decisions: forOperator ? decisions : undefined,
  }
}

export function freezeView({ id, selector, reason, by, at, generation, kind }: Freeze): api.Freeze {
  return { id, selector: selectorView(selector), reason, by, at: time(at), generation, kind }
}

/** Waits for the replicas, where that is configured. */
export async function holdingView({
  holding,
  unreachable,
  replicated,
}: Frozen): Promise<{ holding: number; unreachable: number; replicated?: boolean }> {
  return { holding, unreachable, replicated: await replicated }
}

export function thawView({ needs, asks, expiresAt }: ThawAsked): NonNullable<api.ThawAnswer['asked']> {
  return { needs: [...needs], asks: asks.map(({ by, reason, at }) => ({ by, reason, at: time(at) })), expires_at: time(expiresAt) }
}

export function revocationView(revocation: EmergencyRevocation): api.EmergencyRevocation {
  const { id, selector, reason, by, state, matched, revoked, expired, pending, failed } = revocation
  return {
    id,
    selector: selectorView(selector),
    reason,
    by,
    state,
    verify: revocation.verify,
    started_at: time(revocation.startedAt),
    finished_at: maybeTime(revocation.finishedAt),
    matched,
    revoked,
    expired,
    pending,
    failed,
    residual_until: maybeTime(revocation.residualUntil),
    providers: revocation.providers.map(({ provider, residualUntil, ...at }) => {
      const { matched, revoked, expired, pending, failed } = at
      return { provider, matched, revoked, expired, pending, failed, residual_until: maybeTime(residualUntil) }
    }),
  }
}

function selectorView(selector: Selector): api.Freeze['selector'] {
  if (selector.all) return { all: true }
  return Object.fromEntries(SELECTOR_KEYS.flatMap((key) => (selector[key] ? [[key, [...selector[key]]]] : [])))
}

export { time as timeView }
