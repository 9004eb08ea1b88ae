import { setTimeout as pause } from 'node:timers/promises'
import { type Answer, taskRequest } from '../support/broker.js'
import { oneOf, type Random } from '../support/random.js'
import type { InFlight, Slot } from './slot.js'
import { ROLE, type World } from './world.js'

/** What the workload has seen. */
export interface Seen {
  /** URLs of the credentials that it was given. */
  readonly credentials: Set<string>
  tasks: number
  /** Answers that are neither success nor "come again". */
  readonly unexpected: string[]
}
export interface Workload {
  readonly seen: Seen
  /** Every life goes on to its end: each task is ended, and was acknowledged as such. */
  finish(): Promise<void>
}

const LIVES = 6
const AGAIN_MS = 20
/** Between two lives, at most: what is measured is kills, not throughput, and brokers that start need the processor more. */
const REST_MS = 200
const WAIT_SECONDS = 5

/** Lives of tasks, one after the other on each of several lines: opened, credentials obtained, some returned, ended. */
export function startWorkload(world: World, slots: readonly [Slot, ...Slot[]], random: Random): Workload {
  const seen: Seen = { credentials: new Set(), tasks: 0, unexpected: [] }
  let finishing = false
  const flows = () => world.prepared.token('flows')

  /** As a client does: asks one broker after the other until one answers. */
  async function persist(ask: (slot: Slot) => Promise<Answer>): Promise<Answer> {
    for (;;) {
      const slot = oneOf(random, slots)
      const answer = slot.broker() ? await ask(slot).catch(() => undefined) : undefined
      if (answer && answer.status < 500) {
        if (answer.status >= 400) seen.unexpected.push(JSON.stringify(answer.body))
        return answer
      }
      await pause(AGAIN_MS)
    }
  }

  async function open(): Promise<string> {
    const body = {
      ...taskRequest(),
      external_id: `life-${++seen.tasks}`,
      assignees: slots.map(({ agent }) => ({ agent })),
      envelope: [{ role: ROLE }],
      // It outlives the whole run by far: only its end takes its credentials.
      deadline_at: new Date(Date.now() + 7_200_000).toISOString(),
    }
    const { body: answer } = await persist(async (slot) => slot.call({ kind: 'open', leases: [] }, 'POST', '/v1/tasks', await flows(), body))
    return answer.task.id
  }

  /** Once, or with an Idempotency-Key until it is answered: what was minted for an answer that never came is then the next one's to replace. */
  async function obtain(task: string): Promise<{ id: string; agent: string } | undefined> {
    const persistent = random() < 0.5
    const headers = persistent ? { 'idempotency-key': crypto.randomUUID() } : undefined
    const about: InFlight = { kind: 'mint', leases: [] }
    const ask = async (slot: Slot) => {
      const token = await world.prepared.token(slot.agent)
      return slot.call(about, 'POST', '/v1/leases', token, { task, role: ROLE, ttl: 900 }, headers)
    }
    const answer = persistent ? await persist(ask) : await ask(oneOf(random, slots)).catch(() => undefined)
    if (answer?.status !== 201) return undefined
    seen.credentials.add(answer.body.credential.url)
    return { id: answer.body.lease.id, agent: answer.body.lease.agent }
  }

  async function life(): Promise<void> {
    const task = await open()
    const held: { id: string; agent: string }[] = []
    for (let n = 1 + Math.floor(random() * 3); n > 0; n--) {
      const lease = await obtain(task)
      if (lease) held.push(lease)
    }
    const returned = random() < 0.5 ? held.shift() : undefined
    if (returned) {
      const about: InFlight = { kind: 'revoke', leases: [returned.id] }
      const token = () => world.prepared.token(returned.agent)
      await persist(async (slot) => slot.call(about, 'DELETE', `/v1/leases/${returned.id}?wait=${WAIT_SECONDS}`, await token()))
    }
    const how = oneOf(random, ['complete', 'fail', 'cancel'])
    const about: InFlight = { kind: 'revoke', leases: held.map(({ id }) => id) }
    await persist(async (slot) => slot.call(about, 'POST', `/v1/tasks/${task}/${how}?wait=${WAIT_SECONDS}`, await flows(), {}))
  }

  const lines = Promise.all(
    Array.from({ length: LIVES }, async () => {
      while (!finishing) {
        await life()
        await pause(random() * REST_MS)
      }
    }),
  )
  return {
    seen,
    async finish() {
      finishing = true
      await lines
    },
  }
}
