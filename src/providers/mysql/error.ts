import { z } from 'zod'
import { ProviderError } from '../provider.js'

/** What the server's refusal says when a demand is not met. */
export const BUSY = 'mayfly-busy'
export const LATE = 'mayfly-late'
export const OVERDUE = 'mayfly-overdue'
export const BLIND = 'mayfly-blind'

/** What may be kept of a driver's error, which also holds the statement: its number, or the driver's own code. */
class DatabaseError extends Error {
  constructor(
    readonly number: number | undefined,
    /** Which of the broker's own demands was not met: `demand` in statements.ts. */
    readonly demand: string | undefined,
    code: string,
  ) {
    super(code)
  }
}

/** True when the server refused a mint at a statement after the one that makes the account. */
export function leftAccount(error: unknown): boolean {
  const cause = error instanceof ProviderError ? error.cause : undefined
  return cause instanceof DatabaseError && cause.number !== undefined && cause.number !== EXISTS && cause.demand !== LATE && cause.demand !== BUSY
}

/** True when another mint or revoke had the lock for all the time that was waited. */
export function isBusy(error: unknown): boolean {
  return error instanceof ProviderError && error.cause instanceof DatabaseError && error.cause.demand === BUSY
}

/** True when a session was gone before it could be ended. */
export function isGone(error: unknown): boolean {
  return error instanceof ProviderError && error.cause instanceof DatabaseError && error.cause.number === NO_SUCH_SESSION
}

type Kind = ProviderError['kind']
const DEMANDS: Readonly<Record<string, readonly [Kind, string]>> = {
  [LATE]: ['timeout', 'the mint arrived at the database after its deadline and made nothing'],
  [OVERDUE]: ['timeout', 'the database did not finish the mint before its deadline'],
  [BUSY]: ['timeout', 'another mint or revoke of this lease held its lock for too long'],
  [BLIND]: ['refused', "the broker's database user lacks PROCESS, so it cannot see the sessions that it must end: see docs/providers/mysql.md"],
}

const NO_VALUE = 1231
/** `Operation CREATE USER failed`: nothing else fails so here. */
const EXISTS = 1396
const NO_SUCH_SESSION = 1094
const LACKS = ['refused', "the broker's database user lacks a privilege, or may not grant one: see docs/providers/mysql.md"] as const
const LOGIN = ['refused', "the database refused the broker's own login: check the url's user and password, and the host it may come from"] as const
const FULL = ['throttled', 'the database is out of connections or memory'] as const
const READ_ONLY = ['refused', 'the database is read-only: the url must name the primary'] as const
const POLICY = ['refused', "the database's password policy takes no hashes: see docs/providers/mysql.md"] as const
/** https://mariadb.com/kb/en/mariadb-error-codes/, https://dev.mysql.com/doc/mysql-errors/8.4/en/server-error-reference.html */
const BY_NUMBER: Readonly<Record<number, readonly [Kind, string]>> = {
  ...Object.fromEntries([1044, 1142, 1143, 1227, 1370, 1410].map((number) => [number, LACKS])),
  ...Object.fromEntries([1129, 1130, 1251, 1524, 1698, 3118, 3159].map((number) => [number, LOGIN])),
  ...Object.fromEntries([1037, 1038, 1040, 1041, 1135, 1203, 1226].map((number) => [number, FULL])),
  ...Object.fromEntries([1290, 1792, 1836].map((number) => [number, READ_ONLY])),
  ...Object.fromEntries([1819, 1827].map((number) => [number, POLICY])),
  [NO_VALUE]: ['refused', 'the database does not know a setting of the broker: it is not the one that "server" says'],
  1045: ['refused', "the database refused the broker's own login, or a grant that the broker may not give: see docs/providers/mysql.md"],
  1144: ['invalid', 'a privilege of this role cannot be granted there'],
  1146: ['invalid', 'a table of this role does not exist in the database'],
  [EXISTS]: ['invalid', 'an account of this name exists already'],
  1205: ['timeout', 'the database did not get a lock in time'],
  1053: ['unreachable', 'the database is shutting down'],
  1927: ['unreachable', 'the database ended the connection'],
}

const thrownShape = z.object({ errno: z.number().optional(), code: z.string().optional(), sqlState: z.string().optional(), message: z.string() })

export function asProviderError(thrown: unknown): ProviderError {
  if (thrown instanceof ProviderError) return thrown
  const { data } = thrownShape.safeParse(thrown)
  // Only a server's answer has an SQLSTATE; the system's numbers are others.
  const number = data?.sqlState === undefined ? undefined : data.errno
  const demand = number === NO_VALUE ? Object.keys(DEMANDS).find((token) => data?.message.includes(token)) : undefined
  const cause = new DatabaseError(number, demand, data?.code ?? 'unknown')
  if (number === undefined)
    return new ProviderError('unreachable', 'the database could not be reached, or did not answer as MariaDB or MySQL does', { cause })
  const [kind, message] = (demand && DEMANDS[demand]) || BY_NUMBER[number] || ['broken', `the database answered with error ${number}`]
  return new ProviderError(kind, message, { cause })
}
