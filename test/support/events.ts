import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Redis } from 'ioredis'
import type { TestBroker } from './broker.js'

// biome-ignore lint/suspicious/noExplicitAny: tests read events as any auditor would
export type Told = any

/** Every event that the broker told so far: what the audit sink wrote, and refusals of callers without a valid token. */
export async function eventsOf({ broker, folder }: TestBroker, redis: Redis): Promise<Told[]> {
  await broker.audit()?.flush()
  const lines = await readFile(join(folder, 'audit/events.jsonl'), 'utf8').catch(() => '')
  const refused = await Promise.all((await redis.keys('mf:*:refused')).map((key) => redis.xrange(key, '-', '+')))
  const unknown = refused.flat().map(([, fields]) => JSON.parse(fields[fields.indexOf('event') + 1] ?? '{}'))
  const known = lines.split('\n').filter((line) => line !== '')
  // The sink writes at least once: a line written again has the same place in the stream.
  const once = new Map(known.map((line) => JSON.parse(line)).map((event) => [`${event.partition} ${event.stream_id}`, event]))
  return [...once.values(), ...unknown]
}

/** The event that a problem's `instance` points at. */
export async function eventOf(test: TestBroker, redis: Redis, problem: { instance?: string }): Promise<Told> {
  const id = problem.instance?.replace(/^urn:uuid:/, '')
  return (await eventsOf(test, redis)).find((event) => event.id === id)
}
