import type { Result } from '../errors.js'
import type {
  Access,
  Agent,
  AgentRisk,
  Approval,
  Cause,
  Claim,
  Conduct,
  EmergencyRevocation,
  Event,
  Facts,
  Freeze,
  HumanProof,
  Lease,
  LeaseState,
  Quarantine,
  QuarantineReport,
  Register,
  Revocation,
  RevocationLease,
  RiskFloor,
  RiskSignal,
  Role,
  Scope,
  Selector,
  Task,
  TaskEnd,
  TaskState,
  ThawAsk,
  Tool,
  Verified,
  Verify,
} from '../types.js'

/**
 * What the rest of the house may ask of the ledger. Every transition is one Lua script on one partition, on Redis's clock, with its
 * event in the same step. Expected refusals are values; a ledger that cannot be reached throws `MayflyError('ledger_unavailable')`.
 * Every call that changes something may be repeated with the same ids: the second answer is the first's.
 */
export interface Ledger {
  // --- tasks
  /** A child's id carries its parent's partition, a root's that of its external id where it has one: pass the one that applies. */
  /** `agent`: the one that works on it. Where the agent's own count is, its leases need no second script. */
  newTaskId(from?: { orchestrator: string; externalId: string } | { parent: string } | { agent: string }): string
  /** The task that this one's external id stands for already, if it does. */
  knownTask(task: NewTask): Promise<Result<{ task: Task }, 'conflict'> | undefined>
  openTask(
    task: NewTask,
    event: Event,
  ): Promise<
    Result<{ task: Task; created: boolean }, 'quarantined' | 'conflict' | 'frozen' | 'parent_ended' | 'stale' | 'too_deep' | 'quota' | 'outbox_full'>
  >
  /** A recently read task may be answered from memory unless `fresh`: `stale` catches what was decided on it. */
  task(id: string, options?: { fresh?: boolean }): Promise<Task | undefined>
  /** What is below a task and not over, parents before their children, at most so many. Without the facts of the tree. */
  descendants(id: string, most: number): Promise<{ tasks: Task[]; more: boolean }>
  /** Heartbeat. */
  touchTask(id: string): Promise<Result<{ state: TaskState; heartbeatDueAt?: number }, 'not_found'>>
  /**
   * New facts, which all below inherits. Each task whose facts are others now has a new context version, and its live leases a term.
   * `contextVersion`: what the change was decided on. `narrows`: it only makes things stricter, and so never waits for the outbox.
   */
  changeTask(
    id: string,
    change: TaskChange,
    event: Event,
    options?: { contextVersion?: number; narrows?: boolean },
  ): Promise<Result<{ task: Task; live: Lease[] }, 'not_found' | 'ended' | 'stale' | 'outbox_full'>>
  /** A live lease that is still allowed after a change. */
  reaffirm(lease: string, contextVersion: number): Promise<Result<object, 'not_found' | 'stale' | 'ended'>>
  /** Ends the task and its subtree in one step; claims up to 200 closing leases for the caller, leaves the rest due now. */
  endTask(id: string, end: { state: TaskEnd; cause: Cause; reason?: string }, event: Event): Promise<Result<Ended, 'not_found'>>

