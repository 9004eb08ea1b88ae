import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import pg from 'pg'
import { postgres } from '../../src/providers/postgres.js'
import type { Provider } from '../../src/providers/provider.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { waitFor } from '../support/wait.js'
import { newLeaseId, plan, requestOf, TIMEOUT_MS } from './harness.js'

const GROUP = 'writers'
const context = { name: 'warehouse', instance: 'test', timeoutMs: TIMEOUT_MS, concurrency: 2 }

describe('the postgres provider', () => {
  let server: TestPostgres
  let url: string
  let provider: Provider
  const clients: pg.Client[] = []
  const params = (change: object = {}) => postgres.params.parse({ member_of: [GROUP], ...change })
  const open = (change: object = {}, where = context) => postgres.open(postgres.options.parse({ url, ...change }), where)
  const mint = async (given = params()) => {
    const request = requestOf(provider, plan(), given, TIMEOUT_MS)
    const { credential } = await provider.mint(request)
    return { handle: request.handle, role: String(request.handle.role), credential, request }
  }
  const connect = async (connectionString: unknown, database?: string) => {
    const address = new URL(String(connectionString))
    if (database !== undefined) address.pathname = `/${database}`
    const client = new pg.Client({ connectionString: address.href })
    client.on('error', () => undefined)
    clients.push(client)
    await client.connect()
    return client
  }
  const ownerOf = async (table: string) => (await server.query('SELECT tableowner FROM pg_tables WHERE tablename = $1', [table]))[0]?.tableowner
  const exists = async (role: string) => (await server.query('SELECT 1 FROM pg_roles WHERE rolname = $1', [role])).length > 0

  beforeAll(async () => {
    server = await startPostgres()
    url = await server.createBroker([GROUP])
    await server.query(`GRANT CREATE ON SCHEMA public TO ${GROUP}`)
    provider = await open()
  })
  afterEach(async () => {
    await Promise.all(clients.splice(0).map((client) => client.end()))
  })
  afterAll(async () => {
    await provider.close()
    await server.stop()
  })

  describe('what the agent made', () => {
    it('goes to its first group role when the login is dropped', async () => {
      const { handle, role, credential } = await mint()
      await (await connect(credential.fields.url)).query('CREATE TABLE made AS SELECT 1 AS n')
      expect(await ownerOf('made')).toBe(role)
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      expect(await exists(role)).toBe(false)
      expect(await ownerOf('made')).toBe(GROUP)
    })

    it('never becomes the broker’s: a SECURITY DEFINER function left behind cannot make roles', async () => {
      const { handle, credential } = await mint()
      const agent = await connect(credential.fields.url)
      await agent.query(`CREATE FUNCTION escalate() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'CREATE ROLE taken_over CREATEROLE'`)
      await provider.revoke(handle, TIMEOUT_MS)
      const next = await mint()
      const second = await connect(next.credential.fields.url)
      await expect(second.query('SELECT escalate()')).rejects.toMatchObject({ code: '42501' })
      await provider.revoke(next.handle, TIMEOUT_MS)
      expect(await exists('taken_over')).toBe(false)
    })

    it('is dropped where the role says so', async () => {
      const { handle, credential } = await mint(params({ owned: 'drop' }))
      await (await connect(credential.fields.url)).query('CREATE TABLE scratch AS SELECT 1 AS n')
      await provider.revoke(handle, TIMEOUT_MS)
      expect(await ownerOf('scratch')).toBeUndefined()
    })

    it('is reached in every database in which there is something', async () => {
      await server.query('CREATE DATABASE elsewhere')
      const elsewhere = await connect(server.adminUrl, 'elsewhere')
      await elsewhere.query(`GRANT CREATE ON SCHEMA public TO ${GROUP}`)
      const { handle, role, credential } = await mint()
      await (await connect(credential.fields.url)).query('CREATE TABLE here AS SELECT 1 AS n')
      await (await connect(credential.fields.url, 'elsewhere')).query('CREATE TABLE there AS SELECT 1 AS n')
      await provider.revoke(handle, TIMEOUT_MS)
      expect(await exists(role)).toBe(false)
      expect((await elsewhere.query(`SELECT tableowner FROM pg_tables WHERE tablename = 'there'`)).rows).toEqual([{ tableowner: GROUP }])
    })

    it('is left to a person, with the login dead, when the handle does not say whose it shall be', async () => {
      const { handle, role, credential } = await mint()
      await (await connect(credential.fields.url)).query('CREATE TABLE orphaned AS SELECT 1 AS n')
      await expect(provider.revoke({ role }, TIMEOUT_MS)).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('by hand') })
      await expect(connect(credential.fields.url)).rejects.toMatchObject({ code: '28000' })
      expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    })
  })

  it('cuts a session in the middle of a transaction, and what it had not committed is gone', async () => {
    const { handle, credential } = await mint()
    const agent = await connect(credential.fields.url)
    await agent.query('BEGIN; CREATE TABLE uncommitted AS SELECT 1 AS n')
    const sleeping = agent.query('SELECT pg_sleep(60)')
    const cut = expect(sleeping).rejects.toMatchObject({ code: '57P01' })
    await waitFor(
      'the query to run',
      async () => (await server.query(`SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND state = 'active'`)).length > 0,
    )
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    await cut
    expect(await ownerOf('uncommitted')).toBeUndefined()
  })

  it('lets no login through that races the revoke', async () => {
    for (let round = 0; round < 5; round++) {
      const { handle, role, credential } = await mint()
      let going = true
      const hammering = Array.from({ length: 4 }, async () => {
        while (going) await connect(credential.fields.url).catch(() => undefined)
      })
      await waitFor('a login', async () => (await server.query('SELECT 1 FROM pg_stat_activity WHERE usename = $1', [role])).length > 0)
      await provider.revoke(handle, TIMEOUT_MS)
      const sessions = await server.query('SELECT 1 FROM pg_stat_activity WHERE backend_type = $1 AND usesysid NOT IN (SELECT oid FROM pg_roles)', [
        'client backend',
      ])
      going = false
      await Promise.all(hammering)
      expect(sessions).toEqual([])
      await Promise.all(clients.splice(0).map((client) => client.end().catch(() => undefined)))
    }
  })

  it('revokes while every connection for mints is taken', async () => {
    const { handle } = await mint()
    const administrator = await connect(server.adminUrl)
    await administrator.query(`BEGIN; CREATE ROLE colleague; GRANT ${GROUP} TO colleague`)
    const requests = Array.from({ length: context.concurrency }, () => requestOf(provider, plan(), params(), 2000))
    const stuck = requests.map((request) => provider.mint(request).catch((error: unknown) => error))
    await waitFor('the mints to hang', async () => {
      const waiting = await server.query(`SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = 'mayfly/test'`)
      return waiting.length === context.concurrency
    })
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
    for (const outcome of await Promise.all(stuck)) expect(outcome).toMatchObject({ kind: 'timeout' })
    await administrator.query('ROLLBACK')
    for (const { handle } of requests) expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('absent')
  })

  it('makes many logins at once without tripping over the catalogue', async () => {
    const wide = await open({}, { ...context, concurrency: 8 })
    const requests = Array.from({ length: 60 }, () => requestOf(wide, plan(), params(), TIMEOUT_MS))
    await Promise.all(requests.map((request) => wide.mint(request)))
    const outcomes = await Promise.all(requests.map(({ handle }) => wide.revoke(handle, TIMEOUT_MS)))
    expect(new Set(outcomes)).toEqual(new Set(['revoked']))
    await wide.close()
  })

  it('lets a login open no more sessions than its role allows', async () => {
    const { credential, handle } = await mint(params({ connection_limit: 1 }))
    await connect(credential.fields.url)
    await expect(connect(credential.fields.url)).rejects.toMatchObject({ code: '53300' })
    await provider.revoke(handle, TIMEOUT_MS)
  })

  it('works under a stable admin role, so that another login can take over its leases', async () => {
    await server.query('CREATE ROLE lease_admin NOLOGIN CREATEROLE')
    await server.query(`GRANT ${GROUP} TO lease_admin WITH ADMIN OPTION`)
    const logins = await Promise.all(['blue', 'green'].map(async (name) => server.createBroker([], { name })))
    await server.query('ALTER ROLE blue NOCREATEROLE; ALTER ROLE green NOCREATEROLE; GRANT lease_admin TO blue, green')
    const [blue, green] = await Promise.all(logins.map((login) => open({ url: login, admin_role: 'lease_admin' })))
    if (blue === undefined || green === undefined) throw new Error('two providers')
    await blue.check([{ name: 'r', params: params() }])
    const request = requestOf(blue, plan(), params(), TIMEOUT_MS)
    const { credential } = await blue.mint(request)
    const agent = await connect(credential.fields.url)
    await agent.query('CREATE TABLE under_admin AS SELECT 1 AS n')
    expect(await green.revoke(request.handle, TIMEOUT_MS)).toBe('revoked')
    await expect(agent.query('SELECT 1')).rejects.toThrow()
    expect(await ownerOf('under_admin')).toBe(GROUP)
    await Promise.all([blue.close(), green.close()])
  })

  it('is not led astray by functions that a tenant put where its own would be looked up', async () => {
    await server.query('GRANT CREATE ON SCHEMA public TO PUBLIC')
    for (const signature of ['to_timestamp(numeric)', 'hashtextextended(text, int)', 'pg_terminate_backend(int)', 'starts_with(name, text)'])
      await server.query(`CREATE FUNCTION public.${signature} RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'astray'; END $$`)
    const { handle } = await mint()
    await provider.renew?.(handle, Date.now() + 90_000, TIMEOUT_MS)
    expect(await provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
  })

  describe('check', () => {
    it('names what is missing and how to mend it', async () => {
      const weak = await server.createBroker([], { name: 'weak' })
      await server.query('ALTER ROLE weak NOCREATEROLE NOINHERIT')
      const opened = await open({ url: weak })
      await expect(opened.check()).rejects.toMatchObject({
        kind: 'refused',
        message: expect.stringMatching(/CREATEROLE.*NOINHERIT.*docs\/providers\/postgres\.md/),
      })
      await opened.close()
    })

    it('looks at the groups of each role', async () => {
      await server.query('CREATE ROLE ungranted NOLOGIN; CREATE ROLE above CREATEDB NOLOGIN; GRANT above TO writers')
      const check = provider.check([
        { name: 'one', params: params({ member_of: ['ungranted'] }) },
        { name: 'two', params: params({ member_of: ['not-there'] }) },
        { name: 'three', params: params() },
      ])
      await expect(check).rejects.toThrow(
        /role "one": the broker cannot grant "ungranted".*role "two": there is no database role "not-there".*role "three": "above"/,
      )
      await expect(mint()).rejects.toMatchObject({ kind: 'refused' })
      await expect(provider.check([{ name: 'three', params: params({ allow: ['above'] }) }])).resolves.toBeUndefined()
      await server.query('REVOKE above FROM writers')
      await expect(provider.check([{ name: 'three', params: params() }])).resolves.toBeUndefined()
    })
  })

  it('says where agents find the database, if that is not where the broker does', async () => {
    const told = await open({ url: `${url}?sslmode=disable`, host: 'db.example', port: 6432 })
    const request = requestOf(told, plan(), params({ database: 'reports' }), TIMEOUT_MS)
    const { credential } = await told.mint(request)
    expect(credential.env).toMatchObject({
      PGHOST: 'db.example',
      PGPORT: '6432',
      PGDATABASE: 'reports',
      PGSSLMODE: 'disable',
      PGUSER: request.handle.role,
    })
    await told.revoke(request.handle, TIMEOUT_MS)
    await told.close()
  })

  it.each(['', 'postgres://', 'http://a:b@host/db', 'postgres://host/db', 'postgres://user@host', 'postgres://user@/db'])(
    'refuses the url %p',
    (bad) => {
      const { error } = postgres.options.safeParse({ url: bad })
      expect(error?.issues[0]?.message).toContain('postgres://user:password@host:port/database')
    },
  )

  it('tells an upstream apart by its place, not by its credentials', () => {
    const at = (address: string) => postgres.target(postgres.options.parse({ url: address }))
    expect(at('postgres://a:secret@db:5432/x')).toBe(at('postgres://b:other@db/x'))
    expect(at('postgres://a:secret@db/x')).not.toBe(at('postgres://a:secret@db/y'))
    expect(at('postgres://a:secret@db/x')).not.toContain('secret')
  })

  it('lists what another connection made, page by page', async () => {
    const made = Array.from({ length: 510 }, () => `mf-test-${newLeaseId().slice('lease_'.length)}`)
    await server.query(made.map((role) => `CREATE ROLE "${role}"`).join(';'))
    const found: string[] = []
    for await (const { handle } of provider.list?.() ?? []) found.push(String(handle.role))
    expect(found.sort()).toEqual(made.sort())
    await server.query(made.map((role) => `DROP ROLE "${role}"`).join(';'))
  })
})
