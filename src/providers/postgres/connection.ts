import type { Pool, PoolClient, QueryResult } from 'pg'
import { type Deadline, within } from '../deadline.js'
import { ProviderError } from '../provider.js'

/**
 * A connection that breaks is replaced by the next use, and whoever waits on it is told by the answer to its statement. The driver emits the same as an
 * event besides, of the pool's while it is idle and of the connection's own while it is in use: without a listener that would end the process.
 */
export function surviveBreaks<P extends Pool>(pool: P): P {
  pool.on('error', () => undefined)
  pool.on('connect', (client) => client.on('error', () => undefined))
  return pool
}

/**
 * Runs statements on one of the pool's connections inside the deadline; `statements` gets the milliseconds left once there is a connection.
 * Several statements in one text are one transaction.
 */
export async function run(pool: Pool, time: Deadline, statements: (leftMs: number) => string): Promise<QueryResult[]> {
  let client: PoolClient | undefined
  let broken = true
  try {
    client = await within(
      time,
      () => pool.connect(),
      (late) => late.release(),
    )
    const connected = client
    const answer: QueryResult | QueryResult[] = await within(time, () => connected.query(statements(time.left())))
    broken = false
    return [answer].flat()
  } catch (error) {
    // The server refused and is ready for the next statement; after anything else the connection is in an unknown state.
    broken = !(isDatabaseError(error) && !FATAL.has(error.severity ?? 'FATAL'))
    throw asProviderError(error)
  } finally {
    client?.release(broken)
  }
}

/** SQLSTATE of a mint that arrived after its end; a class that PostgreSQL leaves free. */
export const LATE = 'MFLTE'
/** SQLSTATE of a group role that is more than a group of privileges on data. */
export const POWERFUL = 'MFPWR'
/** SQLSTATE of a session that slipped in while its role was being dropped: the next attempt takes it. */
export const SLIPPED_IN = 'MFSLP'
/** SQLSTATE of transactions that the role prepared and that are in the way. */
export const PREPARED = 'MFPRP'
export const DEPENDENT_OBJECTS = '2BP01'
/** What two that change the same role do to each other: the row is another by then, there twice, or gone. */
export const TRIPPED: ReadonlySet<string | undefined> = new Set(['XX000', '23505', '40P01', '42704'])
const FATAL = new Set(['FATAL', 'PANIC'])

type Kind = ProviderError['kind']
/** https://www.postgresql.org/docs/current/errcodes-appendix.html */
const BY_STATE: Readonly<Record<string, readonly [Kind, string]>> = {
  [LATE]: ['timeout', 'the mint arrived at the database after its deadline and made nothing'],
  [POWERFUL]: [
    'refused',
    'a group role of this role, or one above it, is more than a group of privileges (see "allow" in docs/providers/postgres.md)',
  ],
  [SLIPPED_IN]: ['broken', 'a session slipped in while its role was being dropped; try again'],
  [PREPARED]: ['broken', 'a transaction that the role prepared is in the way; try again'],
  [DEPENDENT_OBJECTS]: ['refused', 'the role still owns something that could not be reassigned'],
  '57014': ['timeout', 'the database did not finish in time'],
  '55P03': ['timeout', 'the database did not get a lock in time'],
  '42501': ['refused', "the broker's database role lacks a privilege: it needs CREATEROLE and the admin option on each group role"],
  '42704': ['invalid', 'a role that is named does not exist in the database'],
  '23505': ['invalid', 'a role of this name exists already'],
  '42710': ['invalid', 'a role of this name exists already'],
  '3D000': ['refused', 'the database named in the url does not exist'],
  '57P03': ['unreachable', 'the database is starting up or shutting down'],
}
const BY_CLASS: Readonly<Record<string, readonly [Kind, string]>> = {
  '08': ['unreachable', 'the connection to the database broke'],
  '28': ['refused', "the database refused the broker's own login: check the url's user and password, and pg_hba.conf"],
  '53': ['throttled', 'the database is out of connections, memory or disk'],
  '57': ['unreachable', 'the database ended the connection'],
}

interface DatabaseError extends Error {
  readonly code: string
  readonly severity?: string
}

export function isDatabaseError(error: unknown): error is DatabaseError {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && /^[0-9A-Z]{5}$/.test(error.code) && 'severity' in error
}

/** SQLSTATE behind a ProviderError that `run` threw. */
export function stateOf(error: unknown): string | undefined {
  return error instanceof ProviderError && isDatabaseError(error.cause) ? error.cause.code : undefined
}

function asProviderError(cause: unknown): ProviderError {
  if (cause instanceof ProviderError) return cause
  if (isDatabaseError(cause)) {
    const [kind, message] = BY_STATE[cause.code] ??
      BY_CLASS[cause.code.slice(0, 2)] ?? ['broken', `the database answered with SQLSTATE ${cause.code}`]
    return new ProviderError(kind, message, { cause })
  }
  // What is left are the socket's and the driver's own: refused, reset, unknown host, TLS, half an answer.
  return new ProviderError('unreachable', 'the database could not be reached, or did not answer as PostgreSQL does', { cause })
}
