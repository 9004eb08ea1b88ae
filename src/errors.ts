/** One error class, one table of codes with what each means to HTTP and to the caller. `docs/errors.md` is generated from it. */

interface Explained {
  readonly status: number
  /** RFC 9457 `title`: the same for every occurrence. */
  readonly title: string
  /** One sentence for the documentation. */
  readonly means: string
  /** What the caller can do, unless the occurrence says something better. */
  readonly next: string
}

export const ERRORS = {
  malformed: {
    status: 400,
    title: 'The request could not be read',
    means: 'The body or a header is not what its format allows: broken JSON, a duplicate key, a repeated header.',
    next: 'Correct the request; sending the same again gives the same answer.',
  },
  token_missing: {
    status: 401,
    title: 'A token is required',
    means: 'There is no `Authorization` header.',
    next: 'Send the workload token once, as `Authorization: Bearer <token>`.',
  },
  token_invalid: {
    status: 401,
    title: 'The token was not accepted',
    means: 'The token failed a check or fits no configured principal; which check is told only in the event.',
    next: 'Look the event up by the id in `instance`, or run `mayfly doctor --token-file <file>`.',
  },
  token_expired: {
    status: 401,
    title: 'The token has expired',
    means: 'The token was good and its time is over.',
    next: 'Fetch a new token and try again.',
  },
  token_replayed: {
    status: 401,
    title: 'The token was used before',
    means: 'Tokens of this issuer serve one request each, on whatever replica.',
    next: 'Fetch a new token for each request.',
  },
  token_not_fresh: {
    status: 401,
    title: 'A newer token is needed',
    means: 'A renewal takes a workload token that is newer than the one before and was issued since the lease was issued or last renewed.',
    next: 'Fetch a new token from the issuer and renew with it; one that is kept somewhere will not do.',
  },
  denied: {
    status: 403,
    title: 'Not allowed',
    means: 'No policy allows it, a policy forbids it, or the call is not for this kind of caller. `policies` names what decided.',
    next: 'Ask for less, or have the policy changed.',
  },
  approval_required: {
    status: 403,
    title: 'A human has to agree',
    means: 'Policy allows it only with the consent of the groups in `step_up`, and the caller said that it cannot wait for it.',
    next: 'Ask again without `can_wait: false`: the answer is 202 with an approval to poll, and to present once it is granted.',
  },
  approval_denied: {
    status: 403,
    title: 'A human said no',
    means: 'This very request was put before a human, who refused it. It is not put before anybody again until the context of its task changes.',
    next: 'Ask for something else, or go on without.',
  },
  approval_invalid: {
    status: 403,
    title: 'The approval is not good for this',
    means:
      'It does not exist for this caller, was given for another request or context, is not granted (any more), is spent, or is not enough for what policy asks now.',
    next: 'Ask again without `approval`.',
  },
  on_behalf_of_required: {
    status: 403,
    title: "A newer token of the human's is needed",
    means:
      'The lease rests on a token of the human on whose behalf it is: a renewal takes one that is newer and was issued since the lease was issued or last renewed. Where no credential may outlive that token, it is over.',
    next: 'Have the human let you act again, and send the new token as `on_behalf_of`.',
  },
  on_behalf_of_invalid: {
    status: 403,
    title: "The human's token was not accepted",
    means:
      'The token in `on_behalf_of` failed a check, fits no configured human, is not for this caller to act with, or is of another human than the task or lease is for; which it is is told only in the event.',
    next: 'Have the human sign in for you: the token has to name you as its audience or in `may_act`. An operator finds the reason in the event.',
  },
  on_behalf_of_expired: {
    status: 403,
    title: "The human's token has expired",
    means: 'The token in `on_behalf_of` was good and its time is over.',
    next: 'Have the human let you act again, and send the new token.',
  },
  outside_envelope: {
    status: 403,
    title: "Outside the task's envelope",
    means: 'The role, scope or TTL is wider than the task (or, for a task, the configuration of its agent) was opened for.',
    next: 'Ask within the envelope, or open a task with a wider one.',
  },
  tool_unknown: {
    status: 403,
    title: 'The tool is not known',
    means: 'The configuration has no such tool: a tool that was found only now is called by nobody.',
    next: 'Call a tool that is configured, or have this one added to `tools` of the configuration and to the task.',
  },
  outside_tools: {
    status: 403,
    title: 'Outside the tools of the task',
    means: 'The task was opened without this tool, or not for this action, this target or one more call.',
    next: 'Call what the task was opened for, or have one opened that lists it.',
  },
  outside_plan: {
    status: 403,
    title: 'Not in the plan',
    means: 'The task was opened with a plan, and this is none of its steps. A plan never changes.',
    next: 'Keep to the plan, or have a task opened with another one.',
  },
  not_found: {
    status: 404,
    title: 'There is no such thing for you',
    means: 'It does not exist, or it belongs to somebody else: the answer is the same.',
    next: 'Check the id and the token that you call with.',
  },
  method_not_allowed: {
    status: 405,
    title: 'Method not allowed',
    means: 'The path exists and takes other methods, which are in `Allow`.',
    next: 'Use one of the methods in `Allow`.',
  },
  task_ended: {
    status: 409,
    title: 'The task has ended',
    means: 'Nothing is issued or renewed for a task once it, or a task above it, has ended.',
    next: 'Open a new task.',
  },
  frozen: {
    status: 409,
    title: 'Issuing is frozen',
    means: 'An operator froze what this request falls under.',
    next: 'Wait until an operator thaws it.',
  },
  conflict: {
    status: 409,
    title: 'Conflict',
    means: 'Something else holds the name, or what the decision depends on changed while it was made.',
    next: 'Read the current state and try again.',
  },
  lease_ended: {
    status: 409,
    title: 'The lease has ended',
    means: 'The lease is closed or its time is over.',
    next: 'Ask for a new lease.',
  },
  renewal_limit: {
    status: 409,
    title: 'No further renewal',
    means: 'The lease is at the end of the longest life that its role allows.',
    next: 'Ask for a new lease.',
  },
  renewals_used: {
    status: 409,
    title: 'Renewed as often as may be',
    means: 'The lease, with those that it took over from, was renewed as often as `max_renewals` of its role allows.',
    next: 'Ask for a new lease.',
  },
  caller_gone: {
    status: 499,
    title: 'The caller went away',
    means: 'The connection closed before the credential was sent. Nobody reads this answer; the lease is closed.',
    next: 'Ask again.',
  },
  too_large: {
    status: 413,
    title: 'The request is too large',
    means: 'The body is larger than 64 kB.',
    next: 'Send less.',
  },
  unsupported_media_type: {
    status: 415,
    title: 'Unsupported media type',
    means: 'The body is not `application/json` (OAuth endpoints: `application/x-www-form-urlencoded`), or is compressed.',
    next: 'Send `Content-Type: application/json`, UTF-8, without `Content-Encoding`.',
  },
  request_invalid: {
    status: 422,
    title: 'The request is not valid',
    means: 'It could be read, and a field is missing, unknown or out of bounds; `errors` says which.',
    next: 'Correct the fields in `errors`; the schemas are served at `/openapi.json`.',
  },
  quota_exceeded: {
    status: 429,
    title: 'Too many live leases',
    means: 'The agent, the task or the policy has reached its limit of live leases.',
    next: 'Return a lease first, or wait until one has expired.',
  },
  rate_limited: {
    status: 429,
    title: 'Too many requests',
    means: 'This caller sent more requests in a second than the configuration allows.',
    next: 'Try again after `Retry-After` seconds.',
  },
  internal: {
    status: 500,
    title: 'Internal error',
    means: 'A defect of Mayfly. Nothing usable was left behind.',
    next: 'Report it with the `x-request-id` of the answer.',
  },
  provider_failed: {
    status: 502,
    title: 'The upstream failed',
    means: 'The system that makes the credential refused or failed. What it may have made is taken back.',
    next: 'Try again after `Retry-After` seconds; an operator finds the upstream in `/readyz` and the log.',
  },
  ledger_unavailable: {
    status: 503,
    title: 'The ledger is unavailable',
    means: 'Redis cannot be reached or does not take writes, so nothing is issued.',
    next: 'Try again later.',
  },
  quarantined: {
    status: 503,
    title: 'The ledger is in quarantine',
    means:
      'Redis is not what the brokers remember of it: it was emptied, an older copy was restored, or a failover lost what was acknowledged. Nothing is issued, renewed or opened until an operator has looked; ending, freezing and revoking go on.',
    next: 'Try again later. An operator sees what was lost with `mayfly quarantine`, and lets it go on with `mayfly quarantine lift`.',
  },
  audit_unavailable: {
    status: 503,
    title: 'Events cannot be recorded',
    means: 'The outbox of events is full, and what cannot be recorded is not issued. Ending and revoking still work.',
    next: 'Try again later; an operator looks after the audit sink.',
  },
  issuer_unavailable: {
    status: 503,
    title: 'The issuer is unavailable',
    means: 'The keys that would verify the token are missing or too old, and its issuer cannot be reached, so nobody is taken for its subject.',
    next: 'Try again after `Retry-After` seconds.',
  },
  policy_unavailable: {
    status: 503,
    title: 'The policy is unavailable',
    means: 'No decision could be made, so nothing is issued.',
    next: 'Try again later.',
  },
  document_unavailable: {
    status: 503,
    title: 'The document is unavailable',
    means: 'A provider publishes it, and could not read it just now.',
    next: 'Try again after `Retry-After` seconds; what you have of it is good for as long as it says itself.',
  },
  overloaded: {
    status: 503,
    title: 'Overloaded',
    means: 'More requests wait, for an upstream or for the broker itself, than can be served in time. Nothing was issued.',
    next: 'Try again after `Retry-After` seconds.',
  },
  draining: {
    status: 503,
    title: 'Shutting down',
    means: 'This broker is about to stop and issues nothing more. Ending and revoking still work.',
    next: 'Try again at once: another broker answers.',
  },
  provider_timeout: {
    status: 504,
    title: 'The upstream did not answer in time',
    means: 'What the upstream may have made all the same is taken back.',
    next: 'Try again.',
  },
} as const satisfies Record<string, Explained>