  // --- leases
  newLeaseId(task: string): string
  /** Writes the lease before anything exists upstream. */
  reserve(lease: NewLease, event: Event): Promise<Result<Reserved, ReserveRefusal>>
  /**
   * pending -> active; or `closing` (handle stored all the same) when the task ended, a freeze came or facts changed meanwhile.
   * Takes what was reserved, so that a record which is gone by now can be written again as `closing`. `usableUntil`: the upstream's own expiry
   * where it is later; absent, it is `expiresAt`, whatever `reserve` had to assume. `sealedBy`: id of the key that the handle is encrypted with.
   */
  activate(
    lease: NewLease,
    minted: { handle: Lease['handle']; sealedBy?: string; expiresAt: number; usableUntil?: number },
    event: Event,
  ): Promise<{ state: 'active' | 'closing'; cause?: Cause; claim?: Claim }>
  /** reserve and activate in one step, for providers that mint in-process. */
  grant(lease: NewLease, event: Event): Promise<Result<Reserved, ReserveRefusal>>
  /**
   * Records the later expiry before the upstream is asked to extend. `tokenIssuedAt`: of the workload token that asks, newer than the one
   * before and issued since; `humanProof`: likewise of a human's, where the lease rests on one. `maxRenewals`: of one lease with its successors; absent, as many as fit into its longest life.
   */
  renew(
    lease: string,
    renewal: {
      ttlSeconds: number
      facts: Facts
      tokenIssuedAt: number
      maxRenewals?: number
      humanProof?: HumanProof
      approval?: NewLease['approval']
    },
    event: Event,
  ): Promise<
    Result<
      { lease: Lease },
      'quarantined' | 'not_found' | 'closed' | 'ended' | 'frozen' | 'limit' | RenewalRefusal | 'stale' | 'outbox_full' | 'approval_invalid'
    >
  >
  /**
   * One lease -> closing, claimed for its caller. Without a claim: it is settled already, or another broker holds it. `left`: nothing is
   * claimed, and the lease is due at once for whoever sweeps.
   */
  close(lease: string, cause: Cause, event: Event, options?: { left?: boolean }): Promise<Result<{ lease: Lease; claim?: Claim }, 'not_found'>>
  /**
   * Due work, up to the free capacity per provider: due leases become `closing` (or `expired`), due tasks end. Never waits for the outbox.
   * `more`: there is more, for which there was room; `waiting`: providers that have more due than they have room for.
   * `full`, the default: also closes and expires what there is no room for, and sees a ledger that went back; not to be asked for at each of many looks, where a line is long.
   */
  claim(
    capacity: ReadonlyMap<string, number>,
    options?: { full?: boolean },
  ): Promise<{
    claims: Claim[]
    ended: number
    expired: { lease: string; provider: string }[]
    lagMs: number
    more: boolean
    waiting: ReadonlySet<string>
  }>
  /** `here`: it is this call that settled it, and no other broker before. */
  settle(
    claim: Pick<Claim, 'attempt'> & { lease: string },
    outcome: SettleOutcome,
    event: Event,
  ): Promise<{ state: LeaseState; dueAt?: number; here: boolean }>
  lease(id: string): Promise<Lease | undefined>
  leasesOfTask(task: string): Promise<Lease[]>
  /** Whether a freeze covers what an agent might ask for in a task, for each. */
  frozenAmong(
    task: string,
    asks: readonly { readonly agent: Pick<Agent, 'id' | 'issuer' | 'owner'>; readonly role: string; readonly provider: string }[],
  ): Promise<boolean[]>

  // --- approvals
  newApprovalId(task: string): string
  /** Puts a request before humans. The same digest, while it is not over, is the same approval: then `created` is false. */
  askApproval(
    approval: NewApproval,
    event: Event,
  ): Promise<
    Result<{ approval: Approval; created: boolean }, 'not_found' | 'ended' | 'frozen' | 'stale' | 'quota' | 'outbox_full' | 'approval_denied'>
  >
  /** One operator's consent, for these of the groups asked. `detail` of a refusal: the state that it is in, or why it is over. */
  giveApproval(
    id: string,
    by: { id: string; issuer: string; groups: readonly string[]; persons?: readonly string[]; reason?: string; grantedMs: number },
    event: Event,
  ): Promise<Result<{ approval: Approval }, 'not_found' | 'decided' | 'over' | 'twice' | 'outbox_full'>>
  denyApproval(
    id: string,
    by: { id: string; issuer: string; reason?: string },
    event: Event,
  ): Promise<Result<{ approval: Approval }, 'not_found' | 'decided' | 'over'>>
  approval(id: string): Promise<Approval | undefined>

