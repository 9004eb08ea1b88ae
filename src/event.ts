import { randomUUID } from 'node:crypto'
import type { Decision, Event, EventType, Principal, RequestContext } from './types.js'

type Facts = Omit<Event, 'id' | 'type' | 'principal' | 'request' | 'decision'> & { decision?: Decision }

/** One event about one request. The id is random, so that a lost reply can be retried without telling the story twice. */
export function event(type: EventType, context: RequestContext | undefined, principal: Principal | undefined, facts: Facts = {}): Event {
  const { decision, ...rest } = facts
  return {
    id: randomUUID(),
    type,
    ...(principal && {
      principal: {
        kind: principal.kind,
        id: principal.id,
        instance: principal.kind === 'agent' ? principal.instance : undefined,
        owner: principal.kind === 'agent' ? principal.owner : undefined,
        issuer: principal.issuer,
        token: principal.tokenFingerprint,
      },
    }),
    ...(context && { request: { id: context.requestId, trace: context.trace } }),
    ...rest,
    ...(decision && {
      decision: { outcome: decision.outcome, policies: decision.policies, policyVersion: decision.policyVersion, error: decision.error },
    }),
  }
}
