import { WhoamiAnswer, WhoamiQuery } from '../../api.js'
import { mustAsk } from '../../call-tool.js'
import { MayflyError } from '../../errors.js'
import type { House } from '../../house.js'
import { type Prospect, prospects } from '../../prospect.js'
import { taskOfCaller } from '../../task.js'
import type { Principal, Task } from '../../types.js'
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
  const obtainable = (await prospects(house, principal, task)).map(prospectView)
  const about = { task: { id: task.id, state: task.state }, obtainable, tools: toolsView(house, task) }
  return { status: 200, body: { principal: principalView(principal), ...about } }
})

export const whoamiRoutes: readonly Route[] = [whoami]

const ONLY_AGENTS = { path: 'task', message: 'only an agent obtains leases' }

function principalView(principal: Principal): WhoamiAnswer['principal'] {
  const { kind, id, issuer, tokenExpiresAt } = principal
  const common = { kind, id, issuer, token_expires_at: timeView(tokenExpiresAt) }
  if (principal.kind === 'agent') return { ...common, instance: principal.instance, owner: principal.owner, autonomy: principal.autonomy }
  if (principal.kind !== 'operator') return common
  return { ...common, groups: [...principal.groups], persons: principal.persons && [...principal.persons] }
}

function toolsView({ tools: catalogue }: House, task: Task): WhoamiAnswer['tools'] {
  return task.tools?.map(({ tool }) => {
    const known = catalogue.get(tool)
    return { tool, known: known !== undefined, access: known?.access, sensitivity: known?.sensitivity, must_ask: !known || mustAsk(task, known) }
  })
}

function prospectView({ stepUp, ttlSeconds, policies, reasons, ...rest }: Prospect): NonNullable<WhoamiAnswer['obtainable']>[number] {
  return { ...rest, policies: [...policies], reasons: [...reasons], step_up: stepUp && [...stepUp], ttl: ttlSeconds }
}
