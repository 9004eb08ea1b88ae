import { MayflyError } from './errors.js'
import type { ReserveRefusal } from './ledger/ledger.js'
import type { Decision } from './types.js'

const NO_SUCH_TASK = 'there is no such task for you'

/** What each refusal of the ledger means to the caller. */
const refusals: Record<ReserveRefusal | 'limit', (detail?: string) => MayflyError> = {
  not_found: () => new MayflyError('not_found', NO_SUCH_TASK),
  // Another instance's task looks like no task at all.
  not_assigned: () => new MayflyError('not_found', NO_SUCH_TASK),
  quarantined: () =>
    new MayflyError('quarantined', 'Redis went backwards: nothing is issued until an operator has looked', { retryAfterSeconds: 30 }),
  ended: (how) => new MayflyError('task_ended', `the task has ended${how ? ` (${how})` : ''}: nothing more is issued for it`),
  frozen: () => new MayflyError('frozen', 'issuing is frozen for this request', { next: 'wait until an operator thaws it' }),
  quota: (which) => {
    const message = `too many live leases${which ? ` (${which})` : ''}`
    return new MayflyError('quota_exceeded', message, { next: 'return a lease first', retryAfterSeconds: 5 })
  },
  stale: () => new MayflyError('conflict', 'what the decision depends on keeps changing', { next: 'try again', retryAfterSeconds: 1 }),
  outbox_full: () => new MayflyError('audit_unavailable', 'events cannot be recorded, so nothing is issued', { retryAfterSeconds: 5 }),
  conflict: () => new MayflyError('conflict', 'this lease exists already'),
  closed: () => new MayflyError('lease_ended', 'the lease is closed or has expired', { next: 'ask for a new one' }),
  approval_invalid: (why) => new MayflyError('approval_invalid', `the approval is not good for this request${why ? ` (${why})` : ''}`),
  renewals: () => new MayflyError('renewals_used', 'the lease was renewed as often as its role allows', { next: 'ask for a new one' }),
  token_not_fresh: () => new MayflyError('token_not_fresh', 'the workload token was not issued since this lease was issued or last renewed'),
  human_not_fresh: () =>
    new MayflyError('on_behalf_of_required', 'the token of the human was not issued since this lease was issued or last renewed'),
  limit: () => new MayflyError('renewal_limit', 'the lease is at the end of its longest life', { next: 'ask for a new one' }),
}

export function refusal(code: keyof typeof refusals, detail?: string): MayflyError {
  return refusals[code](detail)
}

/** Where nothing was decided: the answer is no, and may be another as soon as policy can be asked again. */
export function undecided({ error, unavailable }: Decision): MayflyError | undefined {
  if (error === undefined) return undefined
  if (!unavailable) return new MayflyError('denied', 'the policy could not be evaluated, so the answer is no', { internal: error })
  return new MayflyError('policy_unavailable', 'policy could not be asked, so the answer is no', { internal: error, retryAfterSeconds: 1 })
}
