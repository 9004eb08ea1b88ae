import { randomUUID } from 'node:crypto'
import { DUE_CHANNEL } from '../../src/ledger/keys.js'
import type { Outside } from '../../src/ledger/witness.js'
import type { Claim } from '../../src/types.js'
import { event, type Fixture, granted, HOUR, makeDue, newLease, newTask, openTask, PLENTY, RULES, reserved, taskNow, tokenNow } from './fixture.js'

const AGENT = { id: 'triage', owner: 'sre@example.com', issuer: 'cluster' }
const PROOF = { subject: 'jane', issuer: 'people', claims: {}, tokenIssuedAt: 1, tokenExpiresAt: 9_999_999_999_999 }

/** Does everything that a ledger can do at least once, so that every script has been called with what it is called with. */
export async function doEverything({ ledger, redis, open }: Fixture): Promise<void> {
  const root = await openTask(ledger, {
    tools: [{ tool: 'tickets/get', maxCalls: 3 }],
    heartbeatSeconds: 60,
    assignees: [{ agent: 'triage', bindInstance: true }, { agent: 'triage' }],
  })
  const child = await openTask(ledger, { parent: root.id, tools: [{ tool: 'tickets/get' }] })
  const external = newTask(ledger, { externalId: 'ticket-1' })
  await ledger.knownTask(external)
  await ledger.openTask(external, event('task.opened'))
  await ledger.openTask(
    newTask(ledger, { openedBy: { kind: 'agent', id: 'triage', issuer: 'cluster' }, maxOpened: 5, id: ledger.newTaskId({ agent: 'triage' }) }),
    event('task.opened'),
  )
  await ledger.task(child.id, { fresh: true })
  await ledger.touchTask(root.id)
  await ledger.descendants(root.id, 10)

  const first = await granted(ledger, root.id, {
    idempotency: 'key',
    limits: { perTaskLive: 10, perAgentLive: 10, maxLive: 5, maxLeases: 50 },
    maxRenewals: 3,
  })
  await granted(ledger, child.id, { supersedes: undefined, sealed: undefined } as object)
  const proven = await granted(ledger, child.id, { human: 'jane', humanProof: PROOF as never })
  const pending = await reserved(ledger, root.id, { shortestLifeSeconds: 60, scope: { schema: 'a' } })
  const minted = { handle: { user: 'mf_y' }, expiresAt: ledger.now() + HOUR / 2, usableUntil: ledger.now() + HOUR, sealedBy: 'key-1' }
  await ledger.activate(pending, minted, event('lease.issued'))
  const late = await reserved(ledger, external.id)
  await ledger.close(late.id, 'mint_failed', event('lease.closing'))
  await ledger.activate(late, minted, event('lease.issued'))
  const facts = async (task: string) => {
    const { contextVersion, obtained } = await taskNow(ledger, task)
    return { contextVersion, obtained }
  }
  const renewal = { ttlSeconds: 300, facts: await facts(root.id), tokenIssuedAt: tokenNow(ledger) + 60_000, maxRenewals: 3 }
  await ledger.renew(first.id, renewal, event('lease.renewed'))
  await ledger.renew(
    proven.id,
    { ...renewal, facts: await facts(child.id), humanProof: { ...PROOF, tokenIssuedAt: 5 } as never },
    event('lease.renewed'),
  )
  // Where an agent is counted elsewhere than its leases are, one too many is taken back.
  const counted = ledger.newTaskId({ agent: 'triage' }).slice(0, 'task_00'.length)
  const openShared = () => openTask(ledger, { assignees: [{ agent: 'triage' }, { agent: 'other' }] })
  let shared = await openShared()
  while (shared.id.startsWith(counted)) shared = await openShared()
  for (const _ of [1, 2, 3]) {
    const one = newLease(ledger, await taskNow(ledger, shared.id), { limits: { perTaskLive: 0, perAgentLive: 2 } })
    await ledger.grant(one, event('lease.issued'))
  }
  await ledger.leasesOfTask(root.id)
  await ledger.frozenAmong(root.id, [{ agent: AGENT, role: 'warehouse-read', provider: 'warehouse' }])
  await ledger.lease(first.id)

  const tool = { name: 'tickets/get', access: 'read', sensitivity: 'internal' } as const
  await ledger.callTool({ task: child.id, agent: AGENT, tool, maxCalls: 2, facts: await facts(child.id) }, event('tool.called'))
  await ledger.callTool({ task: root.id, agent: { ...AGENT, instance: 'run-1' }, tool, facts: await facts(root.id) }, event('tool.called'))

  const ask = (digest: string) => ({
    ...{ id: ledger.newApprovalId(root.id), task: root.id, agent: AGENT, role: 'warehouse-read', digest, needs: [{ group: 'sre', approvals: 1 }] },
    ...{ request: {} as never, contextVersion: renewal.facts.contextVersion, ttlSeconds: 600, most: 8, mostOfAgent: 100 },
  })
  for (const digest of ['one', 'two', 'three']) await ledger.askApproval(ask(digest), event('approval.asked'))
  const { approvals } = await ledger.approvals({ limit: 10 })
  const [given, refused] = approvals
  await ledger.giveApproval(
    given?.id ?? '',
    { id: 'oncall', issuer: 'people', groups: ['sre'], persons: ['a'], reason: 'ok', grantedMs: HOUR },
    event('approval.given'),
  )
  await ledger.denyApproval(refused?.id ?? '', { id: 'oncall', issuer: 'people', reason: 'no' }, event('approval.denied'))
  await ledger.approval(given?.id ?? '')
  if (given) await reserved(ledger, root.id, { approval: { id: given.id, digest: given.digest } })

  await ledger.changeTask(root.id, { classification: 'confidential', confidence: 0.8 }, event('task.changed'))
  await ledger.reaffirm(first.id, (await taskNow(ledger, root.id)).contextVersion)

  for (const names of [['read a'], ['write b'], []])
    await ledger.countRisk('triage', { digest: names.join(), names, granted: true, obtained: 'read' }, RULES, event('agent.risk'))
  await ledger.risk('triage', RULES)
  await ledger.setRisk('triage', { floor: { value: 50, until: ledger.now() + HOUR }, reason: 'r', by: 'oncall' }, RULES, event('agent.risk'))
  await ledger.leasesOfAgent('triage')

  await ledger.consume(randomUUID(), HOUR)
  await ledger.outbox.hold('reader', HOUR)
  for (const partition of [0, 1, 2, 3]) {
    const [entry] = await ledger.outbox.read(partition, 1)
    if (entry) await ledger.outbox.confirm(partition, 'reader', entry.streamId)
  }
  await ledger.record(event('request.refused'))
  const register = ledger.register('warehouse')
  await register.add('crl', { id: 'serial-1', until: ledger.now() + HOUR })
  await register.read('crl')
  const lock = await register.lock('crl', HOUR)
  await lock?.release()

  const other = await ledger.freeze({ selector: { agent: ['nobody'], role: ['x'] }, reason: 'r', by: 'oncall' }, event('freeze.set'))
  const revoke = { verify: 'none', event: event('revocation.started') } as const
  await ledger.freeze({ selector: { owner: ['nobody@example.com'] }, reason: 'r', by: 'oncall', revoke }, event('freeze.set'))
  await ledger.askThaw(
    other.freeze.id,
    { by: 'oncall', issuer: 'people', groups: ['sre'], names: ['a'], reason: 'r', at: ledger.now() },
    HOUR,
    event('freeze.thaw_asked'),
  )
  await ledger.thaw(other.freeze.id, { reason: 'r', by: 'oncall' }, event('freeze.thawed'))
  await redis.client.publish(DUE_CHANNEL, other.freeze.id)
  await ledger.match({ agent: ['triage'] })
  const doomed = await openTask(ledger)
  await granted(ledger, doomed.id)
  const { id } = await ledger.openRevocation({ selector: { task: [doomed.id] }, reason: 'r', by: 'oncall' }, event('revocation.started'))
  const settle = async (claims: readonly Claim[]) => {
    for (const { lease, attempt } of claims) await ledger.settle({ lease: lease.id, attempt }, { result: 'revoked' }, event('lease.revoked'))
  }
  await settle(await ledger.takeNearest(id))
  for (let isDone = false, n = 0; !isDone && n < 20; n++) {
    const { claims, done } = await ledger.advanceRevocation(id)
    await settle(claims)
    isDone = done
  }
  await ledger.revocationLeases(id)
  await ledger.openRevocations()
  const ended = await openTask(ledger)
  await granted(ledger, ended.id)
  const end = await ledger.endTask(ended.id, { state: 'completed', cause: 'task_completed', reason: 'done' }, event('task.ended'))
  for (const { lease, attempt } of end.ok ? end.claims : [])
    await ledger.settle({ lease: lease.id, attempt }, { result: 'failed', error: 'x' }, event('lease.revoked'))
  await makeDue(redis, 'due:warehouse', first.id)
  await ledger.claim(PLENTY)
  const unknown = ledger.newLeaseId(root.id)
  await ledger.lookUp([first.id, unknown])
  await ledger.sight('warehouse', [first.id, unknown], { listedFrom: ledger.now(), apartMs: 0 }, event('orphan.found'))
  await ledger.adopt(
    { lease: unknown, provider: 'warehouse', handle: { user: 'mf_z' }, revocation: 'immediate', residualSeconds: 0, expiresAt: ledger.now() + HOUR },
    event('lease.closing'),
  )
  for await (const _ of ledger.activesOf('warehouse', ledger.now())) break
  await ledger.leases({}, { limit: 10 })
  await ledger.tasks({}, { limit: 10 })
  await ledger.agents()
  await ledger.reach('triage', 10)
  await ledger.rolesInUse()
  await ledger.status()
  // There is no replica to wait for: it says so, and has asked.
  const waiting = await open({ wait: { replicas: 1, timeoutMs: 1 } })
  await granted(waiting, (await openTask(waiting)).id).catch(() => undefined)
  await ledger.restoreExpiry(first.id, ledger.now() + HOUR)
  const older = await open({ outside: rememberingMore() })
  await older.noteRead({ at: older.now(), gaps: [], applied: NOTHING, unknown: [], examples: [] })
  await older.liftQuarantine({ by: 'oncall', reason: 'r' }, event('quarantine.lifted'))
  // From here on nobody writes by themselves.
  for (const one of [waiting, older]) await one.disconnect()
}

const NOTHING = { ended: 0, frozen: 0, thawed: 0, closed: 0, extended: 0, revocations: 0 }

/** What a broker remembers of another ledger than this one. */
function rememberingMore(): Outside {
  let kept = { ledger: 'another', generation: 1, beat: 0, held: new Map<number, string>() }
  return {
    name: 'broker',
    kept: () => kept,
    note: async (change) => {
      kept = { ...kept, ...change }
    },
  }
}
