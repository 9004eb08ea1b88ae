import { MayflyError } from './errors.js'
import type { House } from './house.js'
import type { Agent, Event, Human, HumanProof, Lease, Orchestrator, Task } from './types.js'

/** On whose behalf something is done, and what is known of them. */
export type Behalf = Pick<Task, 'human' | 'humanProof'>

/**
 * Whoever's token comes with a request, once it is looked at: not before the request is for something of the caller's, and once however often it is
 * decided, since a token may serve one time only.
 */
export type Shown = () => Promise<Human>

export function humanShown({ humans }: House, presenter: Agent | Orchestrator, token: string | undefined): Shown | undefined {
  let looked: Promise<Human> | undefined
  return token === undefined ? undefined : () => (looked ??= humans.verify(token, presenter))
}

/**
 * The task as one request sees it: on behalf of whoever's token came with the request, or else of whom the task is for, by what is known of
 * them now. A task that is for somebody is for nobody else, and a lease that rests on a human's token goes on with a newer one alone.
 */
export function onBehalf(house: House, task: Task, { shown, renews }: { shown?: Human; renews?: Lease }): Task | { no: MayflyError } {
  const before = renews ? behalfOf(renews, task) : task
  if (shown) {
    if ((renews || before.human !== undefined) && !isSame(before, shown)) return { no: another(renews ? 'lease' : 'task') }
    return { ...task, human: shown.id, humanProof: proofOf(shown) }
  }
  if (renews?.humanProof) return { no: required('this lease rests on a token of the human on whose behalf it is: a newer one is needed') }
  const { human, humanProof } = task
  if (human === undefined || !humanProof) return task
  const now = house.humans.standing(human, humanProof)
  if (!now) return { no: required('the human on whose behalf this is has to be shown anew') }
  if (house.limits.withinTokenLife && now.tokenExpiresAt <= house.ledger.now())
    return { no: required('nothing may outlive the token of the human on whose behalf this is, and it has expired') }
  return { ...task, humanProof: now }
}

/** On whose behalf a lease was issued. What was shown for it comes before what was shown for its task. */
export function behalfOf(lease: Pick<Lease, 'human' | 'humanProof'>, task: Behalf): Behalf {
  if (lease.human === undefined) return task
  return { human: lease.human, humanProof: lease.humanProof ?? (lease.human === task.human ? task.humanProof : undefined) }
}

/** Seconds that are left of what a human's token allows; where none came, there is no such bound. */
export function humanTokenLife(house: House, { humanProof }: Behalf): number {
  if (!house.limits.withinTokenLife || !humanProof) return Number.POSITIVE_INFINITY
  return Math.max(1, Math.floor((humanProof.tokenExpiresAt - house.ledger.now()) / 1000))
}

/** What an event says of them: `token` there where a token of theirs said who they are. */
export function humanTold({ human, humanProof }: Behalf): Event['human'] {
  return human === undefined ? undefined : { id: human, issuer: humanProof?.issuer, token: humanProof?.tokenFingerprint }
}

export function proofOf({ issuer, subject, team, groups, tokenFingerprint, tokenIssuedAt, tokenExpiresAt }: Human): HumanProof {
  return { issuer, subject, team, groups, tokenFingerprint, tokenIssuedAt, tokenExpiresAt }
}

/** Two issuers may know two people by one name. */
function isSame({ human, humanProof }: Behalf, { id, issuer, subject }: Human): boolean {
  return human === id && (!humanProof || (humanProof.issuer === issuer && humanProof.subject === subject))
}

export function another(what: 'task' | 'lease'): MayflyError {
  return new MayflyError('on_behalf_of_invalid', `the token in on_behalf_of is of another human than this ${what} is for`)
}

function required(message: string): MayflyError {
  return new MayflyError('on_behalf_of_required', message)
}
