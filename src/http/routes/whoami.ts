import { WhoamiAnswer, WhoamiQuery } from '../../api.js'
import { narrow } from '../../envelope.js'
import { MayflyError } from '../../errors.js'
import type { House } from '../../house.js'
import { taskOfCaller } from '../../task.js'
import type { Agent, EnvelopeEntry, Principal, Task } from '../../types.js'
import { ANYONE, type Route, route } from '../route.js'
import { timeView } from '../view.js'

const whoami = route({
  method: 'get',
  path: '/v1/whoami',
  surfaces: ['public', 'operator'],
  who: ANYONE,
  summary: 'Who the broker takes the caller for; with ?task, what an agent could obtain for it now and what stands in the way.',
  query: WhoamiQuery,
  answers: { 200: WhoamiAnswer },
  codes: ['not_found', 'ledger_unavailable'],
}).handle(async ({ house, principal, query }) => {
  if (query.task === undefined) return { status: 200, body: { principal: principalView(principal) } }
  if (principal.kind !== 'agent') throw new MayflyError('request_invalid', 'task: only an agent obtains leases', { issues: [ONLY_AGENTS] })
  const task = await taskOfCaller(house, principal, query.task, 'assignee')
  const obtainable = await Promise.all(task.envelope.map((entry) => prospect(house, principal, task, entry)))
  return { status: 200, body: { principal: principalView(principal), obtainable } }
})

export const whoamiRoutes: readonly Route[] = [whoami]

const ONLY_AGENTS = { path: 'task', message: 'only an agent obtains leases' }

function principalView(principal: Principal): WhoamiAnswer['principal'] {
  const { kind, id, issuer, tokenExpiresAt } = principal
  const common = { kind, id, issuer, token_expires_at: timeView(tokenExpiresAt) }
  if (principal.kind === 'agent') return { ...common, instance: principal.instance, owner: principal.owner, autonomy: principal.autonomy }
  return principal.kind === 'operator' ? { ...common, groups: [...principal.groups] } : common
}

/** The decision on the widest request that the envelope allows; nothing is written down, because nothing is asked for. */
async function prospect(house: House, agent: Agent, task: Task, entry: EnvelopeEntry): Promise<NonNullable<WhoamiAnswer['obtainable']>[number]> {
  const no = (reason: string) => ({ role: entry.role, decision: 'deny' as const, policies: [], reasons: [reason] })
  if (task.state !== 'active') return no(`the task has ended (${task.state})`)
  const role = house.roles.get(entry.role)
  const upstream = role && house.upstreams.get(role.provider)
  if (!role || !upstream) return no('the role is not configured any more')
  const narrowed = narrow(role, entry, {})
  if ('outside' in narrowed) return no(narrowed.outside)
  const { ttlSeconds, scope } = narrowed
  const { outcome, policies, reasons, error } = await house.policy.decide({
    action: role.access,
    principal: agent,
    role: { ...role, revocation: upstream.provider.revocation },
    task,
    // As `authorize` asks, or what is foretold is not what is decided.
    context: { renewal: false, ttlSeconds, scope, external: true },
  })
  if (error !== undefined) return no('the policy could not be evaluated, so the answer is no')
  return { role: role.name, decision: outcome, policies: [...policies], reasons: [...reasons] }
}
