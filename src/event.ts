import { randomUUID } from 'node:crypto'
import type { Decision, Event, EventType, Principal, RequestContext } from './types.js'

type Facts = Omit<Event, 'id' | 'type' | 'principal' | 'request' | 'decision'> & { decision?: Decision }

/** One event about one request. The id is random, so that a lost reply can be retried without telling the story twice. */
export function event(type: EventType, context: RequestContext | undefined, principal: Principal | undefined, facts: Facts = {}): Event {
  const { decision } = facts
  // `id` and `type` first: the outbox reads them where they stand. What is undefined is left out of the JSON.
  return {
    id: randomUUID(),
    type,
    principal: principal && toldOf(principal),
    request: context && { id: context.requestId, trace: context.trace },
    task: facts.task,
    lease: facts.lease,
    role: facts.role,
    provider: facts.provider,
    approval: facts.approval,
    human: facts.human,
    decision: decision && {
      outcome: decision.outcome,
      policies: decision.policies,
      policyVersion: decision.policyVersion,
      decisionIds: decision.decisionIds,
      error: decision.error,
      observed: decision.observed,
    },
    cause: facts.cause,
    code: facts.code,
    chain: facts.chain,
    detail: facts.detail,
  }
}

function toldOf(principal: Principal): Event['principal'] {
  const { kind, id, issuer, tokenFingerprint: token } = principal
  if (kind !== 'agent') return { kind, id, issuer, token }
  return { kind, id, instance: principal.instance, owner: principal.owner, issuer, token }
}