  // --- tool calls
  /** Records that a call is allowed, in the step that finds nothing against it. Not to be repeated: each is one more call. */
  callTool(call: NewCall, event: Event): Promise<Result<object, CallRefusal>>

  // --- the stop
  /** `revoke`: also opens the emergency that goes with it, in the same step where that can be. Its event says which it is. */
  freeze(
    freeze: { selector: Selector; reason: string; by: string; kind?: Freeze['kind']; revoke?: { verify: Verify; event: Event } },
    event: Event,
  ): Promise<Frozen>
  thaw(id: string, by: { reason: string; by: string }, event: Event): Promise<Result<{ freeze: Freeze }, 'not_found'>>
  /** Notes who wants it thawed, which takes others too; answers all who do, and did within `ttlMs` of the last one. */
  askThaw(freeze: string, ask: ThawAsk, ttlMs: number, event: Event): Promise<ThawAsk[]>
  /** Those in force. `partitions`: where each holds, and of how many others that cannot be said, or not yet. */
  freezes(): Promise<(Freeze & { readonly partitions: { readonly holding: number; readonly unreachable: number } })[]>
  /** Counts what a selector matches now, per provider, changing nothing. */
  match(selector: Selector): Promise<{ provider: string; live: number; residualUntil?: number }[]>
  /** `id`: of one that is known from elsewhere. Its event says which it is. */
  openRevocation(
    revocation: { selector: Selector; reason: string; by: string; freeze?: string; verify?: Verify; id?: string },
    event: Event,
  ): Promise<EmergencyRevocation>
  /** By its id, or by that of the freeze that it goes with. */
  revocation(idOrFreeze: string): Promise<EmergencyRevocation | undefined>
  /**
   * The leases of agents and tasks that an open revocation names, as many as can be told without looking through all that lives: -> closing, urgent.
   * They are claimed for the caller, about `most` of them. All the same to be followed by the steps, which find the rest, and these no more.
   */
  takeNearest(id: string, most?: number): Promise<Claim[]>
  /**
   * Takes one more step of an open revocation: a page of leases per partition -> closing, urgent. Any replica may go on with it.
   * About `most` of them are claimed for the caller, by default 256, none with 0; the rest is due at once.
   * `done`: every lease has been looked at. It is finished when all that matched are settled too, which a later step finds; `whenMatched`
   * is through before that, once at least.
   */
  advanceRevocation(
    id: string,
    most?: number,
    whenMatched?: (revocation: { selector: Selector; reason: string; by: string }) => Promise<void>,
  ): Promise<{ claims: Claim[]; done: boolean }>
  /**
   * What became of each lease that a revocation matched, a page at a time, in an order that stays: the same for whoever asks.
   * `from`: where the page before ended.
   */
  revocationLeases(id: string, from?: string): Promise<{ leases: RevocationLease[]; next?: string }>
  /** Revocations not yet finished, for the sweeper to go on with. */
  openRevocations(): Promise<string[]>

  // --- reconciliation
  /** What is known of each of these leases. Names from upstream are anybody's: of one that cannot be a lease of this ledger nothing is answered. Changes nothing. */
  lookUp(leases: readonly string[]): Promise<Map<string, Whereabouts>>
  /**
   * Of leases that a provider listed and `lookUp` knew nothing of that lives: whether each is an orphan by now. `listedFrom`: when the listing
   * began, by this ledger's clock; `apartMs`: what must lie between that and the time since when nothing lives of it here.
   */
  sight(provider: string, leases: readonly string[], when: { listedFrom: number; apartMs: number }, event: Event): Promise<Map<string, Sight>>
  /**
   * Writes an orphan as `closing`, claimed for the caller unless it is `left` for whoever sweeps. `adopted` is false where an unsettled record is
   * there already, or can never be.
   */
  adopt(orphan: NewOrphan, event: Event, options?: { left?: boolean }): Promise<{ adopted: boolean; claim?: Claim }>
  /** Leases of a provider that are active now and whose mint had come to its end before `mintedBefore`, page by page. */
  activesOf(provider: string, mintedBefore: number): AsyncIterable<readonly string[]>

