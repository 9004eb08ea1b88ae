import mysql from 'mysql2'
import { BLIND, BUSY, LATE, OVERDUE } from './error.js'
import type { Grant } from './grants.js'
import type { Server } from './servers.js'

/**
 * Everything the broker says to the server. Each function answers one batch: statements that leave in one packet, of which the server
 * carries out none after the first that fails. Backslashes are escapes in the broker's sessions: `begin` sets the modes.
 */

export type Statements = typeof import('./statements.js')

export interface Account {
  readonly user: string
  readonly host: string
}
export interface NewAccount extends Account {
  readonly hash: string
  readonly note?: string
  readonly grants: readonly Grant[]
  readonly requireTls: boolean
  readonly limits: Readonly<Record<string, number | undefined>>
  readonly days: number
  /** ms; ledger's clock. */
  readonly until: number
}

/** Sessions that end take some milliseconds; looked at this often, seconds. */
const LOOK_AGAIN_SECONDS = 0.002

const text = (value: string): string => mysql.escape(value)
/** Dots are part of a name, too. */
const name = (value: string): string => mysql.escapeId(value, true)
const account = ({ user, host }: Account): string => `${text(user)}@${text(host)}`
const lockOf = (user: string): string => text(`mayfly ${user}`)
/** Not `NOW()`, which stands still while a lock is waited for. */
const now = 'UNIX_TIMESTAMP(SYSDATE(6))'

/** How each batch begins: known modes, UTC, and the server's own bound on waiting. */
export function begin(server: Server, leftMs: number): string {
  return `SET SESSION sql_mode = ${text(server.sqlMode)}, time_zone = '+00:00', lock_wait_timeout = ${Math.ceil(leftMs / 1000)}`
}

/**
 * Refuses all that follows in the batch unless the condition holds: outside of stored programs neither server has an IF, and MySQL no
 * compound statement; but a system variable takes no value that it does not know.
 */
function demand(condition: string, otherwise: string): string {
  return `SET SESSION sql_mode = IF(${condition}, @@SESSION.sql_mode, ${text(otherwise)})`
}

/** A lock per account, for the whole of a mint or a revoke; it is lost with the connection. */
function lock(user: string, leftMs: number): string {
  return demand(`GET_LOCK(${lockOf(user)}, ${Math.ceil(leftMs / 1000)}) = 1`, BUSY)
}
/**
 * As `lock`, for revokes: whoever can log in can take a lock of any name, so one that is held by others than the broker's own user is not
 * waited for. All that a revoke then lacks is order with a mint that arrives late, and that one leaves its account locked.
 */
function lockAmongBrokers(user: string, seconds: number): string[] {
  const held = `IS_USED_LOCK(${lockOf(user)})`
  const byBroker = `SELECT 1 FROM information_schema.PROCESSLIST WHERE ID = ${held} AND USER = ${userIn('USER()')}`
  return [`DO GET_LOCK(${lockOf(user)}, ${seconds})`, demand(`COALESCE(${held} = CONNECTION_ID(), FALSE) OR NOT EXISTS (${byBroker})`, BUSY)]
}
export function release(user: string): string[] {
  return [`DO RELEASE_LOCK(${lockOf(user)})`]
}

/**
 * The lock comes before the look at the clock: a revoke that holds it, or waits for it after `until`, knows that nothing can come
 * afterwards. Accounts are not transactional, so the account is locked until it is whole, and a second look at the clock comes before it
 * is unlocked: what a broken mint leaves is of no use to anybody.
 */
export function createAccount(server: Server, made: NewAccount, leftMs: number): string[] {
  const inTime = `${now} < ${(made.until / 1000).toFixed(3)}`
  const limits = Object.entries(made.limits).flatMap(([limit, value]) => (value === undefined ? [] : [`${limit} ${value}`]))
  return [
    lock(made.user, leftMs),
    demand(inTime, LATE),
    `CREATE USER ${account(made)} IDENTIFIED WITH ${server.plugin} AS ${text(made.hash)} REQUIRE ${made.requireTls ? 'SSL' : 'NONE'}` +
      ` WITH ${limits.join(' ')} PASSWORD EXPIRE INTERVAL ${made.days} DAY ACCOUNT LOCK` +
      (made.note === undefined ? '' : ` ATTRIBUTE ${text(made.note)}`),
    ...made.grants.map((grant) => give(made, grant)),
    demand(inTime, OVERDUE),
    `ALTER USER ${account(made)} ACCOUNT UNLOCK`,
    ...release(made.user),
  ]
}

