import type { TestBroker } from '../support/broker.js'

/** Writes that need humans of two groups, or five of one, and operators who are in one, the other or both. */
export const writing = {
  roles: [
    '  api-both: {provider: tokens, access: write, sensitivity: confidential, max_ttl: 5m, scope: {table: equal}, params: {audience: "https://reports.example"}}',
    '  api-five: {provider: tokens, access: write, sensitivity: internal, max_ttl: 5m, labels: [five], params: {audience: "https://reports.example"}}',
    '  api-one: {provider: tokens, access: write, sensitivity: restricted, max_ttl: 5m, scope: {table: equal}, params: {audience: "https://reports.example"}}',
  ].join('\n'),
  operators: [
    '  - {id: "many-{sub}", match: {issuer: test, sub: "many-*"}, groups: [sre-oncall]}',
    '  - {id: guard, match: {issuer: test, sub: guard}, groups: [security]}',
    '  - {id: both, match: {issuer: test, sub: both}, groups: [security, sre-oncall]}',
  ].join('\n'),
  policy: `
    @id("security-consents") permit (principal in Group::"security", action == Action::"approve", resource);
    @id("two-on-call") @stepUp("sre-oncall") @approvals("2") @reason("two on call have to agree")
    forbid (principal, action == Action::"write", resource) when { resource.sensitivity == Sensitivity::"confidential" }
    unless { context.approval.groups.contains(Group::"sre-oncall") };
    @id("and-security") @stepUp("security") @reason("security has to agree")
    forbid (principal, action == Action::"write", resource) when { resource.sensitivity == Sensitivity::"confidential" }
    unless { context.approval.groups.contains(Group::"security") };
    @id("five") @stepUp("sre-oncall") @approvals("5") @reason("five on call have to agree")
    forbid (principal, action == Action::"write", resource) when { resource.labels.contains("five") }
    unless { context.approval.groups.contains(Group::"sre-oncall") };`,
} as const

/** Each time another, and all of them enough for writing. */
let changes = 0
const nextConfidence = () => (60 + (changes++ % 25)) / 100

/** New facts of a task, as the one who opened it tells them. */
export async function changeContext(test: TestBroker, task: string): Promise<void> {
  const told = { id: crypto.randomUUID(), type: 'task.changed', task } as const
  await test.broker.house().ledger.changeTask(task, { confidence: nextConfidence() }, told)
}
