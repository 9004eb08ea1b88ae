import { newId } from '../../src/ledger/keys.js'
import type { Fleet } from '../fleet.js'
import type { Probed } from '../probe.js'
import { startProbing } from '../probing.js'
import { round } from '../support.js'

const MOST_STOPS = 1_000
const STOP_EVERY_MS = 400

export interface Stopped {
  readonly id: string
  /** From the request to its answer: until then the freeze holds. */
  readonly freeze_ms: number
  /** `performance.now()` when it was asked for. */
  readonly askedAt: number
}
export interface FreezeTimes {
  readonly median: number
  readonly p99: number
  readonly most: number
  readonly stops: number
}

/** `POST /v1/emergency/revoke`, as an operator sends it. */
export async function stop(fleet: Fleet, selector: object, more: { freeze?: boolean } = {}): Promise<Stopped> {
  const headers = { authorization: `Bearer ${await fleet.token('oncall')}`, 'content-type': 'application/json' }
  const askedAt = performance.now()
  const body = JSON.stringify({ selector, reason: 'bench', ...more })
  const answer = await fetch(`http://127.0.0.1:${fleet.port}/v1/emergency/revoke`, { method: 'POST', headers, body })
  const freeze_ms = performance.now() - askedAt
  if (answer.status !== 202) throw new Error(`no stop: ${answer.status} ${await answer.text()}`)
  const { revocation } = (await answer.json()) as { revocation: { id: string } }
  return { id: revocation.id, freeze_ms, askedAt }
}

/**
 * Stops of tasks that are not there, one after the other, from elsewhere: what an operator waits for while other things go on. Those of an agent would each look
 * through all that lives, and be what is measured.
 */
export async function startStops(
  fleet: Fleet,
): Promise<{ begin(): Promise<void>; end(): Promise<FreezeTimes>; all(count: number): Promise<FreezeTimes> }> {
  const probing = await startProbing(fleet.port, STOP_EVERY_MS)
  const begin = async (count: number) => {
    const token = await fleet.token('oncall')
    const calls = Array.from({ length: count }, () => ({
      path: '/v1/emergency/revoke',
      token,
      body: { selector: { task: [newId('task', 0)] }, reason: 'bench' },
      expected: 202,
    }))
    probing.call(calls)
  }
  const timesOf = ([probed]: readonly Probed[]): FreezeTimes => {
    if (!probed || probed.failed > 0) throw new Error(`stops failed: ${JSON.stringify(probed)}`)
    return { median: probed.p50_ms, p99: probed.p99_ms, most: probed.most_ms, stops: probed.calls }
  }
  return {
    begin: () => begin(MOST_STOPS),
    end: async () => timesOf(await probing.stop()),
    all: async (count) => {
      await begin(count)
      return timesOf(await probing.done())
    },
  }
}

export async function stopOthers(fleet: Fleet, count: number): Promise<FreezeTimes> {
  return (await startStops(fleet)).all(count)
}

/** Waits until so many are confirmed revoked. @returns seconds since the stop was asked for */
export async function allRevoked(fleet: Fleet, { id, askedAt }: Stopped, expected: number, everyMs = 100): Promise<number> {
  const headers = { authorization: `Bearer ${await fleet.token('oncall')}` }
  for (;;) {
    const answer = await fetch(`http://127.0.0.1:${fleet.port}/v1/emergency/revocations/${id}`, { headers })
    const seconds = (performance.now() - askedAt) / 1000
    if (answer.status !== 200) throw new Error(`how far it is cannot be told: ${answer.status} ${await answer.text()}`)
    const { revocation } = (await answer.json()) as { revocation: { matched: number; revoked: number; state: string } }
    if (revocation.revoked >= expected) return round(seconds, 3)
    if (revocation.state === 'finished' || seconds > 600) throw new Error(`not all was revoked: ${JSON.stringify(revocation)}`)
    await new Promise((resolve) => setTimeout(resolve, everyMs))
  }
}
