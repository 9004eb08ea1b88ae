import { TASK_ID, type ToolCall, ToolCallRequest, ToolCallsAnswer } from '../../api.js'
import { type CallAsk, type Called, callTool } from '../../call-tool.js'
import { type Caller, ownCaller, type Represented, representedBy } from '../../caller.js'
import { MayflyError } from '../../errors.js'
import type { TokenSigner } from '../../signer.js'
import type { Gateway } from '../../types.js'
import { problemOf } from '../problem.js'
import { type Route, route } from '../route.js'

const REFUSALS = ['denied', 'approval_required', 'tool_unknown', 'outside_tools', 'outside_plan', 'not_found'] as const

const call = route({
  method: 'post',
  path: '/v1/tasks/{id}/tool-calls',
  surfaces: ['public'],
  who: ['agent', 'gateway'],
  summary:
    'Whether an agent may call a tool for a task: decided and recorded. To the agent it is advice, to a gateway in front of the tool enforcement. With `calls`, several in this order, each with an answer of its own.',
  widens: true,
  id: TASK_ID,
  body: ToolCallRequest,
  holds: (body) => (isBatch(body) ? body.calls.length : 1),
  answers: { 200: ToolCallsAnswer },
  codes: [
    ...REFUSALS,
    'on_behalf_of_required',
    'task_ended',
    'frozen',
    'quarantined',
    'lease_ended',
    'conflict',
    'ledger_unavailable',
    'audit_unavailable',
    'draining',
  ],
}).handle(async ({ house, around, principal, id, body, context }) => {
  const asked = callsOf(body)
  const { caller, shown } = principal.kind === 'agent' ? { caller: agentIn(ownCaller(principal), body) } : await agentOf(principal, body)
  // What an agent shows a token of is what it calls with, and so on behalf of whom that was obtained for.
  const calls = asked.map((one) => ({ ...one, lease: one.lease ?? shown }))
  if (body.calls === undefined) {
    const [only] = calls
    if (!only) throw new Error('a request without a call was let through')
    return { status: 200, body: calledView(await callTool(house, caller, id, only, context), caller) }
  }
  // One after the other: what follows from a denial, and what a call obtained, holds for those after it.
  const decided = []
  for (const one of calls) decided.push(await callTool(house, caller, id, one, context).then((called) => calledView(called, caller), refusedView))
  return { status: 200, body: { calls: decided } }

  async function agentOf(gateway: Gateway, request: ToolCallRequest): Promise<{ caller: Caller; shown?: string }> {
    for (const { tool } of asked) if (!gateway.tools.includes(tool)) throw notIts(tool)
    const whom = await representedIn(request, gateway, around.signer(), house.ledger.now())
    return { caller: await representedBy(house, gateway, whom), shown: 'lease' in whom ? whom.lease : undefined }
  }
})

export const toolCallRoutes: readonly Route[] = [call]

function isBatch(body: unknown): body is { calls: unknown[] } {
  return typeof body === 'object' && body !== null && 'calls' in body && Array.isArray(body.calls)
}

function callsOf({ calls, tool, action, target, ...rest }: ToolCallRequest): CallAsk[] {
  if (calls) return calls.map(askOf)
  return tool === undefined || action === undefined || target === undefined ? [] : [askOf({ tool, action, target, ...rest })]
}

function askOf({ tool, action, target, lease, destination, arguments_digest: argumentsDigest }: ToolCall): CallAsk {
  return { tool, action, target, lease, destination, argumentsDigest }
}

/** An agent asks for itself. */
function agentIn(caller: Caller, { agent, issuer, instance, token }: ToolCallRequest): Caller {
  if ([agent, issuer, instance, token].every((one) => one === undefined)) return caller
  throw invalid('agent', 'only a gateway asks in the stead of an agent')
}

/** By its name, or by a token signed by Mayfly that the agent showed to the gateway: one that is meant for it (RFC 7662 §4). */
async function representedIn(
  { agent, issuer, instance, token }: ToolCallRequest,
  { audiences }: Gateway,
  signer: TokenSigner | undefined,
  now: number,
): Promise<Represented> {
  if ((agent === undefined) === (token === undefined)) throw invalid('agent', 'name the agent, or give the token that it showed')
  if (agent !== undefined) return { agent, issuer, instance }
  const claims = token === undefined ? undefined : await signer?.verify(token, now)
  const isMeant = [claims?.aud].flat().some((audience) => audience !== undefined && audiences.includes(audience))
  // What is no lease has no holder.
  return { lease: isMeant && claims?.jti !== undefined ? claims.jti : '' }
}

function calledView({ id, check, mustAsk, decision }: Called, { enforced }: Caller) {
  return { call: id, decision: 'allow' as const, enforced, check, must_ask: mustAsk, policies: [...decision.policies] }
}

/** What went wrong with one call is that call's answer; what went wrong with the broker is everybody's. */
function refusedView(error: unknown) {
  if (!(error instanceof MayflyError) || error.status >= 500) throw error
  return { decision: 'deny' as const, problem: problemOf(error, error.details.event) }
}

function notIts(tool: string): MayflyError {
  const next = 'ask about the tools that the configuration gives this gateway'
  return new MayflyError('denied', `this gateway does not stand in front of tool "${tool}"`, { next })
}

function invalid(path: string, message: string): MayflyError {
  return new MayflyError('request_invalid', `${path}: ${message}`, { issues: [{ path, message }] })
}
