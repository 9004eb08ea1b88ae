import { freezesOf } from './agents.js'
import type { Caller } from './caller.js'
import { emergencyRevoke, revokeAll } from './emergency.js'
import { event } from './event.js'
import type { House } from './house.js'
import { drive } from './revoke.js'
import type { Decision, Event, RequestContext } from './types.js'

/**
 * What a denial brings about by `@onDeny`, done before its answer leaves: the task and all below it are over, or the agent is suspended
 * until an operator resumes it. Asking again changes nothing more. Never waits for the outbox.
 * @returns what the caller is told of it
 */
export async function follow(
  house: House,
  caller: Caller,
  task: string | undefined,
  { onDeny = [], policies }: Pick<Decision, 'onDeny' | 'policies'>,
  because: Event,
  context: RequestContext,
): Promise<string | undefined> {
  const done: string[] = []
  const reason = `denied by ${policies.join(', ')}`
  if (onDeny.includes('suspend-agent')) {
    await house.risk.stop(caller.agent.id, () => suspend(house, caller, reason, context))
    done.push('this agent has been suspended: an operator can resume it')
  }
  if (onDeny.includes('close-task') && task !== undefined) {
    await close(house, caller, task, reason, because, context)
    done.push('the task has been closed because of it: open a new one')
  }
  return done.length > 0 ? done.join('; ') : undefined
}

async function close(house: House, { principal }: Caller, task: string, reason: string, because: Event, context: RequestContext): Promise<void> {
  const cause = 'task_revoked'
  const told = event('task.ended', context, principal, { task, cause, detail: { reason, denied: because.id } })
  const ended = await house.ledger.endTask(task, { state: 'revoked', cause, reason }, told)
  if (ended.ok) for (const claim of ended.claims) void drive(house, claim)
}

/** One that is stopped already needs no second stop, but where whoever froze it died, or lost the ledger, before anything was revoked. */
async function suspend(house: House, { agent, principal }: Caller, reason: string, context: RequestContext): Promise<void> {
  const stops = freezesOf(await house.ledger.freezes(), agent.id).filter(({ kind }) => kind === 'suspension' || kind === 'offboarding')
  const [stop] = stops
  if (!stop) {
    const ask = { selector: { agent: [agent.id] }, reason, kind: 'suspension', freeze: true, by: 'policy' } as const
    await emergencyRevoke(house, principal, ask, context)
    return
  }
  const begun = await Promise.all(stops.map(({ id }) => house.ledger.revocation(id)))
  if (begun.some((one) => one !== undefined)) return
  const { id: freeze, selector, reason: because, by } = stop
  await revokeAll(house, principal, { selector, reason: because, by, freeze }, context)
}
