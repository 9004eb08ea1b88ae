import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import pg from 'pg'
import { startPostgres, type TestPostgres } from './postgres.js'
import { waitFor } from './wait.js'

describe('a PostgreSQL of its own', () => {
  let postgres: TestPostgres
  beforeAll(async () => {
    postgres = await startPostgres()
  })
  afterAll(() => postgres.stop())

  it('answers as the superuser and logs each statement', async () => {
    expect(await postgres.query('SELECT $1::text AS said', ['canary-in-the-log'])).toEqual([{ said: 'canary-in-the-log' }])
    await waitFor('the statement in the log', () => readFileSync(postgres.logPath, 'utf8').includes('canary-in-the-log'))
  })

  it('asks for a password', async () => {
    const client = new pg.Client({ connectionString: postgres.urlFor('postgres', 'wrong') })
    await expect(client.connect()).rejects.toMatchObject({ code: '28P01' })
  })

  it('makes a broker role that may create roles and grant its groups, and is no superuser', async () => {
    const url = await postgres.createBroker(['readers'])
    const client = new pg.Client({ connectionString: url })
    await client.connect()
    const { rows } = await client.query(`SELECT rolsuper, rolcreaterole, pg_has_role('readers', 'MEMBER WITH ADMIN OPTION') AS admin,
                                         pg_has_role('readers', 'USAGE') AS reads
                                         FROM pg_roles WHERE rolname = current_user`)
    await client.end()
    expect(rows).toEqual([{ rolsuper: false, rolcreaterole: true, admin: true, reads: false }])
  })
})
