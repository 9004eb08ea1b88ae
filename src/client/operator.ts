import type {
  AgentAnswer,
  AgentResumeAnswer,
  AgentRisk,
  AgentRiskAnswer,
  AgentRiskRequest,
  AgentStopAnswer,
  AgentsAnswer,
  Approval,
  ApprovalAnswer,
  ApprovalsAnswer,
  ApprovalsQuery,
  DrillRequest,
  DrillsAnswer,
  DryRunAnswer,
  EmergencyAnswer,
  EmergencyRequest,
  FreezeAnswer,
  FreezeRequest,
  FreezesAnswer,
  LeasesAnswer,
  LeasesQuery,
  LiftRequest,
  OffboardingAnswer,
  Quarantine,
  QuarantineAnswer,
  ReachAnswer,
  ReachThenAnswer,
  ReconciliationAnswer,
  ReconciliationRequest,
  RevocationAnswer,
  SimulateRequest,
  SimulationAnswer,
  TasksAnswer,
  TasksQuery,
  ThawAnswer,
} from '../api.js'
import type { CallOptions, Transport } from './transport.js'

/** A report of very many leases takes its time. */
const REPORT_SECONDS = 600
/** Where none is given. */
const RECONCILE_SECONDS = 120

/** Which leases or requests a freeze or an emergency covers. */
export type Selector = EmergencyRequest['selector']

/** What an operator does. Nothing that stops is sent twice by itself: the caller sees what happened and decides. */
export interface OperatorCalls {
  leases(filter?: LeasesQuery, options?: CallOptions): Promise<LeasesAnswer>
  tasks(filter?: TasksQuery, options?: CallOptions): Promise<TasksAnswer>
  agents(options?: CallOptions): Promise<AgentsAnswer['agents']>
  /** What waits for humans, or for its use. */
  approvals(filter?: ApprovalsQuery, options?: CallOptions): Promise<ApprovalsAnswer>
  approve(id: string, ask?: { reason?: string }, options?: CallOptions): Promise<Approval>
  deny(id: string, ask?: { reason?: string }, options?: CallOptions): Promise<Approval>
  agent(id: string, options?: CallOptions): Promise<AgentAnswer>
  /** What it holds and could obtain now, itself or through those that it handed work on to. */
  reach(id: string, options?: CallOptions): Promise<ReachAnswer>
  /** The same at a time that has passed, RFC 3339: from what the broker has recorded. It says why there may have been more. */
  reachAt(id: string, at: string, options?: CallOptions): Promise<ReachThenAnswer>
  /** Frozen before this answers; its live leases are closed behind it. `resume` takes it back. */
  suspend(id: string, ask: { reason: string }, options?: CallOptions): Promise<AgentStopAnswer>
  resume(id: string, ask: { reason: string }, options?: CallOptions): Promise<AgentResumeAnswer>
  /** A floor under its risk, or what was counted forgotten. */
  setRisk(id: string, ask: AgentRiskRequest, options?: CallOptions): Promise<AgentRisk>
  /** For good. `offboarding` tells how far it has come. */
  offboard(id: string, ask: { reason: string }, options?: CallOptions): Promise<AgentStopAnswer>
  offboarding(id: string, options?: CallOptions): Promise<OffboardingAnswer>
  /** What candidate policies would change; changes nothing. */
  simulate(ask: SimulateRequest, options?: CallOptions): Promise<SimulationAnswer>
  /** Mints credentials to see how soon they die; takes as long as that. */
  drill(ask?: DrillRequest, options?: CallOptions): Promise<DrillsAnswer['drills']>
  /** Holds what exists upstream against the ledger; takes as long as that, `deadline` at most. */
  reconcile(ask?: ReconciliationRequest, options?: CallOptions): Promise<ReconciliationAnswer>
  freezes(options?: CallOptions): Promise<FreezesAnswer['freezes']>
  freeze(ask: FreezeRequest, options?: CallOptions): Promise<FreezeAnswer>
  /** Whether Redis went backwards, and what followed from it. */
  quarantine(options?: CallOptions): Promise<Quarantine>
  liftQuarantine(ask: LiftRequest, options?: CallOptions): Promise<Quarantine>
  /** With `asked`, it is frozen still: policy says that others have to ask for it too. */
  thaw(id: string, ask: { reason: string }, options?: CallOptions): Promise<ThawAnswer>
  /** The freeze, unless `freeze: false`, holds before this answers; the revoking goes on behind it. */
  emergencyRevoke(ask: Omit<EmergencyRequest, 'dry_run'>, options?: CallOptions): Promise<EmergencyAnswer>
  /** What the same call would match; changes nothing. */
  dryRun(ask: Pick<EmergencyRequest, 'selector' | 'reason'>, options?: CallOptions): Promise<DryRunAnswer>
  revocation(id: string, options?: CallOptions): Promise<RevocationAnswer['revocation']>
  /** What became of each of its leases: a JSON object a line, and a last one with the JWS over them. One without that line was cut off. */
  revocationReport(id: string, options?: CallOptions): Promise<string>
}

