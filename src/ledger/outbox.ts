import type { Cause, Event, EventType } from '../types.js'
import { keys, partitionFor } from './keys.js'
import type { Ledger, OutboxEntry } from './ledger.js'
import { listOf, numberOf } from './reply.js'
import { defineScript } from './script.js'
import { ofReachable, partitionOfLease, partitionOfTask, partitionsOf, type Store } from './store.js'

const recordScript = defineScript('record', 'events', ['type', 'event', 'outbox_limit'])
const holdScript = defineScript('hold-outbox', 'audit', ['reader', 'ttl_ms'])
const confirmScript = defineScript('confirm-outbox', 'audit', ['reader', 'id', 'next', 'known'])

/** Refusals kept per partition; older ones go. */
const MOST_REFUSED = 1_000
const COALESCE_MS = 1_000

export interface EventCalls extends Pick<Ledger, 'record' | 'refuse' | 'outbox'> {
  stop(): void
}

export function eventCalls(store: Store): EventCalls {
  /** State: how often each code was refused since its last entry. */
  const waiting = new Map<string, { event: Event; more: number; timer: NodeJS.Timeout }>()

  const appendRefused = async (event: Event, times: number): Promise<void> => {
    const partition = partitionFor(event.id, store.options.partitions)
    const key = keys.refused(partition)
    const told = times > 1 ? { ...event, detail: { ...event.detail, times } } : event
    await store
      .ask(partition, (redis) => redis.xadd(key, 'MAXLEN', '~', MOST_REFUSED, '*', 'type', event.type, 'event', JSON.stringify(told)))
      .catch(() => undefined)
  }

  return {
    record: async (event) => {
      const args = { type: event.type, event: JSON.stringify(event), outbox_limit: store.outboxLimit }
      const told = numberOf(await store.run(recordScript, keys.events(homeOf(store, event)), args))
      return told === 1 ? { ok: true } : { ok: false, refused: 'outbox_full' }
    },

    refuse: async (event) => {
      const code = event.code ?? event.type
      const held = waiting.get(code)
      if (held) {
        held.more++
        held.event = event
        return
      }
      const timer = setTimeout(() => {
        const last = waiting.get(code)
        waiting.delete(code)
        if (last && last.more > 0) void appendRefused(last.event, last.more)
      }, COALESCE_MS).unref()
      waiting.set(code, { event, more: 0, timer })
      await appendRefused(event, 1)
    },

    outbox: {
      hold: async (reader, ttlMs) => {
        const { answers } = await ofReachable(store, (partition) => store.run(holdScript, keys.audit(partition), { reader, ttl_ms: ttlMs }))
        return [...answers].flatMap(([partition, answer]) => (numberOf(answer) === 1 ? [partition] : []))
      },
      read: async (partition, count) => {
        const entries = await store.ask(partition, (redis) => redis.xrange(keys.events(partition), '-', '+', 'COUNT', count))
        // A log must not hold what a failover takes back: the ledger would stand behind it.
        if (entries.length > 0 && store.replication && !(await store.replication.isKept(partition))) return []
        return entries.map((entry) => entryOf(partition, entry))
      },
      confirm: async (partition, reader, streamId) => {
        const [ms = '0', count = '0'] = streamId.split('-')
        const args = { reader, id: streamId, next: `${ms}-${Number(count) + 1}`, known: store.witness.mark(partition) }
        const [held, mark] = listOf(await store.run(confirmScript, keys.audit(partition), args))
        store.witness.marked(partition, numberOf(mark))
        return numberOf(held) === 1
      },
      length: async () => {
        const lengths = await Promise.all(partitionsOf(store).map((partition) => store.ask(partition, (redis) => redis.xlen(keys.events(partition)))))
        return lengths.reduce((total, length) => total + length, 0)
      },
    },

    stop: () => {
      for (const { timer } of waiting.values()) clearTimeout(timer)
    },
  }
}

/** With what it tells of, where that has a partition. */
function homeOf(store: Store, event: Event): number {
  const ofTask = event.task === undefined ? undefined : partitionOfTask(store, event.task)
  const ofLease = event.lease === undefined ? undefined : partitionOfLease(store, event.lease)
  return ofTask ?? ofLease ?? partitionFor(event.id, store.options.partitions)
}

