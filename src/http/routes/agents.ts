import { riskOf } from '../../agent-risk.js'
import { freezesOf, standingOf } from '../../agents.js'
import { AGENT_ID, AgentAnswer, AgentsAnswer, AnyReachAnswer, ReachQuery } from '../../api.js'
import type { AgentCounts } from '../../ledger/ledger.js'
import { reachOf } from '../../reach.js'
import type { Freeze } from '../../types.js'
import { BROKER, notFound, permit } from '../operator.js'
import { grantOf, grantsView, reachedThen } from '../reach-view.js'
import { type Route, route } from '../route.js'
import type { ConfiguredAgent } from '../surroundings.js'
import { entryView, freezeView, leaseView, riskView, timeView } from '../view.js'

const list = route({
  method: 'get',
  path: '/v1/agents',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'The agents of the configuration, whose id may be a template that claims fill, and those that hold leases or work on tasks now.',
  answers: { 200: AgentsAnswer },
  codes: ['denied', 'ledger_unavailable'],
}).handle(async (call) => {
  await permit(call, 'inspect', BROKER)
  const { ledger } = call.house
  const rules = call.around.agents()
  const [counts, freezes] = await Promise.all([ledger.agents(), ledger.freezes()])
  const seen = counts.filter(({ agent }) => !rules.some(({ id }) => id === agent))
  const agents = [
    ...rules.map((rule) => summaryOf(rule.id, rule, sumOf(counts.filter(({ agent }) => rule.makes(agent))), freezes)),
    ...seen.map((count) => summaryOf(count.agent, ruleOf(rules, count.agent), count, freezes)),
  ]
  return { status: 200, body: { agents } }
})

const reach = route({
  method: 'get',
  path: '/v1/agents/{+id}/reach',
  surfaces: ['operator'],
  who: ['operator'],
  summary:
    'What an agent holds, and could obtain for its tasks, itself or through those that it handed work on to: now, from the ledger; with ?at, at a time that has passed, from the record.',
  id: AGENT_ID,
  query: ReachQuery,
  answers: { 200: AnyReachAnswer },
  codes: ['denied', 'not_found', 'rate_limited', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, id } = call
  await permit(call, 'inspect', { type: 'Agent', id })
  if (call.query.at !== undefined) return { status: 200, body: await reachedThen(call.around, house, id, Date.parse(call.query.at)) }
  const rule = ruleOf(call.around.agents(), id)
  const [freezes, { own, handedOn, leases, complete }] = await Promise.all([house.ledger.freezes(), reachOf(house, id)])
  if (!rule && own.length + handedOn.length + leases.length === 0) throw notFound('agent')
  const answer = {
    agent: id,
    at: timeView(house.ledger.now()),
    source: 'ledger' as const,
    standing: standingOf(freezesOf(freezes, id)),
    complete,
    ...grantsView(own.map(grantOf), handedOn.map(grantOf)),
    opens: (rule?.openTasks ?? []).map(entryView),
    leases: leases.map((one) => leaseView(one, house.ledger)),
  }
  return { status: 200, body: answer }
})

const show = route({
  method: 'get',
  path: '/v1/agents/{+id}',
  surfaces: ['operator'],
  who: ['operator'],
  summary: 'One agent: who answers for it, what it holds, and what stands in its way. A slash in an id may be sent as it is or as %2F.',
  id: AGENT_ID,
  answers: { 200: AgentAnswer },
  codes: ['denied', 'not_found', 'ledger_unavailable'],
}).handle(async (call) => {
  const { house, id } = call
  await permit(call, 'inspect', { type: 'Agent', id })
  const rule = ruleOf(call.around.agents(), id)
  const [counts, freezes, risk] = await Promise.all([house.ledger.agents(id), house.ledger.freezes(), riskOf(house, id)])
  const covering = freezesOf(freezes, id)
  if (!rule && counts.length === 0 && !covering.some(({ selector }) => selector.agent)) throw notFound('agent')
  const { labels = [], openTasks } = rule ?? {}
  const agent = { ...summaryOf(id, rule, sumOf(counts), freezes), labels: [...labels], open_tasks: openTasks?.map(entryView) }
  return { status: 200, body: { agent, freezes: covering.map(freezeView), risk: risk && riskView(risk) } }
})

/** Reach comes before the agent itself, which takes whatever is left of the path. */
export const agentRoutes: readonly Route[] = [list, reach, show]

/** The rule of that very id, or the first whose template makes it. */
export function ruleOf(rules: readonly ConfiguredAgent[], id: string): ConfiguredAgent | undefined {
  return rules.find((rule) => rule.id === id) ?? rules.find((rule) => rule.makes(id))
}

type Counted = Omit<AgentCounts, 'agent'>

function sumOf(counts: readonly Counted[]): Counted {
  const sum = (name: keyof Counted) => counts.reduce((total, one) => total + one[name], 0)
  return { live: sum('live'), closing: sum('closing'), tasks: sum('tasks') }
}

function summaryOf(id: string, rule: ConfiguredAgent | undefined, { live, closing, tasks }: Counted, freezes: readonly Freeze[]) {
  const { owner, autonomy, team, match } = rule ?? {}
  const told = { owner, autonomy, team, issuer: match?.issuer, rule: rule && rule.id !== id ? rule.id : undefined }
  return { id, ...told, standing: standingOf(freezesOf(freezes, id)), live_leases: live, closing_leases: closing, tasks }
}