/** In a grant on a database, "_" and "%" stand for other characters unless escaped; in one on a table they stand for themselves. */
function placeOf({ database, table }: Grant): string {
  return table === undefined ? `${name(database.replaceAll('_', '\\_'))}.*` : `${name(database)}.${name(table)}`
}

/**
 * No further login, whatever lock others hold. A broker that cannot see other users' sessions would take them for ended, so it is refused
 * here.
 */
export function lockOut(made: Account): string[] {
  return [
    demand(`EXISTS (SELECT 1 FROM information_schema.USER_PRIVILEGES WHERE ${OWN} AND PRIVILEGE_TYPE = 'PROCESS')`, BLIND),
    `ALTER USER IF EXISTS ${account(made)} ACCOUNT LOCK`,
  ]
}

/** The same once mints of it are out of the way, `seconds` being waited for them. Answers whether there is such an account. */
export function lockOutInTurn({ user, host }: Account, seconds: number): string[] {
  return [
    ...lockAmongBrokers(user, seconds),
    ...lockOut({ user, host }),
    `SELECT User FROM mysql.user WHERE User = ${text(user)} AND Host = ${text(host)}`,
  ]
}

export function dropAccount(made: Account): string[] {
  return [`DROP USER IF EXISTS ${account(made)}`]
}

export function sessionsOf(user: string): string[] {
  return [`SELECT ID AS id FROM information_schema.PROCESSLIST WHERE USER = ${text(user)}`]
}
export function sessionsAgain(user: string): string[] {
  return [`DO SLEEP(${LOOK_AGAIN_SECONDS})`, ...sessionsOf(user)]
}
export function endSession(id: number): string[] {
  return [`KILL CONNECTION ${id}`]
}

export function lookFor({ user, host }: Account): string[] {
  return [`SELECT User AS found FROM mysql.user WHERE User = ${text(user)} AND Host = ${text(host)}`]
}

export function page(server: Server, prefix: string, after: string, size: number): string[] {
  return [
    `SELECT ${server.columns.join(', ')} FROM mysql.user WHERE LEFT(User, ${prefix.length}) = ${text(prefix)} AND User > ${text(after)}
      ORDER BY User, Host LIMIT ${size}`,
  ]
}

function hostIn(account: string): string {
  return `SUBSTRING_INDEX(${account}, '@', -1)`
}
/** A user name may hold an "@", a host cannot. */
function userIn(account: string): string {
  return `LEFT(${account}, CHAR_LENGTH(${account}) - CHAR_LENGTH(${hostIn(account)}) - 1)`
}
/** `'user'@'host'` as the server itself spells it. */
const OWN = `GRANTEE = CONCAT(${text("'")}, ${userIn('CURRENT_USER()')}, ${text("'@'")}, ${hostIn('CURRENT_USER()')}, ${text("'")})`

/** What the broker itself may do, and its clock against the server's. */
export const SELF = [`SELECT VERSION() AS version, ${now} * 1000 AS now`]
export const OWN_PRIVILEGES = [`SELECT PRIVILEGE_TYPE AS privilege FROM information_schema.USER_PRIVILEGES WHERE ${OWN}`]
/** Whether names of databases are taken literally: https://dev.mysql.com/doc/refman/8.4/en/partial-revokes.html */
export const PARTIAL_REVOKES = [`SHOW VARIABLES WHERE Variable_name = 'partial_revokes' AND Value = 'ON'`]

/** An account that nobody can use, to try what a mint needs; not there afterwards. */
export function tryAccount(made: Account, leftMs: number): string[] {
  return [lock(made.user, leftMs), ...dropAccount(made), `CREATE USER ${account(made)} ACCOUNT LOCK`]
}
export function tryGrant(made: Account, grant: Grant): string[] {
  return [give(made, grant)]
}

function give(to: Account, grant: Grant): string {
  return `GRANT ${grant.privileges.join(', ')} ON ${placeOf(grant)} TO ${account(to)}`
}
