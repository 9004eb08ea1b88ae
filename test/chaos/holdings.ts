/** A credential that somebody received. In memory alone. */
export interface Credential {
  readonly lease: string
  readonly task: string
  readonly agent: string
  readonly role: string
  readonly provider: 'warehouse' | 'cache' | 'tokens' | 'signed'
  readonly receivedAt: number
  readonly env: Readonly<Record<string, string>>
}
export interface KnownTask {
  readonly id: string
  readonly agents: readonly string[]
  /** Somebody has asked for its end. */
  ending: boolean
}

/** What those who work know by now, and choose from by a die. */
export interface Holdings {
  readonly tasks: KnownTask[]
  readonly credentials: Credential[]
  /** Freezes that nobody has asked to thaw yet. */
  readonly freezes: string[]
  task(die: number, ending: boolean): KnownTask | undefined
  credential(die: number): Credential | undefined
}

/** Work is done on what is new: who holds a credential for long is the exception. */
const RECENT = 40

export function createHoldings(): Holdings {
  const tasks: KnownTask[] = []
  const credentials: Credential[] = []
  const oneOf = <T>(list: readonly T[], die: number) => list[Math.floor(die * list.length)]
  return {
    tasks,
    credentials,
    freezes: [],
    task: (die, ending) => oneOf(tasks.filter((task) => task.ending === ending).slice(-RECENT), die),
    credential: (die) => oneOf(credentials.slice(-RECENT), die),
  }
}
