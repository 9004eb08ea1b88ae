import { describe, expect, it } from '@jest/globals'
import { check, type Totals } from './checker.js'
import type { Evidence, LeaseEvidence, Told } from './evidence.js'
import type { Operation, Trial } from './history.js'

const AT = Date.parse('2030-01-31T12:00:00Z')
const LEASE = `lease_00${'a'.repeat(26)}`
const TASK = `task_00${'b'.repeat(26)}`
const CHILD = `task_00${'c'.repeat(26)}`
const FREEZE = `freeze_01${'d'.repeat(26)}`
const REVOCATION = FREEZE.replace('freeze', 'revocation')

let count = 0
function operation(kind: Operation['kind'], seconds: number, more: Partial<Operation> = {}): Operation {
  const id = count++
  return {
    id,
    kind,
    broker: 0,
    from: AT + seconds * 1000,
    until: AT + seconds * 1000 + 10,
    outcome: 'ok',
    status: 200,
    about: {},
    request: `r${id}`,
    ...more,
  }
}
function told(type: string, seconds: number, more: Partial<Told> = {}): Told {
  const stream_id = `${AT + seconds * 1000}-${count++}`
  return { partition: 0, stream_id, at: '', id: stream_id, type, ...more }
}
function trial(seconds: number, result: Trial['result'], phase?: Trial['phase']): Trial {
  return { lease: LEASE, from: AT + seconds * 1000, until: AT + seconds * 1000 + 5, result, phase }
}
const settled: LeaseEvidence = {
  ...{ state: 'r', task: TASK, provider: 'warehouse', role: 'warehouse-read', revocation: 'immediate', cause: 'task_completed' },
  ...{ expiresAt: AT + 300_000, closedAt: AT + 10_000 },
}

/** A task is opened, a lease issued and used; the task ends, the lease is revoked, and refused. */
function quiet(): Evidence {
  const open = operation('open', 0, { status: 201, answer: { task: TASK } })
  const obtain = operation('obtain', 1, {
    ...{ status: 201, about: { task: TASK, agent: 'worker-1', role: 'warehouse-read' } },
    answer: { lease: { id: LEASE, state: 'active', expiresAt: AT + 300_000 } },
  })
  const end = operation('end-waiting', 10, { about: { task: TASK }, answer: { state: 'completed', leases: [{ id: LEASE, state: 'revoked' }] } })
  const events = [
    told('task.opened', 0, { task: TASK, request: { id: open.request ?? '' } }),
    told('lease.reserved', 1, { task: TASK, lease: LEASE }),
    told('lease.issued', 1, { task: TASK, lease: LEASE, request: { id: obtain.request ?? '' } }),
    told('task.ended', 10, { task: TASK, request: { id: end.request ?? '' } }),
    told('lease.closing', 10, { task: TASK, lease: LEASE }),
    told('lease.revoked', 10, { task: TASK, lease: LEASE }),
  ]
  return {
    operations: [open, obtain, end],
    trials: [trial(2, 'works'), trial(11, 'refused'), trial(20, 'refused', 'last')],
    held: [{ lease: LEASE, task: TASK, agent: 'worker-1', role: 'warehouse-read', provider: 'warehouse', receivedAt: AT + 1000 }],
    ledger: {
      tasks: { [TASK]: { state: 'completed', ancestors: [], opener: 'orchestrator:flows' } },
      leases: { [LEASE]: settled },
      freezes: [{}, {}],
      revocations: {},
      outbox: [{ added: events.length, left: 0 }],
    },
    events,
    upstream: [],
    crashes: [],
  }
}

/** What a frozen agent's operator was told, and what the ledger and the events have of it. */
function frozen(): Evidence {
  const run = quiet()
  const selector = { agent: ['worker-1'] }
  const emergency = operation('emergency', 5, {
    status: 202,
    about: { selector },
    answer: { freeze: FREEZE, revocation: REVOCATION, unreachable: 0 },
  })
  const request = { id: emergency.request ?? '' }
  return {
    ...run,
    operations: [...run.operations, emergency],
    events: [
      ...run.events,
      ...[told('freeze.set', 5, { request, partition: 1 }), told('revocation.started', 5, { request, partition: 1 })],
      told('revocation.finished', 11, { partition: 1, detail: { revocation: REVOCATION } }),
    ],
    ledger: {
      ...run.ledger,
      freezes: [{ [FREEZE]: true }, { [FREEZE]: true }],
      revocations: { [REVOCATION]: true },
      outbox: [...run.ledger.outbox, { added: 3, left: 0 }],
    },
  }
}

const NONE: Totals = { issued: 1, live: 0, orphans: 0, lost: 0, falsely_reported: 0 }
const totals = (evidence: Evidence) => check(evidence).totals
const without = (evidence: Evidence, type: string): Evidence => {
  const events = evidence.events.filter((event) => event.type !== type)
  const outbox = evidence.ledger.outbox.map(({ left }, partition) => ({
    added: events.filter((event) => event.partition === partition).length,
    left,
  }))
  return { ...evidence, events, ledger: { ...evidence.ledger, outbox } }
}
const withLease = (evidence: Evidence, lease: Partial<LeaseEvidence>): Evidence => ({
  ...evidence,
  ledger: { ...evidence.ledger, leases: { [LEASE]: { ...settled, ...lease } } },
})

