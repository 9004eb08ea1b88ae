import mysql2 from 'mysql2/promise'
import { mysql } from '../../src/providers/mysql.js'
import type { Credential } from '../../src/providers/provider.js'
import { startMysql, type TestMysql } from '../support/mysql.js'
import { contract } from './contract.js'
import type { Harness } from './harness.js'

/** The protocol's own bytes: https://mariadb.com/kb/en/0-packet/, https://mariadb.com/kb/en/err_packet/ */
const packet = (body: Buffer): Buffer => Buffer.concat([Buffer.from([body.length, 0, 0, 0]), body])
const TOO_MANY_CONNECTIONS = packet(Buffer.concat([Buffer.from([0xff, 0x10, 0x04]), Buffer.from('#08004Too many connections')]))
const HALF_A_GREETING = packet(Buffer.concat([Buffer.from([10]), Buffer.from('10.11.6-MariaDB\0')])).subarray(0, 12)

export async function connect({ fields }: Credential): Promise<mysql2.Connection> {
  const { host, port, username, password, database } = fields
  const connection = await mysql2.createConnection({
    host: String(host),
    port: Number(port),
    user: String(username),
    password: String(password),
    database: String(database),
  })
  connection.on('error', () => undefined)
  return connection
}

/** Whether a holder of the credential, on a connection of its own, may do this. */
export async function may(credential: Credential, statement: string): Promise<boolean> {
  const connection = await connect(credential).catch(() => undefined)
  const done = await connection?.query(statement).then(
    () => true,
    () => false,
  )
  connection?.destroy()
  return done === true
}

