import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import mysql from 'mysql2/promise'
import { closedPort } from './faulty-upstream.js'
import { waitFor } from './wait.js'

/** A real MariaDB, or MySQL, of a test's own, on a free loopback port, with its data in a temporary folder. */
export interface TestMysql {
  readonly kind: 'mariadb' | 'mysql'
  readonly host: string
  readonly port: number
  /** All that the server logged, each statement included: where a leaked secret would show. */
  log(): string
  /** Runs one statement as root, on a connection that the broker doesn't have. */
  query(text: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>
  /** The broker's own user with the least it needs (docs/providers/mysql.md), and what it may hand on. Answers its url. */
  createBroker(grants: readonly string[], name?: string): Promise<string>
  stop(): Promise<void>
}

const HOST = '127.0.0.1'
const START_MS = 30_000
const PATH = `${process.env.PATH}:/usr/sbin`
/** A `mysqld` of MySQL: the tests also run against it where this names one. */
export const MYSQLD = process.env.MAYFLY_TEST_MYSQLD

/** Starts a server; takes two or three seconds, so that a test file shares one. */
export async function startMysql(kind: TestMysql['kind'] = 'mariadb', settings: readonly string[] = []): Promise<TestMysql> {
  const folder = mkdtempSync(join(tmpdir(), 'mayfly-mysql-'))
  const data = join(folder, 'data')
  const socketPath = join(folder, 's.sock')
  const logPath = join(folder, 'general.log')
  const errorPath = join(folder, 'error.log')
  // Both refuse to be root by chance; as a test's own child, it may.
  const own = process.getuid?.() === 0 ? ['--user=root'] : []
  const env = { ...process.env, PATH }
  const binary = kind === 'mysql' ? (MYSQLD ?? 'mysqld') : 'mariadbd'
  if (kind === 'mysql') await promisify(execFile)(binary, ['--no-defaults', '--initialize-insecure', `--datadir=${data}`, ...own], { env })
  else
    await promisify(execFile)(
      'mariadb-install-db',
      ['--no-defaults', `--datadir=${data}`, '--auth-root-authentication-method=normal', '--skip-test-db', ...own],
      { env },
    )

  const port = await closedPort()
  const errors = openSync(errorPath, 'a')
  const server: ChildProcess = spawn(
    binary,
    [
      '--no-defaults',
      ...own,
      `--datadir=${data}`,
      `--port=${port}`,
      `--bind-address=${HOST}`,
      `--socket=${socketPath}`,
      `--pid-file=${join(folder, 'pid')}`,
      '--general-log=1',
      `--general-log-file=${logPath}`,
      '--skip-log-bin',
      '--innodb-flush-log-at-trx-commit=0',
      ...(kind === 'mysql' ? ['--mysqlx=OFF'] : []),
      ...settings,
    ],
    { env, stdio: ['ignore', errors, errors] },
  )
  const admin = mysql.createPool({ socketPath, user: 'root', connectionLimit: 4 })
  const query: TestMysql['query'] = async (text, values = []) => {
    const [rows] = await admin.query(text, [...values])
    return Array.isArray(rows) ? (rows as Record<string, unknown>[]) : []
  }
  const stop = async () => {
    await admin.end().catch(() => undefined)
    if (server.exitCode === null && server.signalCode === null) {
      const ended = once(server, 'exit')
      server.kill('SIGKILL')
      await ended
    }
    rmSync(folder, { recursive: true, force: true })
  }
  await waitFor(
    'the database to answer',
    async () => {
      if (server.exitCode !== null) throw new Error(`the database did not start: ${readFileSync(errorPath, 'utf8')}`)
      return query('SELECT 1').catch(() => undefined)
    },
    START_MS,
  )
  return {
    kind,
    host: HOST,
    port,
    query,
    log: () => readFileSync(logPath, 'utf8') + readFileSync(errorPath, 'utf8'),
    async createBroker(grants, name = 'mayfly') {
      const password = randomBytes(16).toString('hex')
      const who = `'${name}'@'${HOST}'`
      const administration = kind === 'mysql' ? 'CONNECTION_ADMIN' : 'CONNECTION ADMIN'
      const columns = kind === 'mysql' ? 'User, Host, User_attributes' : 'User, Host'
      await query(`CREATE USER ${who} IDENTIFIED BY '${password}'`)
      await query(`GRANT CREATE USER, PROCESS, ${administration} ON *.* TO ${who}`)
      await query(`GRANT SELECT (${columns}) ON mysql.user TO ${who}`)
      for (const grant of grants) await query(`GRANT ${grant} TO ${who} WITH GRANT OPTION`)
      return `mysql://${name}:${password}@${HOST}:${port}`
    },
    stop,
  }
}
