/**
 * The nouns of Mayfly, as the inside knows them. The wire's spelling of the same things is in `api.ts`.
 *
 * Units: every `…At` and `…Until` is milliseconds since the Unix epoch on the **ledger's clock** (Redis `TIME`),
 * every `…Seconds` is whole seconds. Ids: `task_<pp><base32>`, `lease_<pp><base32>`, where `pp` is the ledger partition.
 */

export type Access = 'read' | 'write' | 'escalate'
export type Sensitivity = 'public' | 'internal' | 'confidential' | 'restricted'
export type Autonomy = 'scripted' | 'supervised' | 'autonomous'

/** How a provider takes a credential back: at once, by a deny rule that spreads, or only by the credential's own expiry. */
export type Revocation = 'immediate' | 'deny-policy' | 'at-expiry'

/** How a subset of a role's scope is told: the same string, a path below it, or fewer members. */
export type ScopeKind = 'equal' | 'path' | 'set'
export type Scope = Readonly<Record<string, string | readonly string[]>>

interface Caller {
  readonly id: string
  /** Name of the issuer in the configuration, never the token's `iss` text. */
  readonly issuer: string
  readonly subject: string
  readonly labels: readonly string[]
  readonly team?: string
  /** SHA-256 of the token's signing input, base64url, truncated to 16 characters: tells tokens apart, is not one. */
  readonly tokenFingerprint: string
  readonly tokenIssuedAt: number
  readonly tokenExpiresAt: number
}
export interface Agent extends Caller {
  readonly kind: 'agent'
  readonly instance?: string
  readonly owner: string
  readonly autonomy: Autonomy
  /** What it may open for itself; absent: it opens no tasks. */
  readonly openTasks?: readonly EnvelopeEntry[]
  /** What the tasks that it opens for itself may call; absent: nothing. */
  readonly openTools?: readonly ToolEntry[]
  /** How it behaved lately; absent: not looked up, or not counted. */
  readonly conduct?: Conduct
  /** The audience of tokens with which humans let it, and nobody else, act for them. */
  readonly humanAudience?: string
}
/** How an agent behaved lately, on whatever replica. */
export interface Conduct {
  /** 0 to 100, in steps of ten. */
  readonly risk: number
  /** What it obtained within the last hour, in all its tasks. */
  readonly recent: Readonly<Record<Access, number>>
}
export const RISK_SIGNALS = ['rate', 'loop', 'refused', 'novelty', 'drift'] as const
export type RiskSignal = (typeof RISK_SIGNALS)[number]
/** Why an agent's risk is what it is. */
export interface AgentRisk extends Conduct {
  /** 0 to 100. */
  readonly value: number
  /** Points of each signal, as they are by now. */
  readonly signals: Readonly<Record<RiskSignal, number>>
  readonly floor?: RiskFloor
  /** First counted. Absent: nothing was. */
  readonly since?: number
  readonly driftedAt?: number
}
/** What an operator, or whatever watches from outside, knows of an agent: its risk is at least this. */
export interface RiskFloor {
  readonly value: number
  readonly reason: string
  readonly by: string
  readonly at: number
  /** Absent: until it is taken back. */
  readonly until?: number
}
export interface Orchestrator extends Caller {
  readonly kind: 'orchestrator'
  readonly humanAudience?: string
}
export interface Operator extends Caller {
  readonly kind: 'operator'
  readonly groups: readonly string[]
  /** What the person is called elsewhere, as the token shows it: as an owner, or as the one that an agent acts for. */
  readonly persons?: readonly string[]
}
/** A resource server or tool gateway: it asks whether a token that Mayfly signed for one of its audiences is still good. */
export interface Gateway extends Caller {
  readonly kind: 'gateway'
  readonly audiences: readonly string[]
  /** Of the catalogue, those that it stands in front of: it asks, in an agent's stead, about these alone. */
  readonly tools: readonly string[]
  /** In whose stead: ids, `prefix/*` for all that begin so, `*` for all. Absent: whichever agent it names. */
  readonly agents?: readonly string[]
}
/** Who is calling, verified from a token. */
export type Principal = Agent | Orchestrator | Operator | Gateway

