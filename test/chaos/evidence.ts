import { readFile } from 'node:fs/promises'
import type { Redis } from 'ioredis'
import type { Operation, Trial } from './history.js'
import type { Credential } from './holdings.js'
import { INSTANCE, PARTITIONS, PROVIDER_OF } from './installation.js'
import type { Stage } from './stage.js'

/** All that there is to judge a run by, once it is over. Holds no secret. */
export interface Evidence {
  readonly operations: readonly Operation[]
  readonly trials: readonly Trial[]
  readonly held: readonly Omit<Credential, 'env'>[]
  readonly ledger: LedgerEvidence
  /** What the sinks have, each event once, in the order of its partition's stream. */
  readonly events: readonly Told[]
  /** Leases whose object is at an upstream. */
  readonly upstream: readonly { readonly provider: string; readonly lease: string }[]
  readonly crashes: readonly string[]
}
export interface Told {
  readonly partition: number
  readonly stream_id: string
  readonly at: string
  readonly id: string
  readonly type: string
  readonly task?: string
  readonly lease?: string
  readonly cause?: string
  readonly request?: { readonly id: string }
  readonly detail?: Readonly<Record<string, unknown>>
}
export interface LedgerEvidence {
  readonly tasks: Readonly<Record<string, { readonly state: string; readonly ancestors: readonly string[]; readonly opener: string }>>
  readonly leases: Readonly<Record<string, LeaseEvidence>>
  /** By partition: freeze -> whether it is in force. */
  readonly freezes: readonly Readonly<Record<string, boolean>>[]
  /** Emergencies -> finished. */
  readonly revocations: Readonly<Record<string, boolean>>
  /** By partition: events ever appended, and those that no sink has confirmed. */
  readonly outbox: readonly { readonly added: number; readonly left: number }[]
}
export interface LeaseEvidence {
  readonly state: 'p' | 'a' | 'c' | 'r' | 'e'
  readonly task: string
  readonly provider: string
  readonly role: string
  readonly revocation: string
  readonly expiresAt: number
  readonly closedAt?: number
  readonly cause?: string
  /** When something is due; absent: never. */
  readonly due?: number
}

/** Read from Redis itself as docs/storage.md has it, not through a broker. */
export async function ledgerEvidence(redis: Redis): Promise<LedgerEvidence> {
  const names: string[] = []
  for await (const page of redis.scanStream({ match: 'mf:{p*}:*', count: 1_000 })) names.push(...page)
  const tasks: Record<string, LedgerEvidence['tasks'][string]> = {}
  const leases: Record<string, LeaseEvidence> = {}
  const revocations: Record<string, boolean> = {}
  await Promise.all(
    names.map(async (name) => {
      const [, partition = '', kind, id = ''] = /^mf:\{p(\d\d)\}:(task|lease|revocation):(\w+)$/.exec(name) ?? []
      if (kind === undefined) return
      const fields = await redis.hgetall(name)
      if (kind === 'task')
        tasks[id] = { state: fields.s ?? '', ancestors: (fields.an ?? '').split(/[\s,]+/).filter(Boolean), opener: `${fields.ok}:${fields.oi}` }
      if (kind === 'revocation') revocations[id] = fields.finished !== undefined
      if (kind !== 'lease') return
      const { s, t = '', pr = '', ro = '', rv = '', xa, cl, ca } = fields
      const queues = ['due', 'urgent'].map((queue) => redis.zscore(`mf:{p${partition}}:${queue}:${pr}`, id))
      const due = (await Promise.all(queues)).find((score) => score !== null)
      leases[id] = {
        state: s as LeaseEvidence['state'],
        ...{ task: t, provider: pr, role: ro, revocation: rv, expiresAt: Number(xa), cause: ca },
        closedAt: cl === undefined ? undefined : Number(cl),
        due: due == null ? undefined : Number(due),
      }
    }),
  )
  const partitions = Array.from({ length: PARTITIONS }, (_, partition) => `mf:{p${String(partition).padStart(2, '0')}}:`)
  const freezes = await Promise.all(
    partitions.map(async (prefix) => {
      const fields = Object.entries(await redis.hgetall(`${prefix}freezes`))
      return Object.fromEntries(fields.flatMap(([name, text]) => (name.startsWith('#') ? [[name.slice(1), text.startsWith('F')] as const] : [])))
    }),
  )
  const outbox = await Promise.all(partitions.map((prefix) => outboxOf(redis, `${prefix}events`)))
  return { tasks, leases, freezes, revocations, outbox }
}

export async function sinkEvidence(stage: Stage): Promise<Told[]> {
  const once = new Map<string, Told>()
  for (const { sink } of stage.brokers) {
    const text = await readFile(sink, 'utf8').catch(() => '')
    for (const line of text.split('\n')) {
      const told = parsed(line)
      if (told) once.set(`${told.partition} ${told.stream_id}`, told)
    }
  }
  return [...once.values()].sort((a, b) => a.partition - b.partition || compareIds(a.stream_id, b.stream_id))
}

/** Asked of the upstreams' own administrators, never of a provider's `list`. */
export async function upstreamEvidence({ cache, postgres }: Stage): Promise<Evidence['upstream']> {
  const prefix = `mf-${INSTANCE}-`
  const roles = await postgres.query('SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1)', [prefix])
  const users = (await cache.client.call('ACL', 'USERS')) as string[]
  const leaseIn = (name: string) => `lease_${name.slice(prefix.length)}`
  return [
    ...roles.map(({ rolname }) => ({ provider: 'warehouse', lease: leaseIn(String(rolname)) })),
    ...users.filter((user) => user.startsWith(prefix)).map((user) => ({ provider: 'cache', lease: leaseIn(user) })),
  ]
}

export function heldEvidence(credentials: readonly Credential[]): Evidence['held'] {
  return credentials.map(({ env: _secret, ...held }) => ({ ...held, provider: PROVIDER_OF[held.role] as Credential['provider'] }))
}

async function outboxOf(redis: Redis, key: string): Promise<{ added: number; left: number }> {
  if ((await redis.exists(key)) === 0) return { added: 0, left: 0 }
  const about = (await redis.call('XINFO', 'STREAM', key)) as unknown[]
  const field = (name: string) => Number(about[about.indexOf(name) + 1])
  return { added: field('entries-added'), left: field('length') }
}

/** A line that a killed broker left half written is none: it is written again. */
function parsed(line: string): Told | undefined {
  try {
    return line === '' ? undefined : (JSON.parse(line) as Told)
  } catch {
    return undefined
  }
}

function compareIds(a: string, b: string): number {
  const [aMs = 0, aCount = 0] = a.split('-').map(Number)
  const [bMs = 0, bCount = 0] = b.split('-').map(Number)
  return aMs - bMs || aCount - bCount
}
