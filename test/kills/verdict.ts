import pg from 'pg'
import { waitFor } from '../support/wait.js'
import { leasesIn } from './ledger.js'
import { INSTANCE, type World } from './world.js'

export interface Verdict {
  /** Roles of this instance that PostgreSQL still has. */
  readonly orphans: number
  /** Leases that are neither revoked nor expired. */
  readonly unsettled: number
  /** Credentials that were handed out and that PostgreSQL still accepts. */
  readonly live: number
  /** All leases that were ever written down. */
  readonly leases: number
}

/** A claim of a broker that was killed is another's after the visibility timeout of 30 s. */
const SETTLED_WITHIN_MS = 180_000
const AT_ONCE = 8
const SETTLED = new Set(['r', 'e'])

const rolesOf = ({ postgres }: World) => postgres.query('SELECT rolname FROM pg_roles WHERE starts_with(rolname, $1)', [`mf-${INSTANCE}-`])
const unsettledOf = async ({ redis }: World) => (await leasesIn(redis)).filter(({ state }) => !SETTLED.has(state))

/** Time to settle: until nothing is left to do, or it has taken far too long. */
export async function settle(world: World): Promise<void> {
  const nothingLeft = async () => (await unsettledOf(world)).length === 0 && (await rolesOf(world)).length === 0
  await waitFor('everything to be settled', nothingLeft, SETTLED_WITHIN_MS).catch(() => undefined)
}

/** Looked at where it is: in PostgreSQL's own catalogue, in Redis itself, and by trying each credential. */
export async function judge(world: World, credentials: Iterable<string>): Promise<Verdict> {
  const [leases, unsettled, orphans] = [await leasesIn(world.redis), await unsettledOf(world), await rolesOf(world)]
  let live = 0
  const left = [...credentials]
  const tryOut = async () => {
    for (let url = left.pop(); url !== undefined; url = left.pop()) if (await isAccepted(url)) live++
  }
  await Promise.all(Array.from({ length: AT_ONCE }, tryOut))
  return { orphans: orphans.length, unsettled: unsettled.length, live, leases: leases.length }
}

/** @throws when PostgreSQL says neither yes nor no */
async function isAccepted(connectionString: string): Promise<boolean> {
  const client = new pg.Client({ connectionString })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return true
  } catch (error) {
    // https://www.postgresql.org/docs/current/errcodes-appendix.html class 28: invalid authorization.
    if (error instanceof Error && 'code' in error && String(error.code).startsWith('28')) return false
    throw error
  } finally {
    await client.end().catch(() => undefined)
  }
}

/** One of each that a verdict counts, as if a broker had lost them: a verdict that does not find them is worth nothing. */
export async function plant(world: World, credentials: Set<string>): Promise<void> {
  const role = `mf-${INSTANCE}-planted`
  await world.postgres.query(`CREATE ROLE "${role}" LOGIN PASSWORD 'planted'`)
  credentials.add(world.postgres.urlFor(role, 'planted'))
  await world.redis.client.hset('mf:{p00}:lease:lease_00planted', 's', 'c', 'a', 'planted')
}
