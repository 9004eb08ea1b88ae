import type { TestRedis } from '../support/redis.js'

/** The ledger as it lies in Redis (docs/storage.md), read without any broker: what brokers say of themselves proves nothing here. */
export interface Found {
  readonly id: string
  /** Letter of its state: `p`ending, `a`ctive, `c`losing, `r`evoked, `e`xpired. */
  readonly state: string
  readonly agent: string
}

const PAGE = 1000

export async function leasesIn({ client }: TestRedis): Promise<Found[]> {
  const found: Found[] = []
  for (let cursor = '0'; ; ) {
    const [next, keys] = await client.scan(cursor, 'MATCH', 'mf:{p*}:lease:*', 'COUNT', PAGE)
    const records = await Promise.all(keys.map((key) => client.hmget(key, 's', 'a')))
    for (const [n, [state, agent]] of records.entries()) found.push({ id: keys[n]?.split(':').at(-1) ?? '', state: state ?? '', agent: agent ?? '' })
    cursor = next
    // A key may be answered twice while the table grows.
    if (cursor === '0') return [...new Map(found.map((one) => [one.id, one])).values()]
  }
}

/** Those alone that are not settled: they are due at some time. */
export async function unsettledIn({ client }: TestRedis): Promise<Found[]> {
  const queues = await client.keys('mf:{p*}:due:*')
  const found = await Promise.all(
    queues
      .filter((queue) => !queue.endsWith(':due:tasks'))
      .map(async (queue) => {
        const base = queue.slice(0, queue.indexOf('}:') + 2)
        const ids = await client.zrange(queue, '0', '-1')
        return Promise.all(
          ids.map(async (id) => {
            const [state, agent] = await client.hmget(`${base}lease:${id}`, 's', 'a')
            return { id, state: state ?? '', agent: agent ?? '' }
          }),
        )
      }),
  )
  return found.flat()
}
