import { authorize, chainTo, counted, type LeaseAsk, refuse, subjectOf, tokenLifeOf } from './authorize.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import { issue } from './issue.js'
import { inputOf } from './policy-input.js'
import type { Credential } from './providers/provider.js'
import { refusal } from './refusals.js'
import { countAct } from './risk.js'
import type { Agent, Lease, LeaseRecord, RequestContext } from './types.js'

const MOST_DECISIONS = 3

/**
 * A longer life for one lease, decided anew. Where the upstream cannot extend, a successor takes its place and the answer holds a new
 * credential; the old lease is closed as `superseded` in the same step. Never beyond the first lease's `renewableUntil`, nor oftener than its
 * role allows, nor with a workload token that is not newer than the one before; and where it rests on a token of a human's, with a newer one of
 * theirs alone.
 */
export async function renew(
  house: House,
  agent: Agent,
  id: string,
  asked: Pick<LeaseAsk, 'ttlSeconds' | 'approval' | 'canWait' | 'onBehalfOf'>,
  context: RequestContext,
  callerGone: () => boolean,
): Promise<{ lease: LeaseRecord; credential?: Credential }> {
  const lease = await house.ledger.lease(id)
  if (!lease || !isOf(lease, agent)) {
    countAct(house, agent, { asked: { renews: id }, names: [], came: 'refused' }, context)
    throw new MayflyError('not_found', 'there is no such lease for you')
  }
  if (lease.state !== 'active') throw refusal('closed')
  const ask: LeaseAsk = { ...asked, task: lease.task, role: lease.role, scope: lease.scope, renews: lease }
  if (!house.upstreams.get(lease.provider)?.provider.renew) return issue(house, agent, ask, context, callerGone)
  return counted(house, agent, ask, context, () => extend(house, agent, id, ask, context))
}

/** This very copy of the agent, of the issuer that it was verified by: another may know somebody else by its name. */
export function isOf(lease: Pick<Lease, 'agent' | 'issuer' | 'instance'>, { id, issuer, instance }: Agent): boolean {
  return lease.agent === id && lease.issuer === issuer && lease.instance === instance
}

/** In place: the later expiry is written down before the upstream is asked. */
async function extend(house: House, agent: Agent, id: string, ask: LeaseAsk, context: RequestContext): Promise<{ lease: LeaseRecord }> {
  for (let round = 1; ; round++) {
    const { task, role, upstream, request, decision, narrowed, approval } = await authorize(house, agent, ask, context, { fresh: round > 1 })
    const ttlSeconds = Math.min(narrowed.ttlSeconds, decision.maxTtlSeconds ?? narrowed.ttlSeconds, tokenLifeOf(house, agent, task))
    const counts = decision.readsCounts ? task.counts : undefined
    const facts = { contextVersion: task.contextVersion, obtained: task.obtained, counts }
    const told = event('lease.renewed', context, agent, {
      ...subjectOf({ id, task: task.id, role, chain: chainTo(task, agent), human: task.human, humanProof: task.humanProof }),
      decision,
      detail: inputOf(request),
    })
    const { tokenIssuedAt } = agent
    const humanProof = ask.onBehalfOf && task.humanProof
    const renewal = { ttlSeconds, facts, tokenIssuedAt, maxRenewals: role.maxRenewals, humanProof, approval }
    const renewed = await house.ledger.renew(id, renewal, told)
    if (!renewed.ok && renewed.refused === 'stale' && round < MOST_DECISIONS) continue
    if (!renewed.ok) throw await refuse(house, agent, ask, context, refusal(renewed.refused, renewed.detail), { decision, behalf: task })
    await upstream.renew(renewed.lease, renewed.lease.expiresAt).catch(async (error: unknown) => {
      // Taken back meanwhile: what the upstream said of that is no news to the caller.
      throw (await house.ledger.lease(id))?.state === 'active' ? error : refusal('closed')
    })
    return { lease: renewed.lease }
  }
}
