/**
 * The baseline of an emergency in PostgreSQL, a process of its own on the broker's core: as many roles, and a loop that ends them with the
 * statements of the provider, as many at once, by as many broker users. Prints the seconds that the ending took.
 */
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { scramVerifier } from '../../src/providers/postgres/scram.js'
import { begin, createLogin, disableLogin, dropLogin } from '../../src/providers/postgres/statements.js'

const STATEMENT_MS = 10_000

const [urls = '[]', roles = '0', concurrency = '1'] = process.argv.slice(2)
const max = Number(concurrency) / (JSON.parse(urls) as string[]).length
const pools = (JSON.parse(urls) as string[]).map((connectionString) => new pg.Pool({ connectionString, max }))
const verifier = await scramVerifier(randomBytes(16).toString('hex'))
const names = Array.from({ length: Number(roles) }, (_, n) => `bare-${randomBytes(8).toString('hex')}-${n}`)
const times = { until: Date.now() + 600_000, expiresAt: Date.now() + 900_000 }

/** Each name by the user that made it. */
async function inParallel(work: (name: string, pool: pg.Pool) => Promise<unknown>): Promise<void> {
  await Promise.all(
    pools.flatMap((pool, at) => {
      let next = at
      const worker = async () => {
        for (;;) {
          const name = names[next]
          if (name === undefined) return
          next += pools.length
          await work(name, pool)
        }
      }
      return Array.from({ length: max }, worker)
    }),
  )
}

await inParallel((role, pool) => {
  const login = { role, verifier, groups: ['reporting_ro'], connectionLimit: 5, allowed: [], comment: '{}', ...times }
  return pool.query(begin(STATEMENT_MS) + createLogin(login))
})
const started = performance.now()
await inParallel(async (role, pool) => {
  await pool.query(begin(STATEMENT_MS) + disableLogin(role))
  await pool.query(begin(STATEMENT_MS) + dropLogin(role))
})
const seconds = (performance.now() - started) / 1000
await Promise.all(pools.map((pool) => pool.end()))
process.stdout.write(`${JSON.stringify({ seconds })}\n`)
