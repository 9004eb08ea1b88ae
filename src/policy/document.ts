import type { Principal, Task } from '../types.js'
import { type CallRequest, isApproval, isCall, isDelegate, isObtain, isTask, type ObtainRequest } from './actions.js'
import type { PolicyDocument } from './case.js'
import type { PolicyRequest, PolicyTask } from './policy.js'

/** A request as data: all that policies can read of it, and nothing else. The way back from `case.ts`, for requests of every kind. */
export function documentOf(request: PolicyRequest): PolicyDocument {
  if (isObtain(request)) return obtainOf(request)
  if (isCall(request)) return callOf(request)
  if (isTask(request)) {
    const { action, principal, task } = request
    const who = principal.kind === 'agent' ? { agent: agentOf(principal) } : { orchestrator: callerOf(principal) }
    return { action, ...who, task: policyTaskOf(task) }
  }
  const who = askingOf(request.principal)
  if (isDelegate(request)) {
    const { ttlSeconds: ttl, to, toTeams, toAutonomy, depth, chain } = request.delegation
    return {
      action: request.action,
      ...who,
      task: policyTaskOf(request.task),
      delegation: { to, to_teams: [...toTeams], to_autonomy: toAutonomy, depth, ttl, chain: [...chain] },
    }
  }
  if (isApproval(request)) {
    const { id, agent, role, groups } = request.approval
    return { action: request.action, ...who, approval: { id, agent, role, groups: [...groups] } }
  }
  const { action, resource, consent } = request
  return { action, ...who, resource: { type: resource.type, id: resource.id }, approval: consent && { groups: [...consent] } }
}

function obtainOf({ action, principal, role, task, context, consent }: ObtainRequest): PolicyDocument {
  const { name, provider, sensitivity, revocation, labels } = role
  const { renewal, ttlSeconds: ttl, scope, tool, destination, external } = context
  return {
    action,
    agent: agentOf(principal),
    role: { name, provider, sensitivity, revocation, labels: [...labels] },
    task: taskOf(task),
    context: { renewal, ttl, scope: scopeOf(scope), tool: tool?.name, destination, external },
    approval: consent && { groups: [...consent] },
  }
}

function callOf({ action, principal, tool, task, call }: CallRequest): PolicyDocument {
  const { name, access, sensitivity, external, labels } = tool
  const { action: does, target, destination, enforced } = call
  return {
    action,
    agent: agentOf(principal),
    tool: { name, access, sensitivity, external, labels: [...labels] },
    task: taskOf(task),
    call: { action: does, target, destination, enforced },
  }
}

/** Which task it is, no policy can read where something is asked for it. */
function taskOf(task: Task) {
  const { openedBy, orchestrator, intent, classified, confidence, classification, environment, human, humanProof, depth, obtained, counts } = task
  const { read, write, escalate } = counts
  return {
    opened_by: openerOf(openedBy),
    ...{ orchestrator, intent, classified, confidence, classification, environment, human, depth },
    human_proof: humanProof && { team: humanProof.team, groups: [...humanProof.groups] },
    obtained: [...obtained],
    counts: { read, write, escalate },
  }
}

function policyTaskOf({ id, openedBy, rootOpenedBy, intent, classified, classification, environment, envelope, human }: PolicyTask) {
  const openers = { opened_by: openerOf(openedBy), root_opened_by: rootOpenedBy && openerOf(rootOpenedBy) }
  return { id, ...openers, intent, classified, classification, environment, roles: envelope.map(({ role }) => role), human }
}

function openerOf({ kind, id, issuer }: Task['openedBy']) {
  return { kind, id, issuer }
}

function askingOf(principal: Principal) {
  if (principal.kind === 'agent') return { agent: agentOf(principal) }
  if (principal.kind === 'orchestrator') return { orchestrator: callerOf(principal) }
  if (principal.kind === 'gateway') return { gateway: callerOf(principal) }
  const { team: _, ...operator } = callerOf(principal)
  return { operator: { ...operator, groups: [...principal.groups] } }
}

function agentOf(agent: Extract<Principal, { kind: 'agent' }>) {
  const { owner, autonomy, conduct } = agent
  return { ...callerOf(agent), owner, autonomy, risk: conduct?.risk, recent: conduct && { ...conduct.recent } }
}

function callerOf({ id, issuer, labels, team }: Principal) {
  return { id, issuer, labels: [...labels], team }
}

function scopeOf(scope: ObtainRequest['context']['scope']): Record<string, string | string[]> {
  return Object.fromEntries(Object.entries(scope).map(([key, value]) => [key, typeof value === 'string' ? value : [...value]]))
}
