import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

/**
 * Every metric of Mayfly. Labels are bounded by the configuration (provider, route) or by a literal list (outcome, cause, code):
 * never an agent, a task or a lease.
 */
export type Metrics = ReturnType<typeof createMetrics>

const LATENCY_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60]

export function createMetrics() {
  const registry = new Registry()
  const registers = [registry]
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]) => new Counter<L>({ name, help, labelNames, registers })
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[]) => new Gauge<L>({ name, help, labelNames, registers })
  const histogram = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Histogram<L>({ name, help, labelNames, registers, buckets: LATENCY_SECONDS })
  collectDefaultMetrics({ register: registry, prefix: 'mayfly_' })
  return {
    registry,
    issued: counter('mayfly_leases_issued_total', 'Credentials issued.', ['provider', 'access']),
    refused: counter('mayfly_refusals_total', 'Requests refused, by error code.', ['code']),
    revoked: counter('mayfly_leases_settled_total', 'Leases settled, by provider, outcome and cause.', ['provider', 'outcome', 'cause']),
    riskSignals: counter('mayfly_risk_signals_total', 'What agents did that raised their risk, by signal.', ['signal']),
    riskRises: counter('mayfly_risk_rises_total', "Agents' risks that rose, by the step of ten that they rose to.", ['to']),
    riskUncounted: counter('mayfly_risk_uncounted_total', 'What agents did and could not be counted.', []),
    toolCalls: counter('mayfly_tool_calls_total', 'Tool calls decided, by decision.', ['decision']),
    reviewed: counter('mayfly_leases_reviewed_total', 'Live leases decided anew, by what made it necessary and what became of them.', [
      'why',
      'outcome',
    ]),
    revokeFailures: counter('mayfly_revoke_failures_total', 'Attempts to revoke that failed and will be repeated.', ['provider']),
    verified: counter(
      'mayfly_revocations_verified_total',
      'Upstreams asked, after a confirmed revoke, whether the credential is dead: what they said.',
      ['provider', 'outcome'],
    ),
    issueSeconds: histogram('mayfly_issue_duration_seconds', 'From request to credential.', ['provider']),
    mintSeconds: histogram('mayfly_mint_duration_seconds', 'The call to the upstream alone.', ['provider', 'outcome']),
    revokeSeconds: histogram('mayfly_revoke_duration_seconds', 'The revoke call to the upstream alone.', ['provider', 'outcome']),
    timeToDead: histogram('mayfly_task_end_to_revoked_seconds', 'From the moment a lease was closed to the confirmed revoke.', ['provider']),
    timeToRefused: histogram('mayfly_time_to_dead_seconds', 'Drills: from the end of a task until the upstream refuses its credential.', [
      'provider',
    ]),
    drills: counter('mayfly_drills_total', 'Drills, by outcome.', ['provider', 'outcome']),
    drillSucceeded: gauge('mayfly_drill_last_success_timestamp_seconds', 'When a drill last saw a credential die.', ['provider']),
    shed: counter('mayfly_requests_shed_total', 'Requests refused unread, because too many came.', ['share']),
    waited: histogram('mayfly_request_wait_seconds', 'How long requests waited for their turn, of those that had to.', ['share']),
    orphans: counter('mayfly_orphans_total', 'Credentials found upstream that the ledger knew nothing of, by what became of them.', [
      'provider',
      'outcome',
    ]),
    orphansNow: gauge('mayfly_orphans', 'Of them, those left by the last reconciliation.', ['provider']),
    missing: gauge('mayfly_leases_missing', 'Active leases whose credential the last reconciliation did not find upstream.', ['provider']),
    reconciledAt: gauge('mayfly_reconciled_timestamp_seconds', 'When what exists upstream was last held against the ledger to the end.', [
      'provider',
    ]),
    httpSeconds: histogram('mayfly_http_request_duration_seconds', 'HTTP requests.', ['route', 'method', 'status']),
    stuckLeases: gauge('mayfly_leases_stuck', 'Unsettled leases past their time.', ['provider']),
    stuckSeconds: gauge('mayfly_lease_stuck_seconds', 'By how much the oldest such lease is late.', ['provider']),
    sweeperLag: gauge('mayfly_sweeper_lag_seconds', 'How late the oldest work was when it was claimed last.', []),
    sweeps: counter('mayfly_sweeps_total', 'Sweeps, by outcome.', ['outcome']),
    outboxLength: gauge('mayfly_outbox_entries', 'Events not yet confirmed by the audit sink.', []),
    auditWritten: counter('mayfly_audit_events_total', 'Events written by the audit sink.', ['sink', 'outcome']),
    ledgerUp: gauge('mayfly_ledger_reachable', '1 while the ledger answers.', []),
    waits: histogram('mayfly_ledger_wait_seconds', 'How long replicas took to have what was written (ledger.wait), by whether they did.', [
      'what',
      'outcome',
    ]),
    live: gauge('mayfly_leases_live', 'Unsettled leases.', []),
    observed: counter('mayfly_policy_observed_differences_total', 'Decisions that would be others if the observed policies were binding.', [
      'action',
      'decided',
      'observed',
    ]),
    policySeconds: histogram('mayfly_policy_engine_duration_seconds', 'Questions to a policy engine elsewhere, by how they went.', ['outcome']),
    policyState: gauge('mayfly_policy_engine_circuit_open', '1 while a policy engine elsewhere is not asked, because it did not answer.', []),
    memo: gauge('mayfly_policy_memo_hit_ratio', 'Decisions answered from the memo, of all.', []),
    tokenCache: gauge('mayfly_token_cache_hit_ratio', 'Tokens answered from the cache, of all.', []),
    upstreamState: gauge('mayfly_upstream_circuit_open', '1 while the mint circuit of a provider is open.', ['provider']),
    webhooks: counter('mayfly_webhooks_total', 'Notifications of approvals, by outcome.', ['outcome']),
    classified: counter('mayfly_classifications_total', 'Tasks put to the classifier, by outcome.', ['outcome']),
    classifySeconds: histogram('mayfly_classify_duration_seconds', 'What a task waits for the classifier.', []),
    emergency: counter('mayfly_emergency_revocations_total', 'Emergency revocations started.', []),
    breakGlass: counter('mayfly_break_glass_uses_total', 'Requests with a token of a break-glass issuer.', ['issuer']),
    quarantined: gauge('mayfly_quarantined', '1 while issuing is stopped because Redis went backwards.', []),
    frozen: gauge('mayfly_freezes', 'Freezes in force.', []),
  }
}