/** What a human's own token showed: who they are rests on it, and not on somebody's word. */
export interface HumanProof {
  /** Name of the issuer in the configuration. */
  readonly issuer: string
  readonly subject: string
  readonly team?: string
  readonly groups: readonly string[]
  readonly tokenFingerprint: string
  readonly tokenIssuedAt: number
  readonly tokenExpiresAt: number
}
/** On whose behalf an agent acts, verified from a token of theirs that lets it. Never a caller. */
export interface Human extends HumanProof {
  readonly id: string
}

/** One line of the most that a task may ever obtain. */
export interface EnvelopeEntry {
  readonly role: string
  readonly scope?: Scope
  readonly maxTtlSeconds?: number
  readonly maxLeases?: number
}
/** A tool of the catalogue: all that is known of it is the configuration's word, never a caller's. */
export interface Tool {
  readonly name: string
  readonly access: Access
  readonly sensitivity: Sensitivity
  /** Whether what it is given can leave the house. */
  readonly external: boolean
  readonly labels: readonly string[]
}
/** One line of what a task may call. */
export interface ToolEntry {
  readonly tool: string
  /** Absent: any. */
  readonly actions?: readonly string[]
  /** Each one thing by its name or, with a final `/*`, whatever is below it. Absent: any. */
  readonly targets?: readonly string[]
  /** Allowed ones, ever, in the task and all below it. */
  readonly maxCalls?: number
}
/** Which calls are asked about: each, or only those of tools that write, escalate or touch what is confidential. */
export type ToolCheck = 'every_call' | 'sensitive_only'
/** One step of a declared plan: a call of a tool, or a lease of a role. */
export interface PlanStep {
  /** For people. */
  readonly step?: string
  readonly tool?: string
  readonly action?: string
  /** As in `ToolEntry.targets`. */
  readonly target?: string
  readonly role?: string
}
export interface Assignee {
  readonly agent: string
  /** Only this running copy of the agent. */
  readonly instance?: string
  /** Only the copy that first obtains a lease; decided in the ledger, and `instance` from then on. */
  readonly bindInstance?: boolean
}
export type TaskState = 'active' | TaskEnd
export type TaskEnd = 'completed' | 'failed' | 'cancelled' | 'expired' | 'revoked'

export interface Task {
  readonly id: string
  readonly root: string
  readonly parent?: string
  readonly depth: number
  /** Who opened the root of its tree; absent: an agent did, for itself. */
  readonly orchestrator?: string
  /** Of a child: the agents through which it was delegated, the first one first. Whoever works on it comes after them. */
  readonly chain?: readonly string[]
  readonly state: TaskState
  /** `instance`: the running copy of an agent that opened it for itself; nobody else's to see or end. */
  readonly openedBy: { readonly kind: 'agent' | 'orchestrator'; readonly id: string; readonly issuer: string; readonly instance?: string }
  readonly intent: string
  /** True only when an orchestrator, or the classifier, named an intent of the configured catalogue: an agent's own word is none. */
  readonly classified: boolean
  /** Who did; absent: nobody. */
  readonly classifiedBy?: 'orchestrator' | 'classifier'
  /** What its opener said that it is about, where the classifier found another name for it. */
  readonly statedIntent?: string
  /** 0 to 1, two digits, truncated. 0 when unknown. */
  readonly confidence: number
  /** Sensitivity of the task's data; unknown is `restricted`. */
  readonly classification: Sensitivity
  readonly environment: string
  readonly assignees: readonly Assignee[]
  readonly envelope: readonly EnvelopeEntry[]
  /** What may be called; absent: nothing. Like the next two, it never changes. */
  readonly tools?: readonly ToolEntry[]
  /** Absent: every call. */
  readonly check?: ToolCheck
  /** Absent: there is none, and whatever envelope and tools name may be done. */
  readonly plan?: readonly PlanStep[]
  readonly labels: Readonly<Record<string, string>>
  readonly human?: string
  /** Absent: who opened it named them. */
  readonly humanProof?: HumanProof
  readonly externalId?: string
  readonly openedAt: number
  readonly deadlineAt: number
  readonly heartbeatSeconds?: number
  readonly heartbeatDueAt?: number
  readonly endedAt?: number
  readonly reason?: string
  /** Of the facts that decisions read, its own alone; what rests on them compares it, so that no decision on old facts is carried out. */
  readonly contextVersion: number
  /** What the tree obtained so far, sorted: `"access:sensitivity"`. */
  readonly obtained: readonly string[]
  readonly counts: Readonly<Record<Access, number>>
}

