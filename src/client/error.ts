import type { Approval, Problem } from '../api.js'

/**
 * The broker's no. `code` is stable (`docs/errors.md`) and is what to branch on; `message` is the problem's detail. `unexpected_answer`
 * is the one code of the client's own: whoever answered does not speak Mayfly's API, a proxy in between for instance.
 */
export class MayflyApiError extends Error {
  override readonly name = 'MayflyApiError'
  readonly code: string
  /** HTTP status. */
  readonly status: number
  /** What the caller can do about it. */
  readonly next?: string
  /** Urn of the event that has the detail. */
  readonly instance?: string
  readonly retryAfterSeconds?: number
  readonly policies: readonly string[]
  /** For `request_invalid`: what is wrong where. */
  readonly issues: readonly { readonly path: string; readonly message: string }[]

  constructor(problem: Pick<Problem, 'code' | 'detail' | 'status'> & Partial<Problem>, retryAfterSeconds?: number) {
    super(problem.detail)
    this.code = problem.code
    this.status = problem.status
    this.next = problem.next
    this.instance = problem.instance
    this.retryAfterSeconds = retryAfterSeconds
    this.policies = problem.policies ?? []
    this.issues = problem.errors ?? []
  }
}

/** No answer came: refused, cut off, or not within the time allowed. Whether the request had its effect is not known. */
export class MayflyUnreachableError extends Error {
  override readonly name = 'MayflyUnreachableError'
  readonly code = 'unreachable'
}

/** A human has to agree first, and has not yet. Nothing was issued: wait, or ask again with `approval: error.approval.id` once it is granted. */
export class MayflyApprovalPending extends Error {
  override readonly name = 'MayflyApprovalPending'
  readonly code = 'approval_pending'
  constructor(readonly approval: Approval) {
    super(`a human has to agree first: ${approval.id} is open`)
  }
}

/** RFC 9457 -> error. What is not a problem document becomes `unexpected_answer`. */
export async function errorOf(response: Response): Promise<MayflyApiError> {
  const { status } = response
  const retryAfter = retryAfterOf(response)
  const body = await response.json().catch(() => undefined)
  if (isProblem(body)) return new MayflyApiError({ ...body, status }, retryAfter)
  const detail = `the answer was HTTP ${status} and no problem document: is this the URL of a Mayfly broker?`
  return new MayflyApiError({ code: 'unexpected_answer', detail, status }, retryAfter)
}

/** RFC 9110 §10.2.3: seconds, or a date. */
function retryAfterOf(response: Response): number | undefined {
  const value = response.headers.get('retry-after')
  if (value === null) return undefined
  if (/^\d{1,9}$/.test(value)) return Number(value)
  const at = Date.parse(value)
  return Number.isNaN(at) ? undefined : Math.max(0, Math.ceil((at - Date.now()) / 1000))
}

function isProblem(body: unknown): body is Problem {
  return typeof body === 'object' && body !== null && 'code' in body && typeof body.code === 'string' && 'detail' in body
}
