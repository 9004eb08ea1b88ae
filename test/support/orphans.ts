import { randomBytes } from 'node:crypto'
import type { TestPostgres } from './postgres.js'
import type { TestRedis } from './redis.js'

/** Credentials that nothing tells of, as a crash, a lost ledger or a person leaves them. */

const ALPHABET = 'abcdefghijklmnopqrstuvwxyz234567'
/** The part of a lease id that names carry; nobody has reserved it. */
export function someLease(partition = '17'): string {
  return partition + [...randomBytes(26)].map((byte) => ALPHABET[byte % 32]).join('')
}

/** A login as a broker of this instance would have made it. */
export async function plantLogin(postgres: TestPostgres, lease: string, instance = 'test'): Promise<string> {
  const name = `mf-${instance}-${lease}`
  await postgres.query(`create role "${name}" login in role reporting_ro; grant "${name}" to mayfly_broker with admin option`)
  return name
}

/** Makes every sight an old one: as if the ledger had known nothing of it for an hour. */
export async function agedSights({ client }: TestRedis): Promise<void> {
  const older = "for _, one in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZINCRBY', KEYS[1], -3600000, one) end"
  for (const key of await client.keys('mf:*:sighted:*')) await client.eval(older, 1, key)
}
