import { MayflyApiError, MayflyApprovalPending, MayflyUnreachableError } from '../client/index.js'
import { CommandError, EXIT, type ExitCode, type Shell, UsageError } from './shell.js'
import { plain } from './text.js'

/** Says on stderr what went wrong: code, detail, what to do next. Answers the exit code. */
export function report(error: unknown, shell: Shell): ExitCode {
  const { code, next, exit, more } = meaningOf(error)
  const message = error instanceof Error ? error.message : 'unknown'
  const lines = [...`mayfly: ${code}: ${message}`.split('\n'), ...more, ...(next === undefined ? [] : [`  next: ${next}`])]
  shell.stderr.write(`${lines.map(plain).join('\n')}\n`)
  return exit
}

interface Meaning {
  readonly code: string
  readonly exit: ExitCode
  readonly next?: string
  readonly more: readonly string[]
}

function meaningOf(error: unknown): Meaning {
  if (error instanceof MayflyApiError) return apiMeaning(error)
  if (error instanceof MayflyApprovalPending) {
    const { id, needs } = error.approval
    const needed = needs.map(({ group, approvals, given }) => `  ${group}: ${given} of ${approvals}`)
    return {
      code: error.code,
      exit: EXIT.approvalPending,
      next: `the same again with --approval ${id} once it is granted, or with --wait`,
      more: needed,
    }
  }
  if (error instanceof MayflyUnreachableError)
    return { code: error.code, exit: EXIT.unreachable, next: 'check the URL (--url, MAYFLY_URL) and that the broker is up', more: [] }
  if (error instanceof UsageError) return { code: 'usage', exit: EXIT.usage, more: [] }
  if (error instanceof CommandError) return { code: error.code, exit: EXIT.failed, next: error.next, more: [] }
  if (error instanceof Error && error.name === 'AbortError') return { code: 'interrupted', exit: EXIT.failed, more: [] }
  return { code: 'failed', exit: EXIT.failed, more: [] }
}

function apiMeaning(error: MayflyApiError): Meaning {
  const issues = error.issues.map(({ path, message }) => `  ${path}: ${message}`)
  const policies = error.policies.length > 0 ? [`  policies: ${error.policies.join(', ')}`] : []
  const event = error.instance === undefined ? [] : [`  event: ${error.instance}`]
  const later = error.retryAfterSeconds === undefined ? undefined : `try again in ${error.retryAfterSeconds} s`
  return { code: error.code, exit: exitOf(error), next: error.next ?? later, more: [...issues, ...policies, ...event] }
}

function exitOf({ code, status }: MayflyApiError): ExitCode {
  if (code === 'approval_required') return EXIT.approvalPending
  if (status === 401 || status === 403 || code === 'frozen') return EXIT.denied
  // A gateway in between says that nobody is behind it.
  if (code === 'unexpected_answer' && status >= 502 && status <= 504) return EXIT.unreachable
  return EXIT.failed
}
