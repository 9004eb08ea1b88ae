/**
 * The baseline of an emergency in PostgreSQL, a process of its own on the broker's core: as many roles, and a loop that ends them with the
 * statements of the provider, as many at once. Prints the seconds that the ending took.
 */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { scramVerifier } from '../../src/providers/postgres/scram.js'
import { begin, createLogin, disableLogin, dropLogin } from '../../src/providers/postgres/statements.js'

const STATEMENT_MS = 10_000

const [url = '', roles = '0', concurrency = '1'] = process.argv.slice(2)
const pool = new pg.Pool({ connectionString: url, max: Number(concurrency) })
const verifier = await scramVerifier(randomBytes(16).toString('hex'))
const names = Array.from({ length: Number(roles) }, (_, n) => `bare-${randomBytes(8).toString('hex')}-${n}`)
const times = { until: Date.now() + 600_000, expiresAt: Date.now() + 900_000 }

async function inParallel(work: (name: string) => Promise<unknown>): Promise<void> {
  let next = 0
  const worker = async () => {
    for (let name = names[next++]; name !== undefined; name = names[next++]) await work(name)
  }
  await Promise.all(Array.from({ length: Number(concurrency) }, worker))
}

await inParallel((role) => {
  const login = { role, verifier, groups: ['reporting_ro'], connectionLimit: 5, allowed: [], comment: '{}', ...times }
  return pool.query(begin(STATEMENT_MS) + createLogin(login))
})
const started = performance.now()
await inParallel(async (role) => {
  await pool.query(begin(STATEMENT_MS) + disableLogin(role))
  await pool.query(begin(STATEMENT_MS) + dropLogin(role))
})
const seconds = (performance.now() - started) / 1000
await pool.end()
process.stdout.write(`${JSON.stringify({ seconds })}\n`)