describe('a run in which nothing went wrong', () => {
  it('breaks no promise', () => {
    expect(check(quiet())).toEqual({ totals: NONE, violations: [], notes: [] })
    expect(check(frozen())).toEqual({ totals: NONE, violations: [], notes: [] })
  })

  it('may leave what nobody was answered about', () => {
    const run = quiet()
    const unanswered = operation('open', 3, { outcome: 'unknown', status: undefined, until: undefined, request: undefined })
    expect(totals({ ...run, operations: [...run.operations, unanswered] })).toEqual(NONE)
  })

  it('may keep a token that nobody can take back, for as long as it lives', () => {
    const until = (expiresAt: number) => {
      const run = withLease(quiet(), { provider: 'signed', revocation: 'at-expiry', state: 'c', due: expiresAt, expiresAt })
      return totals({ ...run, trials: [trial(20, 'works', 'last')], events: run.events.filter(({ type }) => type !== 'lease.revoked') }).live
    }
    expect([until(AT + 60_000), until(AT + 15_000)]).toEqual([0, 1])
  })
})

describe('what is live', () => {
  it('is a credential that works at the end, whatever the ledger says', () => {
    const run = withLease(quiet(), { state: 'c', due: AT + 30_000 })
    const trials = [trial(20, 'works', 'last')]
    expect(totals({ ...without(run, 'lease.revoked'), operations: run.operations.slice(0, 2), trials })).toMatchObject({
      live: 1,
      falsely_reported: 0,
      orphans: 0,
    })
  })

  it('is one that works when all is mended, though something has ended it: its expiry, its return, its task or one above it, an emergency', () => {
    const run = quiet()
    const emergency = (selector: Readonly<Record<string, readonly string[]>>) =>
      operation('emergency', 5, { status: 202, about: { selector }, answer: { revocation: REVOCATION } })
    const survives = (reason: Operation | undefined, lease: Partial<LeaseEvidence> = {}) => {
      const trials = [trial(30, 'works', 'mended'), trial(60, 'refused', 'last')]
      const operations = [...run.operations.slice(0, 2), ...(reason ? [reason] : [])]
      return totals({ ...withLease(run, lease), trials, operations, events: run.events.filter(({ type }) => type !== 'lease.revoked') }).live
    }
    const reasons = [
      operation('release', 5, { about: { lease: LEASE } }),
      operation('end', 5, { about: { task: TASK } }),
      emergency({ agent: ['worker-1'] }),
      emergency({ agent: ['worker-1'], role: ['warehouse-read'] }),
      emergency({ task: [TASK] }),
    ]
    expect(reasons.map((reason) => survives(reason))).toEqual([1, 1, 1, 1, 1])
    expect(survives(undefined, { expiresAt: AT + 10_000 })).toBe(1)
    const none = [undefined, emergency({ agent: ['worker-2'] }), emergency({ agent: ['worker-1'], role: ['cache-read'] })]
    expect(none.map((reason) => survives(reason))).toEqual([0, 0, 0])
  })

  it('is one that could not be tried, as far as anybody knows', () => {
    expect(totals({ ...quiet(), trials: [trial(20, 'unknown', 'last')] })).toEqual({ ...NONE, live: 1 })
    expect(totals({ ...quiet(), trials: [] })).toEqual({ ...NONE, live: 1 })
  })
})

describe('an orphan', () => {
  it('is an object of a lease that is settled, or that nobody knows', () => {
    const unknown = LEASE.replaceAll('a', 'z')
    expect(totals({ ...quiet(), upstream: [{ provider: 'cache', lease: unknown }] })).toEqual({ ...NONE, orphans: 1 })
    expect(totals({ ...quiet(), upstream: [{ provider: 'warehouse', lease: LEASE }] })).toEqual({ ...NONE, orphans: 1 })
  })

  it('is none that an unsettled lease accounts for', () => {
    const run = withLease(quiet(), { state: 'c', due: AT + 30_000 })
    expect(totals({ ...run, upstream: [{ provider: 'warehouse', lease: LEASE }] }).orphans).toBe(0)
  })
})