/** A named template of what a provider mints. */
export interface Role {
  readonly name: string
  readonly provider: string
  readonly access: Access
  readonly sensitivity: Sensitivity
  readonly maxTtlSeconds: number
  /** Longest life of one lease with all its renewals. */
  readonly maxLifetimeSeconds: number
  /** How often one lease may be renewed, successors counted together; absent: as often as fits into its longest life. */
  readonly maxRenewals?: number
  readonly scope: Readonly<Record<string, ScopeKind>>
  readonly labels: readonly string[]
  /** Checked by the provider's own schema when the configuration was read. */
  readonly params: unknown
}

export type LeaseState = 'pending' | 'active' | 'closing' | 'revoked' | 'expired'
/** Why a lease was closed. */
export type Cause =
  | 'task_completed'
  | 'task_failed'
  | 'task_cancelled'
  | 'task_expired'
  | 'task_revoked'
  | 'heartbeat_missed'
  | 'context_changed'
  | 'risk_raised'
  | 'released'
  | 'superseded'
  | 'expired'
  | 'mint_failed'
  | 'mint_timeout'
  | 'caller_gone'
  | 'frozen'
  | 'emergency'
  /** It was found upstream, and no record of it. */
  | 'orphan'

/** What a provider needs to take a credential back. Plain JSON; holds no secret unless the provider says `sensitiveHandle`. */
export type Handle = Readonly<Record<string, unknown>>

/** The record of one issued credential. Never holds the secret. */
export interface Lease {
  readonly id: string
  readonly task: string
  readonly state: LeaseState
  readonly agent: string
  readonly instance?: string
  readonly owner: string
  readonly issuer: string
  readonly orchestrator: string
  readonly human?: string
  /** What was presented for this very lease. */
  readonly humanProof?: HumanProof
  readonly role: string
  readonly provider: string
  readonly access: Access
  readonly sensitivity: Sensitivity
  readonly scope: Scope
  readonly handle: Handle
  readonly revocation: Revocation
  /** Worst case between a confirmed revoke and "no longer works". */
  readonly residualSeconds: number
  readonly expiryEndsUse: boolean
  readonly issuedAt: number
  readonly expiresAt: number
  /** When the upstream itself ends the credential, where that is later: then the lease is closed at `expiresAt`, and revoked. */
  readonly usableUntil?: number
  /** No renewal goes beyond it. */
  readonly renewableUntil: number
  /** Until then an upstream's "absent" proves nothing, because the mint may still arrive. */
  readonly mintUntil: number
  readonly contextVersion: number
  /** Of the workload token that it was issued or last renewed with. */
  readonly tokenIssuedAt?: number
  /** How often it was renewed, with the leases that it took over from; absent: never. */
  readonly renewals?: number
  /** The human consent that it rests on. */
  readonly approval?: string
  readonly attempts: number
  readonly lastError?: string
  /** An emergency wants the upstream's word that it is dead before it is called revoked. */
  readonly toBeVerified?: true
  readonly cause?: Cause
  readonly closedAt?: number
  readonly settledAt?: number
}

/** What may be told of a lease to whoever it belongs to. */
export type LeaseRecord = Pick<
  Lease,
  | 'id'
  | 'task'
  | 'state'
  | 'agent'
  | 'role'
  | 'provider'
  | 'access'
  | 'scope'
  | 'revocation'
  | 'residualSeconds'
  | 'issuedAt'
  | 'expiresAt'
  | 'renewableUntil'
> &
  Partial<Pick<Lease, 'human' | 'humanProof' | 'usableUntil' | 'renewals' | 'cause' | 'settledAt' | 'lastError'>>

/** A closing lease in the hands of one broker until `until`; after that the sweeper may hand it to another. */
export interface Claim {
  readonly lease: Lease
  /** Number of this attempt; a failure is accepted only from the current one. */
  readonly attempt: number
  readonly until: number
}

/** The versions of the facts that a decision read. */
export interface Facts {
  readonly contextVersion: number
  readonly obtained: readonly string[]
  /** Present only when some policy reads the counts. */
  readonly counts?: Readonly<Record<Access, number>>
}

/** What a denied tool call may bring about, before its answer leaves. */
export type OnDeny = 'close-task' | 'suspend-agent'

export const UNKNOWN_VERSION = 'unknown'

