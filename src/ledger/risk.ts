import { LRUCache } from 'lru-cache'
import { type AgentRisk, type Lease, RISK_SIGNALS, type RiskFloor, type RiskSignal } from '../types.js'
import { gather, type Row } from './gather.js'
import { hashed, keys, partitionFor, partitionOfKey } from './keys.js'
import type { CountedAct, Ledger, RiskRules } from './ledger.js'
import { agentKey } from './places.js'
import { flag, leaseOf } from './records.js'
import { fieldsOf, listOf, numberOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import { partitionOfLease, type Store } from './store.js'

/** How agents behave, each counted at a partition of its own, by whatever replica. */

const countScript = defineScript(
  'count-risk',
  'events',
  [
    ...['half_life', 'rate_limit', 'rate_window', 'rate_points', 'rate_most', 'loop_limit', 'loop_window', 'loop_points', 'loop_most'],
    ...['refused_points', 'refused_most', 'novelty_points', 'novelty_most', 'learn', 'memory', 'drift_points', 'drift_most', 'outbox_limit'],
  ],
  { rest: 'acts' },
)
const readScript = defineScript('read-risk', 'agent-risk', ['half_life'])
const setScript = defineScript('set-risk', 'agent-risk', ['reset', 'floor', 'until_at', 'expected', 'reason', 'by', 'memory', 'half_life', 'event'])

/** Names from outside are kept hashed; of what one act names, the first so many. */
const MOST_NAMES = 4
const NAME_LENGTH = 12
const MOST_REMEMBERED = 10_000
const LONGEST_REMEMBERED = 256

type RiskCalls = Pick<Ledger, 'countRisk' | 'risk' | 'setRisk' | 'leasesOfAgent'>

export function riskCalls(store: Store): RiskCalls {
  const { partitions } = store.options
  const counts = gather((partition, rules: RiskRules, rows) => count(store, partition, rules, rows))
  const placeOf = remembered((agent) => {
    const hash = hashed(agent)
    return { hash, partition: partitionFor(hash, partitions) }
  })
  const keyOf = (agent: string) => {
    const { hash, partition } = placeOf(agent)
    return keys.agentRisk(partition, hash)
  }

  return {
    countRisk: async (agent, act, rules, event) => {
      const { hash, partition } = placeOf(agent)
      const row = [hash, ...rowOf(act), JSON.stringify(event), ...namesOf(act)]
      const [before, risk, read, write, escalate, why] = listOf(await counts.add(partition, rules, row))
      const recent = { read: numberOf(read), write: numberOf(write), escalate: numberOf(escalate) }
      return { before: numberOf(before), risk: numberOf(risk), recent, raised: signalsIn(textOf(why)) }
    },

    risk: async (agent, { halfLifeMs }) => {
      const [risk, read, write, escalate, more] = listOf(await store.run(readScript, keyOf(agent), { half_life: halfLifeMs }))
      const recent = { read: numberOf(read), write: numberOf(write), escalate: numberOf(escalate) }
      return { risk: numberOf(risk), recent, ...detailOf(more, store.clock.now()) }
    },

    setRisk: async (agent, { floor, expected, reset = false, reason, by }, { halfLifeMs, novelty }, event) => {
      const args = {
        reset: reset ? 1 : 0,
        floor: floor?.value ?? '',
        until_at: floor?.until ?? 0,
        expected: `${expected?.value ?? 0} ${expected?.until ?? 0}`,
        reason,
        by,
        memory: novelty.memoryMs,
        half_life: halfLifeMs,
        event: JSON.stringify(event),
      }
      const [word, before, risk] = listOf(await store.run(setScript, keyOf(agent), args))
      return word === 'ok' ? { ok: true, before: numberOf(before), risk: numberOf(risk) } : { ok: false, refused: 'stale' }
    },

    leasesOfAgent: async (agent) => {
      const key = agentKey(agent, partitions)
      const ids = await store.ask(partitionOfKey(key), (redis) => redis.zrangebyscore(key, store.clock.now(), '+inf'))
      const found = await Promise.all(ids.map((id) => liveLease(store, id)))
      return found.filter((lease) => lease !== undefined)
    },
  }
}

/** Names come again and again. Longer ones, as a caller may make them up, are not kept. */
function remembered<T extends object | string>(make: (name: string) => T): (name: string) => T {
  const known = new LRUCache<string, T>({ max: MOST_REMEMBERED })
  return (name) => {
    const there = known.get(name)
    if (there !== undefined) return there
    const made = make(name)
    if (name.length <= LONGEST_REMEMBERED) known.set(name, made)
    return made
  }
}
const shortened = remembered((name) => hashed(name).slice(0, NAME_LENGTH))

function rowOf({ digest, times = 1, granted = false, refused = 0, offScript = false, obtained }: CountedAct): Row {
  return [hashed(digest).slice(0, NAME_LENGTH), times, flag(granted), refused, flag(offScript), obtained ?? '']
}

function namesOf({ names }: CountedAct): Row {
  const kept = names.slice(0, MOST_NAMES).map(shortened)
  return [kept.length, ...kept]
}

async function count(store: Store, partition: number, rules: RiskRules, rows: readonly Row[]): Promise<readonly unknown[]> {
  const { halfLifeMs, rate, loop, novelty } = rules
  const args = {
    half_life: halfLifeMs,
    rate_limit: rate.limit,
    rate_window: rate.windowMs,
    rate_points: rate.points,
    rate_most: rate.most,
    loop_limit: loop.limit,
    loop_window: loop.windowMs,
    loop_points: loop.points,
    loop_most: loop.most,
    refused_points: rules.refused.points,
    refused_most: rules.refused.most,
    novelty_points: novelty.points,
    novelty_most: novelty.most,
    learn: novelty.learnMs,
    memory: novelty.memoryMs,
    drift_points: rules.drift.points,
    drift_most: rules.drift.most,
    outbox_limit: store.outboxLimit,
  }
  return listOf(await store.run(countScript, keys.events(partition), args, rows.flat()))
}

async function liveLease(store: Store, id: string): Promise<Lease | undefined> {
  const partition = partitionOfLease(store, id)
  const fields = partition === undefined ? {} : await store.ask(partition, (redis) => redis.hgetall(keys.lease(partition, id)))
  return fields.s === 'p' || fields.s === 'a' ? leaseOf(id, fields) : undefined
}

function detailOf(reply: unknown, now: number): Pick<AgentRisk, 'value' | 'signals' | 'floor' | 'since' | 'driftedAt'> {
  const none = Object.fromEntries(RISK_SIGNALS.map((signal) => [signal, 0])) as Record<RiskSignal, number>
  if (!reply) return { value: 0, signals: none }
  const [value, flat, points] = listOf(reply)
  const fields = fieldsOf(flat)
  const told = listOf(points)
  const signals = Object.fromEntries(RISK_SIGNALS.map((signal, index) => [signal, numberOf(told[index])])) as Record<RiskSignal, number>
  const time = (name: string) => (fields[name] === undefined ? undefined : Number(fields[name]))
  return { value: numberOf(value), signals, floor: floorOf(fields, now), since: time('si'), driftedAt: time('dr') }
}

function floorOf({ fl, fr = '', fb = '', ft, fu }: Record<string, string>, now: number): RiskFloor | undefined {
  if (fl === undefined || (fu !== undefined && Number(fu) <= now)) return undefined
  return { value: Number(fl), reason: fr, by: fb, at: Number(ft), until: fu === undefined ? undefined : Number(fu) }
}

function signalsIn(text: string): RiskSignal[] {
  return RISK_SIGNALS.filter((signal) => text.split(',').includes(signal))
}