  // --- events
  /** Appends an event without a change of state. Refuses when the outbox is full. */
  record(event: Event): Promise<Result<object, 'outbox_full'>>
  /** A refusal of an unauthenticated caller: into a capped stream, never the outbox. Best effort; never throws. */
  refuse(event: Event): Promise<void>
  outbox: Outbox

  // --- listings: fan out over partitions, composite cursor
  leases(filter: LeaseFilter, page: Page): Promise<{ leases: Lease[]; cursor?: string }>
  tasks(filter: TaskFilter, page: Page): Promise<{ tasks: Task[]; cursor?: string }>
  /** Open and granted ones. */
  approvals(page: Page): Promise<{ approvals: Approval[]; cursor?: string }>

  /** Who works on what now: all agents that hold a lease or work on a task, or the one. Walks everything. */
  agents(only?: string): Promise<AgentCounts[]>
  /**
   * What an agent can touch now, itself or through whom it handed work on to: active tasks that it works on, that it opened, and all below
   * those; and their unsettled leases. About `most` of each. Walks everything.
   */
  reach(agent: string, most: number): Promise<{ tasks: Task[]; leases: Lease[]; more: boolean }>

  // --- risk: at the agent's own partition
  /** Counts one thing that an agent did, whatever came of it. Answers how it behaves now; `before` is its risk without it. */
  countRisk(agent: string, act: CountedAct, rules: RiskRules, event: Event): Promise<Conduct & { before: number; raised: readonly RiskSignal[] }>
  risk(agent: string, rules: Pick<RiskRules, 'halfLifeMs'>): Promise<AgentRisk>
  /** `floor`: 0 takes it away. `expected`: the floor that this was decided on. */
  setRisk(
    agent: string,
    change: RiskChange,
    rules: Pick<RiskRules, 'halfLifeMs' | 'novelty'>,
    event: Event,
  ): Promise<Result<{ before: number; risk: number }, 'stale'>>
  /** Live leases of one agent, in all its tasks, as far as they are counted: where `per_agent_live` is set. */
  leasesOfAgent(agent: string): Promise<Lease[]>

  /** First use of a single-use token: true once, on whatever replica, for `ttlMs`. */
  consume(hash: string, ttlMs: number): Promise<boolean>
  /** What one provider withdrew and must go on withdrawing. */
  register(provider: string): Register
  /** Providers (and roles) that unsettled leases still need. */
  providersInUse(): Promise<string[]>
  /** Ids of the keys that handles of unsettled leases are encrypted with. */
  sealingKeysInUse(): Promise<string[]>
  /** Walks all unsettled leases: for a reload, never for a start. */
  rolesInUse(): Promise<string[]>
  status(): Promise<LedgerStatus>

  // --- a ledger that went backwards
  /** The quarantine in force, as it was seen within the last second; `lost`: there is no ledger. */
  quarantined(): Quarantine | 'lost' | undefined
  /** The last one, open or not, as it is now. */
  quarantine(): Promise<Quarantine | undefined>
  liftQuarantine(by: { by: string; reason: string }, event: Event): Promise<Result<{ quarantine: Quarantine }, 'not_found'>>
  /** From when on this broker's own log has to be read again, if it has. */
  unread(): { readonly since: number; readonly generation: number } | undefined
  /** It was. */
  noteRead(report: Omit<QuarantineReport, 'broker' | 'generation'>): Promise<void>
  /** Called when it began, ended, or `unread` has something. */
  onQuarantine(listener: () => void): void
  /** Writes a freeze, or the tombstone of one, as it is known from elsewhere; what is newer stays. */
  restoreFreeze(frozen: boolean, freeze: Freeze): Promise<void>
  /** A live lease is known from elsewhere to have been renewed until then. Answers whether it is news. */
  restoreExpiry(lease: string, expiresAt: number): Promise<boolean>
  /** Milliseconds on Redis's clock, estimated from the last answers; good to the round trip. */
  now(): number
  /** Called when some broker published that work is due now. */
  onDue(listener: () => void): void
  disconnect(): Promise<void>
}