describe('what is lost', () => {
  it.each([
    ['the opening of a task', 'task.opened'],
    ['the issue of a lease', 'lease.issued'],
    ['the end of a task', 'task.ended'],
    ['a revocation', 'lease.revoked'],
    ['a freeze', 'freeze.set'],
    ['the start of an emergency', 'revocation.started'],
    ['the end of an emergency', 'revocation.finished'],
  ])('is %s that no event tells', (_what, type) => {
    expect(totals(without(frozen(), type)).lost).toBeGreaterThan(0)
  })

  it('is an event that was appended and is at no sink', () => {
    const run = quiet()
    expect(totals({ ...run, events: run.events.filter(({ type }) => type !== 'lease.closing') })).toEqual({ ...NONE, lost: 1 })
    expect(totals({ ...run, ledger: { ...run.ledger, outbox: [{ added: run.events.length + 2, left: 2 }] } })).toEqual(NONE)
  })

  it('is an acknowledged task, lease, end or freeze that the ledger does not have', () => {
    const run = frozen()
    const ledger = (more: Partial<Evidence['ledger']>) => totals({ ...run, ledger: { ...run.ledger, ...more } }).lost
    expect(ledger({ tasks: {} })).toBeGreaterThan(0)
    expect(ledger({ leases: {} })).toBeGreaterThan(0)
    expect(ledger({ tasks: { [TASK]: { state: 'active', ancestors: [], opener: '' } } })).toBeGreaterThan(0)
    expect(ledger({ freezes: [{ [FREEZE]: true }, {}] })).toBe(1)
    expect(ledger({ revocations: { [REVOCATION]: false } })).toBe(1)
  })

  it('is a lease that is not settled with nothing due, and one that did not settle in time', () => {
    expect(totals(withLease(quiet(), { state: 'c' })).lost).toBe(1)
    expect(totals(withLease(quiet(), { state: 'c', due: AT })).lost).toBe(1)
  })

  it('is the event that a refusal points at', () => {
    const run = quiet()
    const refused = operation('obtain', 3, { outcome: 'refused', status: 403, code: 'denied', event: 'nowhere' })
    expect(totals({ ...run, operations: [...run.operations, refused] })).toEqual({ ...NONE, lost: 1 })
  })
})

describe('what is falsely reported', () => {
  it('is a credential that works after an answer or an event told it as revoked', () => {
    const run = quiet()
    const trials = [trial(12, 'works'), trial(20, 'refused', 'last')]
    expect(totals({ ...run, trials })).toEqual({ ...NONE, falsely_reported: 1 })
    expect(totals({ ...run, trials, operations: run.operations.slice(0, 2) })).toEqual({ ...NONE, falsely_reported: 1 })
  })

  it('is an issue, a renewal or a child that began after the end of its task was acknowledged, or of one above it', () => {
    const run = quiet()
    const late = (kind: Operation['kind'], task: string, at: number) => {
      const answer = { lease: { id: LEASE, state: 'active', expiresAt: AT + 300_000 } }
      const request = run.operations[1]?.request
      const operations = [...run.operations, operation(kind, at, { status: 200, about: { task, lease: LEASE }, answer, request })]
      const tasks = { ...run.ledger.tasks, [CHILD]: { state: 'completed', ancestors: [TASK], opener: '' } }
      const events = [...run.events, told('task.opened', 2, { task: CHILD }), told('task.ended', 10, { task: CHILD })]
      return totals({ ...run, operations, events, ledger: { ...run.ledger, tasks } }).falsely_reported
    }
    expect([late('obtain', TASK, 11), late('renew', TASK, 11), late('obtain', CHILD, 11)]).toEqual([1, 1, 1])
    // Who began before may have been answered before.
    expect(late('obtain', TASK, 9.5)).toBe(0)
  })

  it('is a task told as active, or a lease, after its end was acknowledged', () => {
    const run = quiet()
    const beat = operation('heartbeat', 11, { about: { task: TASK }, answer: { state: 'active' } })
    expect(totals({ ...run, operations: [...run.operations, beat] })).toEqual({ ...NONE, falsely_reported: 1 })
    const over = { ...beat, answer: { state: 'completed' } }
    expect(totals({ ...run, operations: [...run.operations, over] })).toEqual(NONE)
  })

  it('is an issue that began while a freeze of it held', () => {
    const run = frozen()
    const thaw = operation('thaw', 8, { about: { freeze: FREEZE } })
    const obtained = (seconds: number, agent: string) => {
      const first = run.operations[1]
      const one = operation('obtain', seconds, {
        status: 201,
        about: { agent, task: TASK, role: 'cache-read' },
        answer: first?.answer,
        request: first?.request,
      })
      return totals({ ...run, operations: [...run.operations, thaw, one] }).falsely_reported
    }
    expect([obtained(6, 'worker-1'), obtained(6, 'worker-2'), obtained(8.5, 'worker-1')]).toEqual([1, 0, 0])
  })

  it('is an issue that the ledger itself has after the end', () => {
    const run = quiet()
    const late = told('lease.issued', 12, { task: TASK, lease: LEASE })
    const ledger = { ...run.ledger, outbox: [{ added: run.events.length + 1, left: 0 }] }
    expect(totals({ ...run, ledger, events: [...run.events, late] })).toEqual({ ...NONE, falsely_reported: 1 })
  })
})

describe('a broker that ended by itself', () => {
  it('is a violation, of no total', () => {
    const { totals, violations } = check({ ...quiet(), crashes: ['broker 1 ended by itself'] })
    expect(totals).toEqual(NONE)
    expect(violations).toHaveLength(1)
  })
})
