import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import mysql2 from 'mysql2/promise'
import { SERVERS } from '../../src/providers/mysql/servers.js'
import { mysql } from '../../src/providers/mysql.js'
import type { Provider } from '../../src/providers/provider.js'
import { MYSQLD, startMysql, type TestMysql } from '../support/mysql.js'
import { waitFor } from '../support/wait.js'
import { newLeaseId, plan, requestOf, TIMEOUT_MS } from './harness.js'
import { connect, may } from './mysql-contract.js'
import { beginLogin } from './mysql-login.js'

const context = { name: 'shop', instance: 'test', timeoutMs: TIMEOUT_MS, concurrency: 2 }
const READS = 'SELECT n FROM shop.orders'
const kinds: TestMysql['kind'][] = MYSQLD === undefined ? ['mariadb'] : ['mariadb', 'mysql']

describe.each(kinds)('the mysql provider on %s', (kind) => {
  let server: TestMysql
  let folder: string
  let url: string
  let provider: Provider
  const open = (change: object = {}, where = context) => mysql.open(mysql.options.parse({ server: kind, url, tls: 'off', ...change }), where)
  const params = (change: object = {}) =>
    mysql.params.parse({ grants: [{ database: 'shop', privileges: ['SELECT', 'INSERT', 'UPDATE', 'DELETE'] }], ...change })
  const mint = async (given = params(), by = provider) => {
    const request = requestOf(by, plan(), given, TIMEOUT_MS)
    const { credential } = await by.mint(request)
    return { credential, request, handle: request.handle, user: String(request.handle.user) }
  }
  const accounts = async () => (await server.query("SELECT User FROM mysql.user WHERE User LIKE 'mf-%'")).map(({ User }) => User)
  const sessionsOf = (user: string) => server.query('SELECT ID FROM information_schema.PROCESSLIST WHERE USER = ?', [user])

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'mayfly-certificate-'))
    execFileSync(
      'openssl',
      [
        'req',
        '-x509',
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-days',
        '2',
        '-subj',
        '/CN=localhost',
        '-addext',
        'subjectAltName=DNS:localhost',
        '-keyout',
        join(folder, 'key.pem'),
        '-out',
        join(folder, 'certificate.pem'),
      ],
      { stdio: 'ignore' },
    )
    server = await startMysql(kind, [`--ssl-cert=${join(folder, 'certificate.pem')}`, `--ssl-key=${join(folder, 'key.pem')}`])
    for (const database of ['shop', 'app_eu', 'appXeu']) {
      await server.query(`CREATE DATABASE ${database}`)
      await server.query(`CREATE TABLE ${database}.orders ENGINE=InnoDB AS SELECT 1 AS n`)
    }
    url = await server.createBroker(['SELECT, INSERT, UPDATE, DELETE ON shop.*', 'SELECT ON `app\\_eu`.*', 'SELECT ON `appXeu`.*'])
    provider = await open()
  })
  afterEach(async () => {
    for await (const { handle } of provider.list?.() ?? []) await provider.revoke(handle, TIMEOUT_MS)
    expect(await accounts()).toEqual([])
  })
  afterAll(async () => {
    await provider.close()
    await server.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  describe('a mint', () => {
    it('that the server takes up in time and finishes too late leaves an account that nobody can use', async () => {
      const blocker = await blocking('FLUSH TABLES WITH READ LOCK')
      const request = requestOf(provider, plan(), params(), 1200)
      const failed = expect(provider.mint(request)).rejects.toMatchObject({ kind: 'timeout' })
      await waitFor('the mint to wait', async () => (await brokersStatements()).some((text) => text.startsWith('CREATE USER')))
      await failed
      // The server's own bound on waiting is whole seconds: it may still be at it.
      await blocker.end()
      await waitFor('the server to be done with it', async () => (await brokersStatements()).length === 0)
      const left = await accounts()
      if (left.length > 0) expect(await isLocked(left[0])).toBe(true)
      await provider.revoke(request.handle, TIMEOUT_MS)
      expect(await accounts()).toEqual([])
    })

    it('of a lease that has its account changes and drops nothing', async () => {
      const { credential, request } = await mint()
      await expect(provider.mint(request)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('exists already') })
      expect(await may(credential, READS)).toBe(true)
    })

    it('that fails at its last grant leaves nothing', async () => {
      const grants = [{ database: 'shop', tables: ['orders', 'no-such-table'], privileges: ['SELECT'] }]
      await expect(mint(params({ grants }))).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('table') })
      expect(await accounts()).toEqual([])
    })

    it('that was killed half-way is found by list and taken back by revoke', async () => {
      const lease = newLeaseId()
      const user = SERVERS[kind].userOf('test', lease)
      const note = kind === 'mysql' ? `ATTRIBUTE '${JSON.stringify({ mayfly: 'test', lease })}'` : ''
      await server.query(`CREATE USER '${user}'@'%' ACCOUNT LOCK ${note}`)
      const found = []
      for await (const one of provider.list?.() ?? []) found.push(one)
      expect(found).toEqual([{ lease, handle: { user, host: '%' } }])
      expect(await provider.revoke({ user, host: '%' }, TIMEOUT_MS)).toBe('revoked')
    })

    it('has room for the longest names', async () => {
      const long = await open({}, { ...context, instance: 'x'.repeat(20) })
      const request = requestOf(long, plan({ id: `lease_17${'z'.repeat(32)}` }), params(), TIMEOUT_MS)
      const { credential } = await long.mint(request)
      expect(await may(credential, READS)).toBe(true)
      expect(await long.revoke(request.handle, TIMEOUT_MS)).toBe('revoked')
      await long.close()
    })

    it('goes well sixty times at once, and so do the revokes', async () => {
      const wide = await open({}, { ...context, concurrency: 8 })
      const made = await Promise.all(Array.from({ length: 60 }, () => mint(params(), wide)))
      const outcomes = await Promise.all(made.map(({ handle }) => wide.revoke(handle, TIMEOUT_MS)))
      expect(new Set(outcomes)).toEqual(new Set(['revoked']))
      await wide.close()
    })
  })

  describe('an account', () => {
    it('reaches the databases that are named, where "_" stands for itself', async () => {
      const { credential } = await mint(params({ grants: [{ database: 'app_eu', privileges: ['SELECT'] }] }))
      expect(await may(credential, 'SELECT n FROM app_eu.orders')).toBe(true)
      expect(await may(credential, 'SELECT n FROM appXeu.orders')).toBe(false)
      expect(credential.fields.database).toBe('app_eu')
    })

    it('has nothing global, and can hand on nothing', async () => {
      const { credential } = await mint()
      for (const statement of [
        'SELECT * FROM mysql.user',
        "GRANT SELECT ON shop.* TO 'mayfly'@'127.0.0.1'",
        "CREATE USER 'second'@'%'",
        "SELECT 1 INTO OUTFILE '/tmp/mayfly-outfile'",
        'CREATE VIEW shop.v AS SELECT 1 AS n',
        'CREATE PROCEDURE shop.p() SELECT 1',
        'CREATE EVENT shop.e ON SCHEDULE EVERY 1 DAY DO SELECT 1',
        'CREATE TRIGGER shop.t BEFORE INSERT ON shop.orders FOR EACH ROW SET NEW.n = 2',
        'SET GLOBAL max_connections = 1',
        "ALTER USER 'mayfly'@'127.0.0.1' IDENTIFIED BY 'x'",
      ])
        expect({ statement, done: await may(credential, statement) }).toEqual({ statement, done: false })
    })

    it('opens no more sessions than its role allows', async () => {
      const { credential } = await mint(params({ max_connections: 1 }))
      const first = await connect(credential)
      await expect(connect(credential)).rejects.toMatchObject({ errno: 1226 })
      first.destroy()
    })

    it('can be used over TLS only, where the broker uses TLS', async () => {
      const ca = readFileSync(join(folder, 'certificate.pem'), 'utf8')
      // The broker's own account is for one address, whatever its name.
      const over = await open({ url: url.replace('127.0.0.1', 'localhost'), tls: 'verify', ca })
      const { credential, handle } = await mint(params(), over)
      const { host, port, username, password } = credential.fields
      const login = { host: String(host), port: Number(port), user: String(username), password: String(password) }
      await expect(mysql2.createConnection(login)).rejects.toMatchObject({ errno: 1045 })
      const agent = await mysql2.createConnection({ ...login, ssl: { ca } })
      await agent.query(READS)
      agent.destroy()
      await over.revoke(handle, TIMEOUT_MS)
      await over.close()
    })

    it('is not made over TLS that cannot be verified', async () => {
      const over = await open({ url: url.replace('127.0.0.1', 'localhost'), tls: 'verify' })
      await expect(over.mint(requestOf(over, plan(), params(), TIMEOUT_MS))).rejects.toMatchObject({ kind: 'unreachable' })
      await over.close()
    })
  })

  describe('a revoke', () => {
    it('cuts a session in the middle of a transaction, and what it had not committed is gone', async () => {
      const { credential, handle } = await mint()
      const agent = await connect(credential)
      await agent.query('BEGIN')
      await agent.query('INSERT INTO shop.orders VALUES (42)')
      const sleeping = expect(agent.query('SELECT SLEEP(60)')).rejects.toThrow()
      await waitFor(
        'the query to run',
        async () => (await server.query("SELECT 1 AS n FROM information_schema.PROCESSLIST WHERE INFO = 'SELECT SLEEP(60)'")).length > 0,
      )
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      await sleeping
      expect(await server.query('SELECT n FROM shop.orders WHERE n = 42')).toEqual([])
    })

    it('is not outlived by a password that the agent set itself', async () => {
      const { credential, handle } = await mint()
      expect(await may(credential, kind === 'mysql' ? "SET PASSWORD = 'mine'" : "SET PASSWORD = PASSWORD('mine')")).toBe(true)
      const renamed = { ...credential, fields: { ...credential.fields, password: 'mine' } }
      expect(await may(renamed, READS)).toBe(true)
      await provider.revoke(handle, TIMEOUT_MS)
      expect(await may(renamed, READS)).toBe(false)
    })

    it('lets no login through that races it', async () => {
      for (let round = 0; round < 5; round++) {
        const { credential, handle, user } = await mint()
        let going = true
        const open: mysql2.Connection[] = []
        const hammering = Array.from({ length: 4 }, async () => {
          while (going)
            await connect(credential).then(
              (one) => open.push(one),
              () => undefined,
            )
        })
        await waitFor('a login', async () => (await sessionsOf(user)).length > 0)
        await provider.revoke(handle, TIMEOUT_MS)
        const usable = await Promise.all(
          open.map((one) =>
            one.query(READS).then(
              () => true,
              () => false,
            ),
          ),
        )
        going = false
        await Promise.all(hammering)
        expect(usable).not.toContain(true)
        expect(await sessionsOf(user)).toEqual([])
        for (const one of open) one.destroy()
      }
    })

    // MySQL's own plugin asks in another way; what is held back is the same.
    if (kind === 'mariadb')
      it('is not outlived by a login that was half done', async () => {
        const { credential, handle, user } = await mint()
        const password = String(credential.fields.password)
        const honest = await beginLogin(server, user, password, 'shop')
        expect(await honest.answer(READS)).toBe('statement done')
        const late = await beginLogin(server, user, password, 'shop')
        expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
        expect(await late.answer(READS)).not.toBe('statement done')
        honest.close()
        late.close()
      })

    it('is held up by no lock that an agent takes, of its own account or of another', async () => {
      const [one, two] = [await mint(), await mint()]
      const holders = await Promise.all([connect(one.credential), connect(two.credential)])
      for (const holder of holders) await holder.query('SELECT GET_LOCK(?, 1)', [`mayfly ${one.user}`]).catch(() => undefined)
      const queue = [1, 2, 3].map(async () =>
        (await connect(two.credential)).query('SELECT GET_LOCK(?, 30)', [`mayfly ${one.user}`]).catch(() => undefined),
      )
      await waitFor('them to wait', async () => (await sessionsOf(two.user)).length === 4)
      const started = performance.now()
      expect(await provider.revoke(one.handle, TIMEOUT_MS)).toBe('revoked')
      expect(performance.now() - started).toBeLessThan(2000)
      expect(await may(one.credential, READS)).toBe(false)
      expect(await provider.revoke(two.handle, TIMEOUT_MS)).toBe('revoked')
      await Promise.all(queue)
      for (const holder of holders) holder.destroy()
    })

    it('that has to wait for a mint takes the account’s use away first', async () => {
      const { credential, handle, user } = await mint()
      const agent = await connect(credential)
      const { username, password } = new URL(url)
      const other = await mysql2.createConnection({ host: server.host, port: server.port, user: username, password })
      await other.query('SELECT GET_LOCK(?, 1)', [`mayfly ${user}`])
      await expect(provider.revoke(handle, 1500)).rejects.toMatchObject({ kind: 'timeout' })
      await expect(agent.query('SELECT 1')).rejects.toThrow()
      expect(await may(credential, READS)).toBe(false)
      await other.end()
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    })

    it('goes on where a broker died: with the account dropped and a session left', async () => {
      const { credential, handle, user } = await mint()
      const agent = await connect(credential)
      await server.query(`DROP USER '${user}'@'%'`)
      expect(await provider.verify?.(handle, TIMEOUT_MS)).toBe('alive')
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('absent')
      await expect(agent.query('SELECT 1')).rejects.toThrow()
      expect(await provider.verify?.(handle, TIMEOUT_MS)).toBe('dead')
    })

    it('waits for no mint: not even where each connection for mints is taken', async () => {
      const { handle } = await mint()
      const blocker = await blocking('SELECT 1')
      const requests = Array.from({ length: context.concurrency }, () => requestOf(provider, plan(), params(), 2000))
      for (const { handle } of requests) await blocker.query('SELECT GET_LOCK(?, 1)', [`mayfly ${handle.user}`])
      const stuck = requests.map((request) => provider.mint(request).catch((error: unknown) => error))
      await waitFor(
        'the mints to hang',
        async () => (await brokersStatements()).filter((text) => text.includes('GET_LOCK')).length === requests.length,
      )
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      for (const outcome of await Promise.all(stuck)) expect(outcome).toMatchObject({ kind: 'timeout' })
      await blocker.end()
      for (const { handle } of requests) expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('absent')
    })

    it('says no, and not "absent", where the broker cannot see the sessions', async () => {
      const { credential, handle } = await mint()
      const agent = await connect(credential)
      const blind = await open({ url: await server.createBroker([], 'blind') })
      await server.query("REVOKE PROCESS ON *.* FROM 'blind'@'127.0.0.1'")
      await expect(blind.revoke(handle, TIMEOUT_MS)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('PROCESS') })
      await blind.close()
      agent.destroy()
    })
  })

  describe('check', () => {
    const problem = async (change: object, roles: { name: string; params: ReturnType<typeof params> }[] = []) => {
      const opened = await open(change)
      const error = await opened.check(roles).catch((thrown: unknown) => thrown)
      await opened.close()
      expect(error).toMatchObject({ kind: 'refused' })
      return String((error as Error).message)
    }

    it('says which privileges the broker lacks', async () => {
      const weak = await server.createBroker([], 'weak')
      await server.query("REVOKE PROCESS, CREATE USER ON *.* FROM 'weak'@'127.0.0.1'")
      await server.query(`REVOKE SELECT (${SERVERS[kind].columns.join(', ')}) ON mysql.user FROM 'weak'@'127.0.0.1'`)
      const text = await problem({ url: weak })
      expect(text).toMatch(/lacks CREATE USER, PROCESS.*GRANT SELECT \(User, Host.*\) ON mysql\.user.*docs\/providers\/mysql\.md/)
    })

    it('says which role cannot be granted, and leaves nothing', async () => {
      const roles = [
        { name: 'good', params: params() },
        { name: 'too-much', params: params({ grants: [{ database: 'shop', privileges: ['SELECT', 'DROP'] }] }) },
        { name: 'typo', params: params({ grants: [{ database: 'shop', tables: ['oders'], privileges: ['SELECT'] }] }) },
      ]
      const text = await problem({}, roles)
      expect(text).toMatch(/role "too-much": the broker cannot grant SELECT, DROP on all of shop.*role "typo": .*shop\.oders.*does not exist/)
      expect(text).not.toContain('good')
      expect(await accounts()).toEqual([])
    })

    it('tells the two servers apart', async () => {
      expect(await problem({ server: kind === 'mysql' ? 'mariadb' : 'mysql' })).toMatch(/not .*"server" says/)
    })
  })

  it('makes new connections where the server has closed the idle ones', async () => {
    const { handle } = await mint()
    for (const { ID } of await sessionsOf('mayfly')) await server.query(`KILL CONNECTION ${Number(ID)}`)
    await waitFor('them to be gone', async () => (await sessionsOf('mayfly')).length === 0)
    await mint()
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
  })

  it('says where agents find the database, if that is not where the broker does', async () => {
    const told = await open({ host: 'db.example', port: 6033 })
    const { credential } = await mint(params(), told)
    expect(credential.env).toMatchObject({ MYSQL_HOST: 'db.example', MYSQL_TCP_PORT: '6033', MYSQL_DATABASE: 'shop' })
    await told.close()
  })

  async function blocking(statement: string): Promise<mysql2.Connection> {
    await server.query("CREATE USER IF NOT EXISTS 'blocker'@'127.0.0.1' IDENTIFIED BY 'blocks'")
    await server.query("GRANT ALL PRIVILEGES ON *.* TO 'blocker'@'127.0.0.1'")
    const connection = await mysql2.createConnection({ host: server.host, port: server.port, user: 'blocker', password: 'blocks' })
    await connection.query(statement)
    return connection
  }
  async function brokersStatements(): Promise<string[]> {
    const running = await server.query("SELECT INFO FROM information_schema.PROCESSLIST WHERE USER = 'mayfly' AND COMMAND = 'Query'")
    return running.map(({ INFO }) => String(INFO))
  }
  async function isLocked(user: unknown): Promise<boolean> {
    const [row] = await server.query(`SHOW CREATE USER '${String(user)}'@'%'`)
    return String(Object.values(row ?? {})[0]).includes('ACCOUNT LOCK')
  }
})