export type Whereabouts = 'unknown' | 'settled' | 'live' | 'closing'
/** `known`: there is no more to it. `seen`: an orphan if it is there later still. `found`: an orphan, and told just now. `orphan`: one that was told before. */
export type Sight = 'known' | 'seen' | 'found' | 'orphan'
/** What exists upstream, as its provider lists it; the handle as the ledger is to keep it. */
export interface NewOrphan extends Pick<Lease, 'provider' | 'handle' | 'revocation' | 'residualSeconds'> {
  readonly lease: string
  readonly sealedBy?: string
  readonly expiresAt?: number
}

/** What a renewal may be refused for, in place or by a successor: counted out, or asked for with an old token. */
export type RenewalRefusal = 'renewals' | 'token_not_fresh' | 'human_not_fresh'
export type ReserveRefusal =
  | 'quarantined'
  | 'not_found'
  | 'ended'
  | 'frozen'
  | 'quota'
  | 'stale'
  | 'not_assigned'
  | 'outbox_full'
  | 'conflict'
  | 'closed'
  | 'approval_invalid'
  | RenewalRefusal

/** `lease`: the one that it names is not a live one of this agent in this task. `calls`: as many as the task allows were made. */
export type CallRefusal = 'quarantined' | 'not_found' | 'ended' | 'not_assigned' | 'frozen' | 'stale' | 'lease' | 'calls' | 'outbox_full'

export interface NewTask {
  readonly id: string
  readonly parent?: string
  readonly openedBy: Task['openedBy']
  /** Of the agent that opens it: who answers for what it hands on. */
  readonly owner?: string
  readonly intent: string
  readonly classified: boolean
  readonly confidence: number
  readonly classification: Task['classification']
  readonly environment: string
  readonly assignees: Task['assignees']
  readonly envelope: Task['envelope']
  readonly tools?: Task['tools']
  readonly check?: Task['check']
  readonly plan?: Task['plan']
  readonly labels: Task['labels']
  readonly human?: string
  /** Absent: who opens it names them. */
  readonly humanProof?: HumanProof
  readonly externalId?: string
  readonly deadlineAt: number
  readonly heartbeatSeconds?: number
  readonly maxDepth: number
  readonly classifiedBy?: Task['classifiedBy']
  readonly statedIntent?: string
  /** What its opener said of it, where others had their say too: an external id stands for this, whoever was asked meanwhile and whatever they answered. */
  readonly stated?: Pick<Task, 'intent' | 'classified' | 'confidence' | 'classification'>
  /** Of a child: the facts that it was decided on. It has its parent's intent, confidence, classification, environment and human, whatever is said here. */
  readonly contextVersion?: number
  /** Tasks that its opener may have in the ledger at once; they must all be in one partition. Absent: as many as it likes. */
  readonly maxOpened?: number
}
/** With an intent, `classified`, `classifiedBy` and `statedIntent` are those of this intent. */
export type TaskChange = Partial<
  Pick<NewTask, 'intent' | 'classified' | 'classifiedBy' | 'statedIntent' | 'confidence' | 'classification' | 'environment' | 'labels'>
>

/** In how many partitions it holds. `replicated`: as with an end. */
export interface Frozen {
  readonly freeze: Freeze
  readonly holding: number
  readonly unreachable: number
  /** Absent where none was to be opened, where its partition could not be reached, and in a Cluster: `openRevocation` is still to be asked. */
  readonly revocation?: EmergencyRevocation
  readonly replicated?: Promise<boolean>
}