/** An entry as it is in the stream. Reading thousands a second is a cost that most of them need not have: sinks only copy the text. */
function entryOf(partition: number, entry: unknown): OutboxEntry {
  const [streamId, list] = listOf(entry) as [string, string[]]
  const at = Number(streamId.split('-')[0])
  const text = completeText(list)
  if (text !== undefined) {
    return {
      partition,
      streamId,
      json: text,
      get event() {
        return { ...(JSON.parse(text) as Event), at }
      },
    }
  }
  const event = completed(list)
  return { partition, streamId, json: JSON.stringify(event), event: { ...event, at } }
}

/** Where an event of `event.ts` says its type: behind its UUID. */
const TYPE_AT = '{"id":"00000000-0000-0000-0000-000000000000",'.length

/** The text of an event to which the script added nothing, the expiry or the cause that it had: by far the most common ones. Undefined for any other. */
function completeText(list: readonly string[]): string | undefined {
  const [type, typeIs, event, json = '', added, value] = list
  if (type !== 'type' || event !== 'event' || !json.startsWith(`"type":"${typeIs}"`, TYPE_AT)) return undefined
  if (list.length === 4) return json
  if (list.length !== 6) return closingText(list)
  if (added === 'cause') return json.endsWith(`,"cause":"${value}"}`) ? json : undefined
  if (added !== 'expires') return undefined
  const expiry = `"expires_at":${Number(value)}`
  if (!json.includes('"detail":')) return `${json.slice(0, -1)},"detail":{${expiry}}}`
  // `event.ts` writes the detail last: whatever stands in it, its end is the end of the event.
  if (!json.endsWith('}}') || json.endsWith('{}}') || json.includes('"expires_at":')) return undefined
  return `${json.slice(0, -2)},${expiry}}}`
}

const CLOSING = ['type', 'event', 'sub', 'lease', 'task', 'agent', 'role', 'provider', 'cause']
/** What a broker says of many leases that close at once, without knowing which (`internalEvent`). */
const OF_MANY = /^\{"id":"([\w-]{36})","type":"lease\.closing"\}$/

/** One of many leases that a script closed for a reason of its own: as many as there are leases, when everything is stopped. */
function closingText(list: readonly string[]): string | undefined {
  if (list.length !== CLOSING.length * 2 || CLOSING.some((name, n) => list[2 * n] !== name)) return undefined
  const [, id] = OF_MANY.exec(list[3] ?? '') ?? []
  if (id === undefined) return undefined
  const [, , sub, lease, task, agent, role, provider, cause] = CLOSING.map((_, n) => list[2 * n + 1])
  return JSON.stringify({ id: `${id}:${sub}`, type: 'lease.closing', task, lease, role, provider, cause, detail: { agent } })
}

/** What only the script knew wins over what the broker said before. */
function completed(list: readonly string[]): Event {
  const fields: Record<string, string | undefined> = {}
  for (let i = 0; i < list.length; i += 2) fields[list[i] ?? ''] = list[i + 1]
  const { type, event: json = '{}', sub, task, lease, role, provider, approval, cause, code, ...small } = fields
  const event = JSON.parse(json) as Event
  const known = Object.fromEntries(Object.entries({ task, lease, role, provider, approval, code }).filter(([, value]) => value !== undefined))
  const { agent, expires, usable, attempts, state, from, to, why } = small
  const facts = {
    ...(agent !== undefined && { agent }),
    ...(state !== undefined && { state }),
    ...(expires !== undefined && { expires_at: Number(expires) }),
    ...(usable !== undefined && { usable_until: Number(usable) }),
    ...(attempts !== undefined && { attempts: Number(attempts) }),
    ...(from !== undefined && { from: Number(from) }),
    ...(to !== undefined && { to: Number(to) }),
    ...(why !== undefined && { why: why === '' ? [] : why.split(',') }),
  }
  const detail = { ...event.detail, ...facts }
  return {
    ...event,
    ...known,
    id: sub === undefined ? event.id : `${event.id}:${sub}`,
    type: (type ?? event.type) as EventType,
    cause: (cause as Cause | undefined) ?? event.cause,
    detail: Object.keys(detail).length > 0 ? detail : undefined,
  }
}