/** The policy's answer to one request. */
export interface Decision {
  readonly outcome: 'allow' | 'deny' | 'step-up'
  /** Ids of the policies that decided, sorted. */
  readonly policies: readonly string[]
  /** Texts of `@reason`, in the order of `policies`; on behalf of a human the agent's first. */
  readonly reasons: readonly string[]
  /** The least `@maxTtl` of the deciding permits. */
  readonly maxTtlSeconds?: number
  /** The least `@maxLive` of the deciding permits: live leases of this agent in this task's tree. */
  readonly maxLive?: number
  /** For `step-up`: each group that must consent, and how many of it. */
  readonly stepUp?: readonly { readonly group: string; readonly approvals: number }[]
  /** For `deny`: what follows from it, by `@onDeny` of the policies that decided. */
  readonly onDeny?: readonly OnDeny[]
  /** `UNKNOWN_VERSION`: of policies elsewhere, which have not decided anything yet. */
  readonly policyVersion: string
  /** True when some policy of this action reads the accumulated counts: then `Facts.counts` must be sent to `reserve`. */
  readonly readsCounts: boolean
  /** Told in the event only: what went wrong when the outcome is a deny because evaluation failed. */
  readonly error?: string
  /** The engine could not be asked: what it would say is not known, and may be another time. */
  readonly unavailable?: true
  /** Told in the event only: by which the engine's own log names its answers. */
  readonly decisionIds?: readonly string[]
  /** Told in the event only: what it would be if the policies that are only observed were binding too. There where some are. */
  readonly observed?: Pick<Decision, 'outcome' | 'policies' | 'error'>
}

/** `open`: waits for humans. `granted`: may be spent by one lease. `bound`: held by a lease that is not active yet. `expired`: nobody agreed, or used it, in time. */
export type ApprovalState = 'open' | 'granted' | 'bound' | 'spent' | 'denied' | 'expired'

/** A human's consent to one exact request. */
export interface Approval {
  readonly id: string
  readonly state: ApprovalState
  readonly task: string
  /** Who asks. */
  readonly agent: string
  readonly instance?: string
  readonly issuer: string
  readonly role: string
  /** SHA-256 of the request, canonical JSON. */
  readonly digest: string
  readonly needs: readonly { readonly group: string; readonly approvals: number }[]
  readonly consents: readonly Consent[]
  readonly denial?: Omit<Consent, 'groups'>
  readonly request: ApprovalRequest
  /** Who opened the task and those above it: they, and the owners of such agents, agree to nothing that is asked for it. */
  readonly openers: readonly Task['openedBy'][]
  /** Of its task, when it was asked for. */
  readonly contextVersion: number
  readonly askedAt: number
  /** Of an open one, when it is too late to agree; of a granted one, when it is too late to use it. */
  readonly expiresAt: number
  /** That holds or has spent it. */
  readonly lease?: string
  /** Why it expired. */
  readonly cause?: Cause
}
export interface Consent {
  readonly id: string
  readonly issuer: string
  readonly groups: readonly string[]
  /** What the person is called, folded: nobody agrees twice under two ids. */
  readonly persons?: readonly string[]
  readonly at: number
  readonly reason?: string
}
/** What a human decides on: all of it as the broker knows it, but for `claimed`. */
export interface ApprovalRequest {
  readonly owner: string
  readonly autonomy: Autonomy
  readonly provider: string
  readonly access: Access
  readonly sensitivity: Sensitivity
  readonly revocation: Revocation
  readonly residualSeconds: number
  readonly scope: Scope
  readonly ttlSeconds: number
  /** The lease that is to be renewed. */
  readonly renews?: string
  readonly human?: string
  readonly humanProof?: HumanProof
  readonly task: Pick<
    Task,
    'openedBy' | 'intent' | 'statedIntent' | 'classified' | 'classifiedBy' | 'confidence' | 'classification' | 'environment' | 'deadlineAt'
  >
  /** The policies that ask for a human, and why. */
  readonly policies: readonly string[]
  readonly reasons: readonly string[]
  /** The agent's own words. */
  readonly claimed: { readonly intent?: string; readonly reason?: string; readonly tool?: string; readonly destination?: string }
}

