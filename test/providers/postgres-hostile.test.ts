import { Socket } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import pg from 'pg'
import { postgres } from '../../src/providers/postgres.js'
import type { Credential, Provider } from '../../src/providers/provider.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { waitFor } from '../support/wait.js'
import { plan, requestOf, TIMEOUT_MS } from './harness.js'

const GROUP = 'writers'
/** For what is expected to fail: long enough for all that comes before. */
const BLOCKED_MS = 1500

/** What an agent can do from inside its session, and does not keep its revoke from ending it. */
describe('an agent that holds on to its login', () => {
  let server: TestPostgres
  let provider: Provider
  const clients: pg.Client[] = []
  const params = (change: object = {}) => postgres.params.parse({ member_of: [GROUP], ...change })
  const mint = async (given = params()) => {
    const request = requestOf(provider, plan(), given, TIMEOUT_MS)
    const { credential } = await provider.mint(request)
    return { handle: request.handle, role: String(request.handle.role), credential }
  }
  const login = async ({ fields }: Credential) => connect(String(fields.url))
  const connect = async (url: string, stream?: Socket) => {
    const client = new pg.Client({ connectionString: url, ...(stream === undefined ? {} : { stream: () => stream }) })
    client.on('error', () => undefined)
    clients.push(client)
    await client.connect()
    return client
  }
  const sessionsOf = (role: string) => server.query('SELECT pid FROM pg_stat_activity WHERE usename = $1', [role])
  const exists = async (role: string) => (await server.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [role])).length > 0
  const waiting = (what: string, sign: string) =>
    waitFor(
      what,
      async () => (await server.query(`SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, $1) > 0`, [sign])).length > 0,
    )
  const expectGone = async (role: string, credential: Credential, sessions: pg.Client[]) => {
    for (const session of sessions) await expect(session.query('SELECT 1')).rejects.toThrow()
    await expect(login(credential)).rejects.toMatchObject({ code: expect.stringMatching(/^28/) })
    expect(await sessionsOf(role)).toEqual([])
  }

  beforeAll(async () => {
    server = await startPostgres({ settings: ['max_prepared_transactions=8', 'max_locks_per_transaction=10'] })
    const url = await server.createBroker([GROUP])
    await server.query(`GRANT CREATE ON SCHEMA public TO ${GROUP}`)
    const context = { name: 'warehouse', instance: 'test', timeoutMs: TIMEOUT_MS, concurrency: 2 }
    provider = await postgres.open(postgres.options.parse({ url }), context)
  })
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.end().catch(() => undefined)))
  })
  afterAll(async () => {
    await provider?.close()
    await server?.stop()
  })

  describe('by advisory locks, which are everybody’s', () => {
    const take = (client: pg.Client, roles: readonly string[]) =>
      client.query("SELECT pg_advisory_lock(hashtextextended(t, 0)) FROM unnest($1::text[]) r, LATERAL (VALUES (r), ('mayfly ' || r)) v (t)", [roles])

    it('on its own name', async () => {
      const { handle, role, credential } = await mint()
      const [a, b, c] = await Promise.all([login(credential), login(credential), login(credential)])
      await take(a, [role])
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      await expectGone(role, credential, [a, b, c])
    })

    it('on those of others, of which some are not made yet', async () => {
      const squatter = await mint()
      const victims = await Promise.all([mint(), mint(), mint()])
      const next = requestOf(provider, plan(), params(), TIMEOUT_MS)
      await take(await login(squatter.credential), [...victims.map(({ role }) => role), String(next.handle.role)])
      for (const { handle, role, credential } of victims) {
        const session = await login(credential)
        expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
        await expectGone(role, credential, [session])
      }
      const { credential } = await provider.mint(next)
      const session = await login(credential)
      expect(await provider.revoke(next.handle, TIMEOUT_MS)).toBe('revoked')
      await expectGone(String(next.handle.role), credential, [session])
      expect(await provider.revoke(squatter.handle, TIMEOUT_MS)).toBe('revoked')
    })

    it('while its mint is under way, whose end the revoke waits for', async () => {
      const squatter = await mint()
      const request = requestOf(provider, plan(), params(), TIMEOUT_MS)
      const role = String(request.handle.role)
      await take(await login(squatter.credential), [role])
      // Whoever administers the group may hold up a mint in its middle.
      const administrator = await connect(server.adminUrl)
      await administrator.query(`BEGIN; CREATE ROLE colleague; GRANT ${GROUP} TO colleague`)
      const minting = provider.mint(request)
      await waiting('the mint to hang', `CREATE ROLE "${role}" LOGIN`)
      let ended = false
      const revoking = provider.revoke(request.handle, TIMEOUT_MS).finally(() => {
        ended = true
      })
      await waitFor(
        'the revoke to hang',
        async () =>
          ended || (await server.query(`SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND strpos(query, $1) > 0`, [role])).length > 1,
      )
      expect(ended).toBe(false)
      await administrator.query('ROLLBACK')
      const { credential } = await minting
      expect(await revoking).toBe('revoked')
      expect(await exists(role)).toBe(false)
      await expectGone(role, credential, [])
      await provider.revoke(squatter.handle, TIMEOUT_MS)
    })
  })

  describe('by the row of its own role', () => {
    const CHANGE = `ALTER ROLE CURRENT_USER PASSWORD 'its-own'`

    it('which a transaction of its own has changed', async () => {
      const { handle, role, credential } = await mint()
      const [a, b] = await Promise.all([login(credential), login(credential)])
      await a.query(`BEGIN; ${CHANGE}`)
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      await expectGone(role, credential, [a, b])
    })

    it('which new sessions change again and again', async () => {
      const { handle, role, credential } = await mint()
      const { password } = credential.fields
      let going = true
      const same = `ALTER ROLE CURRENT_USER PASSWORD '${password}'`
      const hammering = [`BEGIN; ${same}`, same, `BEGIN; ${same}`, same, `BEGIN; ${same}`, same].map(async (text) => {
        while (going) {
          const session = await login(credential).catch(() => undefined)
          for (let open = session !== undefined; open && going; ) open = (await session?.query(text).catch(() => undefined)) !== undefined
          await session?.end().catch(() => undefined)
        }
      })
      try {
        await waitFor('sessions', async () => (await sessionsOf(role)).length > 3)
        expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      } finally {
        going = false
        await Promise.all(hammering)
      }
      await expectGone(role, credential, [])
    })

    it.each([
      ['its own', ''],
      ["its group's", `SET ROLE ${GROUP};`],
    ])('which a prepared transaction under %s name keeps without a session', async (_whose, become) => {
      const { handle, role, credential } = await mint()
      const agent = await login(credential)
      await agent.query(`BEGIN; ${CHANGE}; ${become} PREPARE TRANSACTION 'it''s "kept"'`)
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      await expectGone(role, credential, [agent])
      expect(await server.query('SELECT gid FROM pg_prepared_xacts')).toEqual([])
    })
  })

  it('by a prepared transaction that made something, here and in another database', async () => {
    await server.query('CREATE DATABASE elsewhere')
    const admin = await connect(server.adminUrl.replace(/\/postgres$/, '/elsewhere'))
    await admin.query(`GRANT CREATE ON SCHEMA public TO ${GROUP}`)
    const { handle, role, credential } = await mint()
    const [here, there] = [await login(credential), await connect(String(credential.fields.url).replace(/\/postgres$/, '/elsewhere'))]
    await here.query(`BEGIN; CREATE TABLE prepared_here (n int); PREPARE TRANSACTION 'here'`)
    await there.query(`BEGIN; CREATE TABLE prepared_there (n int); SET ROLE ${GROUP}; PREPARE TRANSACTION 'there'`)
    // Another's, which its owner may still commit.
    const other = await mint()
    await (await login(other.credential)).query(`BEGIN; CREATE TABLE prepared_elsewhere (n int); PREPARE TRANSACTION 'another'`)
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    await expectGone(role, credential, [here, there])
    expect(await server.query('SELECT gid FROM pg_prepared_xacts')).toEqual([{ gid: 'another' }])
    expect(await provider.revoke(other.handle, TIMEOUT_MS)).toBe('revoked')
  })

  it('by not reading what it asked for', async () => {
    const { handle, role, credential } = await mint()
    const stream = new Socket()
    const agent = await connect(String(credential.fields.url), stream)
    stream.pause()
    agent.query('SELECT repeat($$x$$, 1000) FROM generate_series(1, 1000000)').catch(() => undefined)
    await waitFor(
      'the server to be stuck in writing',
      async () => (await server.query(`SELECT 1 FROM pg_stat_activity WHERE usename = $1 AND wait_event = 'ClientWrite'`, [role])).length > 0,
    )
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    expect(await sessionsOf(role)).toEqual([])
    stream.destroy()
  })

  it('by settings of its own role', async () => {
    const { handle, role, credential } = await mint()
    const agent = await login(credential)
    for (const setting of ['statement_timeout = 1', 'lock_timeout = 1', `search_path = 'public'`, `client_connection_check_interval = 0`])
      await agent.query(`ALTER ROLE CURRENT_USER SET ${setting}`)
    await agent.query(
      'BEGIN; ALTER ROLE CURRENT_USER RESET ALL; LISTEN mayfly; CREATE TEMP TABLE kept AS SELECT 1; DECLARE c CURSOR WITH HOLD FOR SELECT 1',
    )
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    await expectGone(role, credential, [agent])
  })

  it('by ending the broker’s sessions, or by making itself more', async () => {
    const { handle, role, credential } = await mint()
    const agent = await login(credential)
    await provider.check()
    const ending = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'mayfly_broker'`
    for (const text of [ending, `GRANT "${role}" TO ${GROUP}`, `ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'`, `CREATE ROLE another`])
      await expect(agent.query(text)).rejects.toMatchObject({ code: '42501' })
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
  })

  it('by filling the table of locks, in which case the revoke says so and goes on once there is room', async () => {
    const { handle, role, credential } = await mint()
    const agent = await login(credential)
    // What a session locked stays locked when the statement fails.
    await expect(agent.query('SELECT pg_advisory_lock(n) FROM generate_series(1, 1000000) n')).rejects.toMatchObject({ code: '53200' })
    await expect(provider.revoke(handle, BLOCKED_MS)).rejects.toMatchObject({ kind: 'throttled' })
    await agent.end()
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    await expectGone(role, credential, [agent])
  })

  describe('by what it made', () => {
    it('where the first of its groups may have nothing, of which another gets it', async () => {
      await server.query('CREATE ROLE bystanders NOLOGIN')
      await server.query('GRANT bystanders TO mayfly_broker WITH ADMIN TRUE, INHERIT FALSE, SET FALSE')
      const { handle, role, credential } = await mint(params({ member_of: ['bystanders', GROUP] }))
      const agent = await login(credential)
      const kinds = [
        'TABLE k_table (id serial PRIMARY KEY, x text)',
        'VIEW k_view AS SELECT * FROM k_table',
        'MATERIALIZED VIEW k_seen AS SELECT 1 AS n',
        'STATISTICS k_statistics ON id, x FROM k_table',
        `FUNCTION k_function(integer, text DEFAULT 'x') RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'`,
        `PROCEDURE "k ""procedure"() LANGUAGE sql AS 'SELECT 1'`,
        'AGGREGATE k_aggregate(int4) (sfunc = int4pl, stype = int4)',
        'OPERATOR ## (leftarg = int4, rightarg = int4, procedure = int4pl)',
        'TYPE k_enum AS ENUM ()',
        'TYPE k_row AS (a int)',
        'DOMAIN k_domain AS int',
        'COLLATION k_collation FROM "C"',
        'TEXT SEARCH CONFIGURATION k_search (copy = simple)',
        'TEMP TABLE k_temporary (n int)',
      ]
      for (const kind of kinds) await agent.query(`CREATE ${kind}`)
      await agent.query('SELECT lo_create(0)')
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      expect(await exists(role)).toBe(false)
      const owners = await server.query(`SELECT DISTINCT proowner::regrole::text AS owner FROM pg_proc WHERE proname LIKE 'k%'`)
      expect(owners).toContainEqual({ owner: GROUP })
    })

    it('in such a number that no one transaction could give it away', async () => {
      const { handle, role, credential } = await mint()
      const agent = await login(credential)
      for (let from = 0; from < 4000; from += 200)
        await agent.query(`DO $$ BEGIN FOR i IN ${from}..${from + 199} LOOP EXECUTE format('CREATE TABLE many_%s (n int)', i); END LOOP; END $$`)
      await expect(
        (async () => {
          await server.query(`REASSIGN OWNED BY "${role}" TO ${GROUP}`)
        })(),
      ).rejects.toMatchObject({ code: '53200' })
      let outcome: string | undefined
      for (let attempt = 0; outcome === undefined && attempt < 10; attempt++) {
        const before = await owned(role)
        outcome = await provider.revoke(handle, TIMEOUT_MS).catch(() => undefined)
        expect(await owned(role)).toBeLessThan(before)
        await expectGone(role, credential, [])
      }
      expect(outcome).toBe('revoked')
      expect(await exists(role)).toBe(false)
    }, 60_000)

    it('and another locks, which only keeps the name until then', async () => {
      const { handle, role, credential } = await mint()
      const agent = await login(credential)
      await agent.query(`CREATE TABLE locked (n int); CREATE TABLE free (n int); GRANT SELECT ON locked TO ${GROUP}`)
      const other = await mint()
      const accomplice = await login(other.credential)
      await accomplice.query('BEGIN; SELECT * FROM locked')
      await expect(provider.revoke(handle, BLOCKED_MS)).rejects.toMatchObject({ kind: 'timeout' })
      await expectGone(role, credential, [agent])
      expect(await server.query(`SELECT tableowner FROM pg_tables WHERE tablename = 'free'`)).toEqual([{ tableowner: GROUP }])
      expect(await provider.revoke(other.handle, TIMEOUT_MS)).toBe('revoked')
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      expect(await exists(role)).toBe(false)
    })

    it.each(['what it made', 'its role'])('works for nobody while another locks %s, where it is to be dropped', async (what) => {
      await server.query('CREATE TABLE IF NOT EXISTS secrets AS SELECT 1 AS n; REVOKE ALL ON secrets FROM PUBLIC; CREATE ROLE nobody_much')
      await server.query(`GRANT SELECT ON secrets TO ${GROUP}`)
      const { handle, role, credential } = await mint(params({ owned: 'drop' }))
      const agent = await login(credential)
      await agent.query('CREATE TABLE held (n int); GRANT SELECT ON held TO PUBLIC')
      await agent.query(`CREATE FUNCTION leak() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT n FROM secrets'`)
      const other = await mint()
      const accomplice = await login(other.credential)
      const admin = await connect(server.adminUrl)
      await admin.query('SET ROLE nobody_much')
      expect((await admin.query('SELECT leak()')).rows).toEqual([{ leak: 1 }])
      if (what === 'its role') await accomplice.query(`CREATE TABLE its_own (n int); BEGIN; GRANT SELECT ON its_own TO "${role}"`)
      else await accomplice.query('BEGIN; SELECT * FROM held')
      await expect(provider.revoke(handle, BLOCKED_MS)).rejects.toMatchObject({ kind: 'timeout' })
      await expectGone(role, credential, [agent])
      await expect(admin.query('SELECT leak()')).rejects.toMatchObject({ code: expect.stringMatching(/^42/) })
      expect(await provider.revoke(other.handle, TIMEOUT_MS)).toBe('revoked')
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      expect(await exists(role)).toBe(false)
      await admin.query('RESET ROLE; DROP ROLE nobody_much')
    })
  })

  async function owned(role: string): Promise<number> {
    const [row] = await server.query(`SELECT count(*)::int AS n FROM pg_tables WHERE tableowner = $1`, [role])
    return Number(row?.n)
  }
})
