/** One error class, one union of codes, one table to HTTP. `docs/errors.md` is generated from this table. */

export const STATUS = {
  token_missing: 401,
  token_invalid: 401,
  token_expired: 401,
  token_replayed: 401,
  denied: 403,
  approval_required: 403,
  outside_envelope: 403,
  not_found: 404,
  method_not_allowed: 405,
  task_ended: 409,
  frozen: 409,
  conflict: 409,
  lease_ended: 409,
  renewal_limit: 409,
  too_large: 413,
  unsupported_media_type: 415,
  malformed: 400,
  request_invalid: 422,
  quota_exceeded: 429,
  rate_limited: 429,
  internal: 500,
  provider_failed: 502,
  ledger_unavailable: 503,
  audit_unavailable: 503,
  policy_unavailable: 503,
  overloaded: 503,
  draining: 503,
  provider_timeout: 504,
} as const satisfies Record<string, number>

export type ErrorCode = keyof typeof STATUS

export interface ErrorDetails {
  /** What the caller can do about it. */
  next?: string
  policies?: readonly string[]
  reasons?: readonly string[]
  retryAfterSeconds?: number
  /** Id of the event that has the detail. */
  event?: string
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
    return STATUS[this.code]
  }
}

/** An expected refusal is a value; what a caller makes of it is the caller's matter. */
export type Result<T, Refusal extends string> =
  | ({ readonly ok: true } & T)
  | { readonly ok: false; readonly refused: Refusal; readonly detail?: string }