/** Which leases or requests a freeze or an emergency covers. Keys are ANDed; a list means any of it. */
export interface Selector {
  readonly all?: true
  readonly agent?: readonly string[]
  readonly task?: readonly string[]
  readonly role?: readonly string[]
  readonly provider?: readonly string[]
  readonly issuer?: readonly string[]
  readonly owner?: readonly string[]
  readonly human?: readonly string[]
  readonly orchestrator?: readonly string[]
}
export const SELECTOR_KEYS = ['agent', 'task', 'role', 'provider', 'issuer', 'owner', 'human', 'orchestrator'] as const

/** Tasks that nothing else is named with are over. */
export function namesTasksAlone(selector: Selector): boolean {
  return selector.task !== undefined && Object.keys(selector).length === 1
}

/** A durable block on issuing. */
export interface Freeze {
  readonly id: string
  /** Set by suspending an agent, which resuming takes back, by offboarding it, which is for good, or by a quarantine, which is lifted. */
  readonly kind?: 'suspension' | 'offboarding' | 'quarantine'
  readonly selector: Selector
  readonly generation: number
  readonly reason: string
  readonly by: string
  readonly at: number
}

/** That an operator wants a freeze to be thawed, which takes more than one. */
export interface ThawAsk {
  readonly by: string
  readonly issuer: string
  /** Of those whose consent policy asks for. */
  readonly groups: readonly string[]
  /** All that the person is called, as names are compared. */
  readonly names: readonly string[]
  readonly reason: string
  readonly at: number
}

/** The ledger is not what brokers remember of it: nothing is issued until an operator says so. */
export interface Quarantine {
  /** Counts them; 1 is a ledger that never was in one, or that was made anew after a loss. */
  readonly generation: number
  /** `behind`: Redis went backwards. `lost`: it was lost, and made anew. `another`: made anew without saying so, or at another address. */
  readonly reason: 'behind' | 'lost' | 'another'
  readonly at: number
  /** Events from then on may have been lost; 0: all. */
  readonly since: number
  /** Of the broker that found it out; '' where it was no broker. */
  readonly by: string
  /** The freeze by which it holds. */
  readonly freeze: string
  /** Partitions that were found to be behind, up to which event, and what that broker knew of. */
  readonly behind: readonly { readonly partition: number; readonly found: string; readonly known: string }[]
  readonly lifted?: { readonly by: string; readonly reason: string; readonly at: number; readonly generation: number }
  /** Whose logs were read again since; absent: not looked up. */
  readonly reads?: readonly QuarantineReport[]
}
/** What one broker's own audit log says of a ledger that has forgotten it. */
export interface QuarantineReport {
  readonly broker: string
  readonly generation: number
  readonly at: number
  /** What of the log was there, and why there may have been more. */
  readonly from?: number
  readonly to?: number
  readonly gaps: readonly string[]
  /** What was done again. */
  readonly applied: Readonly<Record<'ended' | 'frozen' | 'thawed' | 'closed' | 'extended' | 'revocations', number>>
  /** Leases that the log knows as unsettled and the ledger does not know: how many at each provider, and some of them. */
  readonly unknown: readonly { readonly provider: string; readonly leases: number; readonly until?: number }[]
  readonly examples: readonly { readonly lease: string; readonly provider: string; readonly role: string; readonly until?: number }[]
}

/** How far a revocation has come at one provider. */
export interface ProviderProgress {
  readonly provider: string
  readonly matched: number
  readonly revoked: number
  readonly expired: number
  readonly pending: number
  /** Of the pending: those whose last attempt failed. */
  readonly failed: number
  readonly residualUntil?: number
}

/** Whether upstreams are asked, after a confirmed revoke, that the credential is dead: of none, of the first few of each provider, of all. */
export type Verify = 'none' | 'sample' | 'all'
/** What was found: `unverifiable`, the provider cannot tell; `unanswered`, it could, and did not answer. */
export type Verified = 'dead' | 'unverifiable' | 'unanswered'

/** What became of one lease that a revocation matched. */
export interface RevocationLease {
  readonly lease: string
  readonly task: string
  readonly agent: string
  readonly role: string
  readonly provider: string
  /** `awaits_expiry`: nothing but its upstream's own expiry ends it. `pending`: it is revoked as soon as its upstream does it. */
  readonly outcome: 'revoked' | 'expired' | 'awaits_expiry' | 'pending'
  /** When it was revoked, or had expired. */
  readonly at?: number
  /** Of what has not ended: when it stops working by itself; absent: it does not. */
  readonly usableUntil?: number
  readonly attempts?: number
  readonly lastError?: string
  /** Absent: nobody asked. */
  readonly verified?: Verified | 'alive'
}

