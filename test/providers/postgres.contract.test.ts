import { readFileSync } from 'node:fs'
import pg from 'pg'
import { postgres } from '../../src/providers/postgres.js'
import type { Credential } from '../../src/providers/provider.js'
import { startPostgres } from '../support/postgres.js'
import { contract } from './contract.js'
import type { Harness } from './harness.js'

/** The protocol's own bytes: https://www.postgresql.org/docs/current/protocol-message-formats.html */
const message = (type: string, body: string): Buffer => {
  const length = Buffer.alloc(4)
  length.writeInt32BE(body.length + 4)
  return Buffer.concat([Buffer.from(type), length, Buffer.from(body)])
}
const TOO_MANY_CONNECTIONS = message('E', 'SFATAL\0VFATAL\0C53300\0Msorry, too many clients already\0\0')
const HALF_OF_AN_AUTHENTICATION = message('R', '\0\0\0\n').subarray(0, 6)

async function start(): Promise<Harness> {
  const server = await startPostgres()
  const url = await server.createBroker(['reporting_ro', 'billing_ro'])
  await server.query('CREATE TABLE reports AS SELECT 1 AS n; CREATE TABLE bills AS SELECT 2 AS n').catch(() => undefined)
  for (const [group, table] of [
    ['reporting_ro', 'reports'],
    ['billing_ro', 'bills'],
  ])
    await server.query(`GRANT SELECT ON ${table} TO ${group}`)
  await server.query('CREATE ROLE powerful NOLOGIN CREATEROLE')
  await server.query('GRANT powerful TO mayfly_broker WITH ADMIN OPTION')

  const connect = async (credential: Credential): Promise<pg.Client> => {
    const { env } = credential
    const { PGHOST: host, PGPORT: port, PGUSER: user, PGPASSWORD: password, PGDATABASE: database } = env
    const client = new pg.Client({ host, port: Number(port), user, password, database })
    client.on('error', () => undefined)
    await client.connect()
    return client
  }
  const reads = async (credential: Credential, table: string): Promise<boolean> => {
    let client: pg.Client | undefined
    try {
      client = await connect(credential)
      return (await client.query(`SELECT n FROM ${table}`)).rows.length === 1
    } catch {
      return false
    } finally {
      await client?.end()
    }
  }
  return {
    module: postgres,
    upstream: 'real',
    options: { url },
    params: { member_of: ['reporting_ro', 'billing_ro'] },
    address: server,
    optionsAt: (port) => ({ url: url.replace(`:${server.port}/`, `:${port}/`) }),
    brokerSecret: new URL(url).password,
    works: (credential) => reads(credential, 'reports'),
    async openSession(credential) {
      const client = await connect(credential)
      return {
        usable: () =>
          client.query('SELECT n FROM reports').then(
            () => true,
            () => false,
          ),
        close: () => client.end(),
      }
    },
    made: async () => (await server.query("SELECT rolname FROM pg_roles WHERE rolname LIKE 'mf-%' ORDER BY 1")).map((row) => String(row.rolname)),
    async expiry(_credential, handle) {
      const [row] = await server.query('SELECT extract(epoch FROM rolvaliduntil) * 1000 AS at FROM pg_roles WHERE rolname = $1', [handle.role])
      return row === undefined ? undefined : Number(row.at)
    },
    narrowing: {
      scope: { member_of: ['reporting_ro'] },
      allows: (credential) => reads(credential, 'reports'),
      denies: async (credential) => !(await reads(credential, 'bills')),
    },
    widening: [
      { member_of: ['powerful'] },
      { member_of: ['reporting_ro', 'pg_read_all_data'] },
      { member_of: 'reporting_ro"; --' },
      { member_of: [] },
      { database: 'template1' },
      { role: 'postgres' },
    ],
    hostileParams: [
      {},
      { member_of: [] },
      { member_of: 'reporting_ro' },
      { member_of: ['a\0b'] },
      { member_of: ['a'.repeat(64)] },
      { member_of: ['reporting_ro'], superuser: true },
      { member_of: ['reporting_ro'], connection_limit: -1 },
    ],
    refusedParams: [
      { member_of: ['powerful'] },
      { member_of: ['postgres'] },
      { member_of: ['mayfly_broker'] },
      { member_of: ['pg_read_all_data'] },
      { member_of: ['reporting_ro", "powerful'] },
      { member_of: [`x' OR '1'='1`] },
      { member_of: ['no such group'] },
    ],
    secretsOf: ({ fields }) => [String(fields.password)],
    mintSign: 'LOGIN PASSWORD',
    halfAnswer: HALF_OF_AN_AUTHENTICATION,
    busyAnswer: TOO_MANY_CONNECTIONS,
    log: () => readFileSync(server.logPath, 'utf8'),
    stop: () => server.stop(),
  }
}

contract('postgres', start, {
  'after its expiry it does not work': 'VALID UNTIL only stops new logins, so revoke ends it and nothing else counts as its end',
  'what cannot be taken back is not called revoked': 'revocation is immediate: every login can be taken back',
  'a handle that only the mint knows is not guessed, and its blind window is told':
    'the name of the login role is derived from the lease before the mint',
})