async function start(kind: TestMysql['kind']): Promise<Harness> {
  const server = await startMysql(kind)
  for (const database of ['shop', 'app_eu', 'appXeu', 'secret']) {
    await server.query(`CREATE DATABASE ${database}`)
    for (const table of ['orders', 'items']) await server.query(`CREATE TABLE ${database}.${table} AS SELECT 1 AS n`)
  }
  const url = await server.createBroker(['SELECT, INSERT, UPDATE, DELETE ON shop.*', 'SELECT ON `app\\_eu`.*'])
  const options = { server: kind, url, tls: 'off' }
  const grants = [
    { database: 'shop', tables: ['orders', 'items'], privileges: ['SELECT', 'INSERT'] },
    { database: 'app_eu', privileges: ['SELECT'] },
  ]
  const one = (database: unknown, privileges: unknown, tables?: unknown) => ({
    grants: [{ database, privileges, ...(tables === undefined ? {} : { tables }) }],
  })
  const reads = 'SELECT n FROM shop.orders'
  return {
    module: mysql,
    upstream: 'real',
    options,
    params: { grants },
    address: server,
    optionsAt: (port) => ({ ...options, url: url.replace(`:${server.port}`, `:${port}`) }),
    brokerSecret: new URL(url).password,
    works: (credential) => may(credential, reads),
    async openSession(credential) {
      const connection = await connect(credential)
      return {
        usable: () =>
          connection.query(reads).then(
            () => true,
            () => false,
          ),
        close: async () => connection.destroy(),
      }
    },
    made: async () => (await server.query("SELECT User FROM mysql.user WHERE User LIKE 'mf-%' ORDER BY 1")).map(({ User }) => String(User)),
    narrowing: {
      scope: { tables: 'shop/orders', privileges: ['SELECT'] },
      allows: (credential) => may(credential, reads),
      denies: async (credential) =>
        !(await may(credential, 'SELECT n FROM shop.items')) &&
        !(await may(credential, 'INSERT INTO shop.orders VALUES (2)')) &&
        !(await may(credential, 'SELECT n FROM app_eu.orders')),
    },
    widening: [
      ...[
        'secret',
        'secret/orders',
        'shop/secret',
        'shop/orders/x',
        '',
        '/',
        '*',
        '%',
        'app%eu',
        'appXeu',
        'app\\_eu',
        'mysql',
        'mysql/user',
        'SHOP',
        "shop'; --",
      ].map((tables) => ({ tables })),
      ...[[], ['shop', 'secret'], ['shop/orders', 'mysql/user'], ['*']].map((tables) => ({ tables })),
      ...[[], ['DELETE'], ['SELECT', 'SUPER'], ['ALL PRIVILEGES'], ['select'], ['GRANT OPTION'], ['SELECT ON *.* TO x; --']].map((privileges) => ({
        privileges,
      })),
      { privileges: 'SELECT' },
      { tables: 'app_eu', privileges: ['INSERT'] },
      { database: 'secret' },
      { user: 'root' },
    ],
    hostileParams: [
      {},
      { grants: [] },
      { grants, superuser: true },
      { grants, max_connections: 0 },
      { grants, max_connections: '10 PASSWORD EXPIRE NEVER' },
      { grants, max_queries_per_hour: -1 },
      { grants, database: 'secret' },
      { grants: [{ ...grants[0], with: 'GRANT OPTION' }] },
      ...[
        'mysql',
        'MySQL',
        'information_schema',
        'performance_schema',
        'sys',
        '*',
        '%',
        'app%',
        'a`b',
        'a\0b',
        'a\nb',
        "a'b",
        'a"b',
        'a\\_b',
        'a/b',
        '',
        'a'.repeat(65),
        1,
        null,
      ].map((database) => one(database, ['SELECT'])),
      ...['*', '', 'a`.* TO root; --', 'a\0', 'a/b', 'x'.repeat(10_240)].map((table) => one('shop', ['SELECT'], [table])),
      one('shop', ['SELECT'], []),
      one('shop', [], ['orders']),
      one('shop', ['EXECUTE'], ['orders']),
      one('shop', ['LOCK TABLES'], ['orders']),
      ...[
        ...[
          'ALL',
          'ALL PRIVILEGES',
          'GRANT OPTION',
          'SUPER',
          'FILE',
          'PROCESS',
          'CREATE USER',
          'RELOAD',
          'SHUTDOWN',
          'PROXY',
          'USAGE',
          'SET USER',
          'SYSTEM_USER',
        ],
        ...[
          'CONNECTION ADMIN',
          'REPLICATION SLAVE',
          'CREATE VIEW',
          'CREATE ROUTINE',
          'ALTER ROUTINE',
          'TRIGGER',
          'EVENT',
          'CREATE TABLESPACE',
          'CREATE ROLE',
        ],
        ...['select', 'SELECT, SUPER', 'SELECT ON *.* TO root; --', 'SELECT (n)', ''],
      ].map((privilege) => one('shop', [privilege])),
    ],
    refusedParams: [
      one('secret', ['SELECT']),
      one('secret', ['SELECT'], ['orders']),
      one('shop', ['SELECT', 'ALTER']),
      one('shop', ['SELECT'], ['no-such-table']),
      one('appXeu', ['SELECT']),
      one('no-such-database', ['SELECT']),
      one('shop', ['EXECUTE']),
    ],
    secretsOf: ({ fields }) => [String(fields.password)],
    mintSign: 'CREATE USER',
    speaksFirst: true,
    halfAnswer: HALF_A_GREETING,
    busyAnswer: TOO_MANY_CONNECTIONS,
    log: () => server.log(),
    stop: () => server.stop(),
  }
}

export function mysqlContract(name: string, kind: TestMysql['kind']): void {
  contract(name, () => start(kind), {
    'after its expiry it does not work': 'an account has no expiry that ends it: revoke does, and nothing else counts as its end',
    'what cannot be taken back is not called revoked': 'revocation is immediate: every account can be locked and dropped',
    "the upstream's own expiry is set": 'PASSWORD EXPIRE counts in days and its holder can renew it, so the provider says that there is no expiry',
    'renew extends it, and revives nothing': 'an account has no expiry that could be extended',
    'a handle that only the mint knows is not guessed, and its blind window is told':
      'the name of the account is derived from the lease before the mint',
  })
}
