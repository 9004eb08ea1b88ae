/** One line of the doctor's: what was looked at, what it found, and how to mend it. */
export interface Finding {
  readonly area: 'agent' | 'roles' | 'rehearsal' | 'config' | 'policy' | 'ledger' | 'issuers' | 'intents' | 'providers' | 'limits' | 'token'
  readonly level: 'ok' | 'warn' | 'fail'
  readonly what: string
  readonly mend?: string
}

/** `fail  ledger     Redis cannot be reached` and, below it, how to mend it. */
export function lineOf({ level, area, what, mend }: Finding): string {
  const first = `${level.padEnd(4)}  ${area.padEnd(9)}  ${what}`
  return (mend === undefined ? first : `${first}\n${' '.repeat(17)}-> ${mend}`).replace(/[^\P{Cc}\n]/gu, '?')
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : 'unknown'
}