export function operator(send: Transport): OperatorCalls {
  const get = <Answer>(path: string, query: Readonly<Record<string, string | number | undefined>>, options?: CallOptions) =>
    send<Answer>({ method: 'GET', path, query, repeatable: true, ...options })
  const post = <Answer>(path: string, body: object, options?: CallOptions) =>
    send<Answer>({ method: 'POST', path, body, repeatable: false, ...options })
  return {
    leases: (filter = {}, options) => get('v1/leases', filter, options),
    tasks: (filter = {}, options) => get('v1/tasks', filter, options),
    agents: async (options) => (await get<AgentsAnswer>('v1/agents', {}, options)).agents,
    approvals: (filter = {}, options) => get('v1/approvals', filter, options),
    approve: async (id, ask = {}, options) => (await post<ApprovalAnswer>(`v1/approvals/${encodeURIComponent(id)}/approve`, ask, options)).approval,
    deny: async (id, ask = {}, options) => (await post<ApprovalAnswer>(`v1/approvals/${encodeURIComponent(id)}/deny`, ask, options)).approval,
    agent: (id, options) => get(`v1/agents/${encodeURIComponent(id)}`, {}, options),
    reach: (id, options) => get(`v1/agents/${encodeURIComponent(id)}/reach`, {}, options),
    reachAt: (id, at, options) => get(`v1/agents/${encodeURIComponent(id)}/reach`, { at }, options),
    suspend: (id, ask, options) => post(`v1/agents/${encodeURIComponent(id)}/suspend`, ask, options),
    resume: (id, ask, options) => post(`v1/agents/${encodeURIComponent(id)}/resume`, ask, options),
    setRisk: async (id, ask, options) => (await post<AgentRiskAnswer>(`v1/agents/${encodeURIComponent(id)}/risk`, ask, options)).risk,
    offboard: (id, ask, options) => post(`v1/agents/${encodeURIComponent(id)}/offboard`, ask, options),
    offboarding: (id, options) => get(`v1/agents/${encodeURIComponent(id)}/offboard`, {}, options),
    simulate: (ask, options) => post('v1/policy/simulate', ask, options),
    drill: async (ask = {}, options) => (await post<DrillsAnswer>('v1/drills', ask, options)).drills,
    reconcile: (ask = {}, options) => {
      const waitSeconds = ask.deadline ?? RECONCILE_SECONDS
      return send({ method: 'POST', path: 'v1/reconciliations', body: ask, waitSeconds, repeatable: false, ...options })
    },
    freezes: async (options) => (await get<FreezesAnswer>('v1/freezes', {}, options)).freezes,
    freeze: (ask, options) => post('v1/freezes', ask, options),
    quarantine: async (options) => (await get<QuarantineAnswer>('v1/quarantine', {}, options)).quarantine,
    liftQuarantine: async (ask, options) => (await post<QuarantineAnswer>('v1/quarantine/lift', ask, options)).quarantine,
    thaw: (id, ask, options) => post(`v1/freezes/${encodeURIComponent(id)}/thaw`, ask, options),
    emergencyRevoke: (ask, options) => post('v1/emergency/revoke', ask, options),
    dryRun: ({ selector, reason }, options) => post('v1/emergency/revoke', { selector, reason, dry_run: true }, options),
    revocationReport: (id, options) =>
      send({
        method: 'GET',
        path: `v1/emergency/revocations/${encodeURIComponent(id)}/report`,
        as: 'text',
        waitSeconds: REPORT_SECONDS,
        repeatable: true,
        ...options,
      }),
    revocation: async (id, options) => (await get<RevocationAnswer>(`v1/emergency/revocations/${encodeURIComponent(id)}`, {}, options)).revocation,
  }
}