export interface Ended {
  /** Whether replicas have it too, where that is waited for; never rejects. Either way it holds as long as the primary is there, and nothing waits for this but the answer. */
  readonly replicated?: Promise<boolean>
  readonly state: TaskEnd
  /** False: it had ended before, and this answer is the first end's. */
  readonly first: boolean
  readonly claims: Claim[]
  /** Live leases of the subtree at the end, claimed or left to the sweeper. */
  readonly closing: number
}

export interface NewLease {
  readonly id: string
  readonly task: string
  /** `tokenIssuedAt`: of the workload token that asks for it: a renewal needs a newer one. */
  readonly agent: Pick<Agent, 'id' | 'instance' | 'owner' | 'issuer'> & Partial<Pick<Agent, 'tokenIssuedAt'>>
  readonly role: Pick<Role, 'name' | 'provider' | 'access' | 'sensitivity' | 'params'>
  readonly human?: string
  /** What the human's token showed that came with this very request: it is renewed with a newer one alone. */
  readonly humanProof?: HumanProof
  /** Of a task that was handed on: the agents through which it came to this one, itself last. Told in events. */
  readonly chain?: readonly string[]
  readonly scope: Scope
  readonly handle: Lease['handle']
  readonly revocation: Revocation
  readonly residualSeconds: number
  readonly expiryEndsUse: boolean
  /** The upstream gives no credential a shorter life: it may go on after the lease, until that has passed from the end of the mint on. */
  readonly shortestLifeSeconds?: number
  /** Asked for; the script clamps it to the task's deadline. */
  readonly ttlSeconds: number
  readonly maxLifetimeSeconds: number
  /** How long the mint may take; `mint_until` = now + this. 0 for in-process. */
  readonly mintMs: number
  readonly facts: Facts
  readonly limits: {
    readonly perTaskLive: number
    readonly perAgentLive: number
    /** `@maxLive`: of this agent in this task's tree. */
    readonly maxLive?: number
    /** `max_leases` of the envelope's entry: ever, in this task, of this role. */
    readonly maxLeases?: number
  }
  /** SHA-256 of agent + Idempotency-Key: a repeat closes the first lease as `superseded`. */
  readonly idempotency?: string
  /** A lease that this one takes over from, closed as `superseded` in the same step. */
  readonly supersedes?: string
  /** A human's consent that it rests on: bound by `reserve`, spent by `activate`, or both by `grant`. */
  readonly approval?: { readonly id: string; readonly digest: string }
  /** Of the lease that it takes over from, with all before that one; absent: as many as fit into its longest life. */
  readonly maxRenewals?: number
  /** An upper bound inherited from the lease that this one renews. */
  readonly renewableUntil?: number
}
export interface Reserved {
  readonly issuedAt: number
  readonly expiresAt: number
  readonly renewableUntil: number
  readonly mintUntil: number
  /** Leases that this one took the place of, closing now. */
  readonly superseded: Claim[]
}

/** With the human on whose behalf it is made, who may be another than the task's: the lease's. */
export interface NewCall extends Pick<Lease, 'human' | 'humanProof'> {
  readonly task: string
  readonly agent: Pick<Agent, 'id' | 'instance' | 'owner' | 'issuer'>
  /** What is touched by it counts as obtained. */
  readonly tool: Pick<Tool, 'name' | 'access' | 'sensitivity'>
  /** That it is made with. */
  readonly lease?: string
  /** Of this tool in the task and all below it, ever; absent: any number. */
  readonly maxCalls?: number
  readonly facts: Facts
}

export interface NewApproval extends Pick<Approval, 'id' | 'task' | 'role' | 'digest' | 'needs' | 'request'> {
  readonly agent: Pick<Agent, 'id' | 'instance' | 'owner' | 'issuer'>
  readonly contextVersion: number
  /** How long humans have to answer. */
  readonly ttlSeconds: number
  /** That this agent may have for this task at once. */
  readonly most: number
  /** And for all tasks of its partition: those that it opened, and those that are for it alone. */
  readonly mostOfAgent: number
}