/** Progress of one emergency revocation. */
export interface EmergencyRevocation {
  readonly id: string
  readonly selector: Selector
  readonly reason: string
  readonly by: string
  readonly startedAt: number
  readonly finishedAt?: number
  readonly state: 'running' | 'finished'
  readonly freeze?: string
  readonly verify: Verify
  readonly matched: number
  readonly revoked: number
  readonly expired: number
  readonly pending: number
  readonly failed: number
  readonly providers: readonly ProviderProgress[]
  /** When the last matched credential stops working by itself, if the upstreams never answered. */
  readonly residualUntil?: number
}

/** What happened. Attacker-controlled text appears only inside `detail`, escaped by JSON. Never a secret. */
export interface Event {
  /** Made by the broker; a problem's `instance` points at it. */
  readonly id: string
  readonly type: EventType
  readonly principal?: {
    readonly kind: Principal['kind']
    readonly id: string
    readonly instance?: string
    readonly owner?: string
    readonly issuer: string
    readonly token: string
  }
  readonly request?: { readonly id: string; readonly trace?: string }
  readonly task?: string
  readonly lease?: string
  readonly role?: string
  readonly provider?: string
  readonly approval?: string
  /** On whose behalf; `token` and `issuer` where a token of theirs said so. */
  readonly human?: { readonly id: string; readonly issuer?: string; readonly token?: string }
  readonly decision?: Pick<Decision, 'outcome' | 'policies' | 'policyVersion' | 'decisionIds' | 'error' | 'observed'>
  readonly cause?: Cause
  readonly code?: string
  /** Of a task that was handed on: the agents through which it came, the first one first, who acts last. */
  readonly chain?: readonly string[]
  readonly detail?: Readonly<Record<string, unknown>>
}
export type EventType =
  | 'task.opened'
  | 'task.changed'
  | 'task.ended'
  | 'lease.reserved'
  | 'lease.issued'
  | 'lease.denied'
  | 'lease.renewed'
  | 'lease.closing'
  | 'lease.revoked'
  | 'lease.expired'
  | 'lease.stuck'
  | 'lease.alive'
  | 'request.refused'
  | 'operator.refused'
  | 'break_glass.used'
  | 'freeze.set'
  | 'freeze.thaw_asked'
  | 'freeze.thawed'
  | 'quarantine.entered'
  | 'quarantine.behind'
  | 'quarantine.read'
  | 'quarantine.lifted'
  | 'revocation.started'
  | 'revocation.finished'
  | 'config.reloaded'
  | 'provider.told'
  | 'approval.asked'
  | 'approval.given'
  | 'approval.denied'
  | 'approval.expired'
  | 'approval.spent'
  | 'approval.freed'
  | 'agent.risk'
  | 'tool.called'
  | 'tool.denied'
  | 'drill.finished'
  | 'orphan.found'
  | 'orphan.revoked'
  | 'reconciliation.finished'

/**
 * Lists of what was withdrawn, kept in the ledger on its clock. A list is named by the provider (an AWS role, "certificates"); what is
 * published upstream is always rebuilt from it, so that a broker that dies between two steps loses nothing.
 */
export interface Register {
  /** Durable once it returns; adding again keeps the later `until` (ms, ledger's clock), after which the entry may go. */
  add(list: string, entry: RegisterEntry): Promise<void>
  /** What has not passed yet, by id. `version` grows with each change of the list, expiry included. */
  read(list: string): Promise<{ readonly version: number; readonly entries: readonly RegisterEntry[] }>
  /** Every list of this provider that holds something, and any that was emptied by the last look at it: its upstream may not know yet. */
  lists(): Promise<string[]>
  /** The one place to write from, among all brokers, for `ms`; `undefined`: somebody else has it. */
  lock(list: string, ms: number): Promise<Lock | undefined>
}
export interface RegisterEntry {
  readonly id: string
  readonly until: number
}
export interface Lock {
  /** Grows with each holder: a fencing token. */
  readonly token: number
  /** Milliseconds that it surely still is ours, by this process's monotonic clock; 0 when it may be another's. */
  left(): number
  release(): Promise<void>
}

/** What a request carries through the house besides its principal. */
export interface RequestContext {
  readonly requestId: string
  readonly trace?: string
}
