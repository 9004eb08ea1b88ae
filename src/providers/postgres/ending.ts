import type { PoolConfig } from 'pg'
import { z } from 'zod'
import type { Deadline } from '../deadline.js'
import { ProviderError } from '../provider.js'
import { DEPENDENT_OBJECTS, PREPARED, run, SLIPPED_IN, stateOf, surviveBreaks, TRIPPED } from './connection.js'
import type * as statements from './statements.js'

export interface Login {
  readonly role: string
  readonly heir?: string | undefined
  readonly drop_owned?: true | undefined
}
export interface Server {
  readonly url: string
  /** In the url's database, on a connection that is kept. */
  execute(time: Deadline, text: string): ReturnType<typeof run>
  /** How a transaction on another connection begins. */
  begin(leftMs: number): string
}

const MOST_TRIPS = 20
const LAST_OID = '4294967295'
const preparedShape = z.array(z.object({ gid: z.string(), owner: z.string(), database: z.string() }))
const someShape = z.object({ before: z.string().nullable() })

/** Ends a login: no further login, then no session, then nothing that is left of it. What an agent can hold is waited for by the last step alone. */
export function openEnding(sql: typeof statements, server: Server) {
  const rows = async (time: Deadline, text: string) => (await server.execute(time, text)).at(-1)?.rows ?? []

  async function end(login: Login, time: Deadline): Promise<'revoked' | 'absent'> {
    const { role } = login
    let found = false
    let gaveAway = false
    for (let trips = 0; ; ) {
      try {
        const [seen] = await rows(time, sql.disableLogin(role))
        if (seen?.found !== true) return found ? 'revoked' : 'absent'
        found = true
        await server.execute(time, sql.dropLogin(role))
        return 'revoked'
      } catch (error) {
        const state = stateOf(error)
        if (state === SLIPPED_IN) continue
        if (TRIPPED.has(state) && trips++ < MOST_TRIPS) continue
        if (state === PREPARED) await undoPrepared(time, role)
        else if (state === DEPENDENT_OBJECTS && !gaveAway) {
          await giveAwayEverywhere(time, login)
          gaveAway = true
        } else throw error
      }
    }
  }

  async function undoPrepared(time: Deadline, role: string): Promise<void> {
    for (const { gid, owner, database } of preparedShape.parse(await rows(time, sql.findPrepared(role)))) {
      // Not by SET ROLE, which would outlive this on a pooled server connection.
      const options = `-c role=${owner.replace(/[\\\s]/g, '\\$&')} -c statement_timeout=${time.left()}`
      await elsewhere(time, database, { options }, (execute) => execute(() => sql.undoPrepared(gid)))
    }
  }

  /** Objects in other databases than the broker's can only be reached from within them. */
  async function giveAwayEverywhere(time: Deadline, { role, heir, drop_owned }: Login): Promise<void> {
    await server.execute(time, sql.weaken(role, drop_owned === undefined ? (heir ?? role) : undefined))
    if (heir === undefined && drop_owned === undefined)
      throw new ProviderError(
        'refused',
        'a role that can no longer log in still owns something; REASSIGN or DROP OWNED by hand, see docs/providers/postgres.md',
      )
    await giveAway(role, heir, (text) => server.execute(time, text))
    const here = decodeURIComponent(new URL(server.url).pathname.slice(1))
    for (const { name } of await rows(time, sql.databasesOf(role)))
      if (typeof name === 'string' && name !== here)
        await elsewhere(time, name, {}, (execute) => giveAway(role, heir, (text) => execute((left) => `${server.begin(left)} ${text}`)))
  }

  async function giveAway(role: string, heir: string | undefined, execute: (text: string) => ReturnType<typeof run>): Promise<void> {
    for (let before: string | null = LAST_OID; before; ) {
      const answer: Awaited<ReturnType<typeof run>> = await execute(sql.giveAwaySome(role, heir, before))
      before = someShape.parse(answer.at(-1)?.rows[0]).before
    }
    await execute(sql.giveAway(role, heir))
  }

  async function elsewhere(
    time: Deadline,
    database: string,
    config: PoolConfig,
    work: (execute: (statements: (leftMs: number) => string) => ReturnType<typeof run>) => Promise<unknown>,
  ): Promise<void> {
    const { default: pg } = await import('pg')
    const url = new URL(server.url)
    url.pathname = `/${encodeURIComponent(database)}`
    const pool = surviveBreaks(new pg.Pool({ ...config, connectionString: url.href, max: 1, connectionTimeoutMillis: time.left() }))
    try {
      await work((statements) => run(pool, time, statements))
    } finally {
      await pool.end()
    }
  }

  return { end }
}
