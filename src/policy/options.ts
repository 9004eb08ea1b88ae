/** One Cedar file as it was read: its name is what errors point at. */
export interface PolicyFile {
  readonly name: string
  readonly text: string
  /** `observe`: decides nothing; what it would have decided together with the others is recorded. */
  readonly mode?: 'observe'
}

/** What the policy engine is made of. The configuration translates to it; nothing here is read from disk. */
export interface PolicyOptions {
  /** `schema.cedarschema`; the entities `Intent` and `Environment` in it are replaced by what `vocabulary` says. */
  readonly schema: string
  readonly files: readonly PolicyFile[]
  /** Closed vocabularies, so that a typo in a policy fails validation. `unclassified` and `unknown` are always members. */
  readonly vocabulary: {
    readonly intents: readonly string[]
    readonly environments: readonly string[]
  }
  /** Every id that a policy may name: a forbid on a misspelt team would simply never fire. */
  readonly known: {
    readonly teams: readonly string[]
    readonly groups: readonly string[]
    /** Those of them that an operator may be in, and so consent for; all when absent. */
    readonly consenting?: readonly string[]
    readonly providers: readonly string[]
    readonly roles: readonly string[]
    /** The catalogue of tools. */
    readonly tools: readonly string[]
    /** Names of issuers in the configuration. */
    readonly issuers: readonly string[]
  }
  /** Teams and groups inside others: name -> the ones directly above it. A policy on a team is meant for all teams inside it. */
  readonly inside?: {
    readonly teams?: Readonly<Record<string, readonly string[]>>
    readonly groups?: Readonly<Record<string, readonly string[]>>
  }
  /** Most answers remembered at once; 1,000 agents with 10 roles each need 10,000. Default 50,000. */
  readonly memoSize?: number
}

export const DEFAULT_MEMO_SIZE = 50_000