export type SettleOutcome =
  /** `verified`: needed where the lease is to be verified; what comes without it is repeated. */
  | { readonly result: 'revoked' | 'absent'; readonly verified?: Verified }
  /** Nothing can be done before the upstream's own expiry. */
  | { readonly result: 'awaits_expiry' }
  /** `alive`: the upstream confirmed the revoke, and takes the credential all the same. */
  | { readonly result: 'failed' | 'alive'; readonly error: string }

/** One thing that an agent did. Names are whatever may be new of it: what it asked for, where it sends it. */
export interface CountedAct {
  /** Equal for equal requests. */
  readonly digest: string
  /** How often at once; absent: once. */
  readonly times?: number
  readonly names: readonly string[]
  /** It was let do it: only then what is new is known from now on. */
  readonly granted?: boolean
  /** How many of them were refused. */
  readonly refused?: number
  /** It is no step of a script, unless the agent was let do the first of `names` before. */
  readonly offScript?: boolean
  /** What it has obtained by it. */
  readonly obtained?: Access
}
/** How what an agent does becomes points, and how points go again. */
export interface RiskRules {
  readonly halfLifeMs: number
  readonly rate: Ramp
  readonly loop: Ramp
  readonly refused: Points
  /** An agent is learned for `learnMs`; what it has not asked for in `memoryMs` is new again. */
  readonly novelty: Points & { readonly learnMs: number; readonly memoryMs: number }
  readonly drift: Points
}
export interface Points {
  readonly points: number
  /** That the signal alone can add. */
  readonly most: number
}
/** Points each time that `limit` is used up within a window. */
export interface Ramp extends Points {
  readonly limit: number
  readonly windowMs: number
}
export interface RiskChange {
  readonly floor?: { readonly value: number; readonly until?: number }
  readonly expected?: Pick<RiskFloor, 'value' | 'until'>
  readonly reset?: boolean
  readonly reason: string
  readonly by: string
}

export interface LeaseFilter {
  readonly task?: string
  readonly agent?: string
  readonly role?: string
  readonly provider?: string
  readonly state?: LeaseState
}
export interface TaskFilter {
  readonly state?: TaskState
  readonly agent?: string
  readonly orchestrator?: string
}
export interface AgentCounts {
  readonly agent: string
  readonly live: number
  readonly closing: number
  /** Active ones that it is assigned to. */
  readonly tasks: number
}
export interface Page {
  readonly limit: number
  readonly cursor?: string
}

/** An event as the outbox holds it. */
export interface OutboxEntry {
  readonly partition: number
  /** Redis stream id, `<ms>-<n>`: order within the partition, and the time on the ledger's clock. */
  readonly streamId: string
  /** The event as JSON text: what a sink writes without reading it. */
  readonly json: string
  /** The same, read. */
  readonly event: Event & { readonly at: number }
}
/** One reader at a time per partition, fenced; at-least-once. */
export interface Outbox {
  /** Takes or keeps the right to read, for `ttlMs`; answers the partitions held. */
  hold(reader: string, ttlMs: number): Promise<number[]>
  read(partition: number, count: number): Promise<OutboxEntry[]>
  /** Confirms up to and including `streamId` and trims; false when another reader took over. */
  confirm(partition: number, reader: string, streamId: string): Promise<boolean>
  /** Entries not yet confirmed, all partitions. */
  length(): Promise<number>
}

export interface LedgerStatus {
  readonly reachable: boolean
  readonly redisVersion?: string
  readonly durability?: 'strict' | 'everysec' | 'none'
  readonly outboxLength: number
  readonly live: number
  /** Unsettled leases past their time, and by how much the oldest is. */
  readonly stuck: readonly { readonly provider: string; readonly leases: number; readonly oldestMs: number }[]
  readonly problems: readonly string[]
}

export type { Access }
