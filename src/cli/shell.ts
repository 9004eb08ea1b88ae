/** What a command may touch of the process around it; `main.ts` hands over the real one. */
export interface Shell {
  readonly env: Readonly<Record<string, string | undefined>>
  readonly stdout: Out
  readonly stderr: Out
  /** Asks on the terminal and answers what was typed. */
  ask(question: string): Promise<string>
  /** True when somebody is there to answer. */
  readonly interactive: boolean
  readonly home: string
  /** For a command that ended, but not well. */
  exitWith(code: ExitCode): void
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal
}
export interface Out {
  write(text: string): void
  readonly isTerminal: boolean
}

export const EXIT = { done: 0, failed: 1, usage: 2, denied: 3, approvalPending: 4, unreachable: 5 } as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** A command line that makes no sense; exit code 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}
/** The command failed for a reason of its own; `next` says what to do about it. Exit code 1. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  constructor(
    readonly code: string,
    message: string,
    readonly next?: string,
  ) {
    super(message)
  }
}