export type ErrorCode = keyof typeof ERRORS

export interface ErrorDetails {
  /** What the caller can do about it. */
  next?: string
  policies?: readonly string[]
  reasons?: readonly string[]
  retryAfterSeconds?: number
  /** Id of the event that has the detail. */
  event?: string
  /** For `method_not_allowed`. */
  allow?: readonly string[]
  /** For `request_invalid`: what is wrong where. */
  issues?: readonly { path: string; message: string }[]
  /** For `approval_required`. */
  stepUp?: readonly { group: string; approvals: number }[]
  /** For logs and events only; never sent. */
  internal?: string
  cause?: unknown
}

/**
 * The only error that Mayfly throws on purpose. `message` is for the caller: it holds no secret and no text of the
 * upstream's; what an operator needs beyond it is in `details.internal` and `cause`.
 */
export class MayflyError extends Error {
  override readonly name = 'MayflyError'
  constructor(
    readonly code: ErrorCode,
    message: string,
    readonly details: ErrorDetails = {},
  ) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
  }
  get status(): number {
    return ERRORS[this.code].status
  }
}

/** An expected refusal is a value; what a caller makes of it is the caller's matter. */
export type Result<T, Refusal extends string> =
  | ({ readonly ok: true } & T)
  | { readonly ok: false; readonly refused: Refusal; readonly detail?: string }
