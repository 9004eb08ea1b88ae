import pg from 'pg'
import { checking } from '../../support/answers.js'
import { type Answer, startTestBroker, type TestBroker, type TestBrokerOptions } from '../../support/broker.js'
import { eventsOf, type Told } from '../../support/events.js'
import { startPostgres, type TestPostgres } from '../../support/postgres.js'
import { startRedis, type TestRedis } from '../../support/redis.js'
import { waitFor } from '../../support/wait.js'

/**
 * A broker on a real Redis and a real PostgreSQL, which all flows of a file share. Its database has the table `orders`, which the roles
 * `warehouse-read` and `warehouse-write` (restricted, so that a human has to agree) give logins for.
 */
export interface Scene extends Pick<TestBroker, 'call' | 'token' | 'openTask'> {
  readonly test: TestBroker
  readonly redis: TestRedis
  readonly postgres: TestPostgres
  /** One more broker of the same configuration on the same ledger; whoever starts it stops it. */
  replica(): Promise<TestBroker>
  /** Asks for a lease, as the agent `triage` unless another caller is named. */
  obtain(task: string, role: string, more?: Record<string, unknown>, sub?: string): Promise<Answer>
  /** The same, and anything but a credential is an error. */
  issued(task: string, role: string, more?: Record<string, unknown>, sub?: string): Promise<Answer['body']>
  /** Ends a task as its orchestrator, and waits for what became of its leases. */
  end(task: string, how?: 'complete' | 'fail' | 'cancel'): Promise<Answer>
  /** A lease as an operator sees it. */
  leaseOf(id: string): Promise<Answer['body']>
  /** Logins that exist upstream. */
  logins(): Promise<string[]>
  /** Resolves once no login is left upstream. */
  nothingUpstream(): Promise<void>
  /** Ends every task that was opened here, for the next test to begin with nothing upstream. */
  clear(): Promise<void>
  /** Everything told so far that fits. */
  told(fits?: (event: Told) => boolean): Promise<Told[]>
  stop(): Promise<void>
}

const WRITE = 'provider: warehouse, access: write, max_ttl: 15m, max_lifetime: 1h, params: {member_of: [reporting_rw]}'

/** `groups`: more NOLOGIN roles that the broker gives logins for. */
type SceneOptions = Omit<TestBrokerOptions, 'redisSocket' | 'postgresUrl'> & { readonly groups?: readonly string[] }

/** To be called in `beforeAll`, and `stop` in `afterAll`: it takes some seconds. `about`: what is made of the PostgreSQL that runs by then. */
export async function startScene(about: SceneOptions | ((postgres: TestPostgres) => Promise<SceneOptions>) = {}): Promise<Scene> {
  const [postgres, redis] = await Promise.all([startPostgres(), startRedis(['appendonly yes'])])
  await postgres.query(
    'create role reporting_ro nologin; create role reporting_rw nologin; create table orders (id int); insert into orders values (1); ' +
      'grant select on orders to reporting_ro; grant select, insert, update on orders to reporting_rw',
  )
  const options = typeof about === 'function' ? await about(postgres) : about
  const postgresUrl = await postgres.createBroker(['reporting_ro', 'reporting_rw', ...(options.groups ?? [])])
  const roles = `  warehouse-write: {sensitivity: restricted, ${WRITE}}\n${options.roles ?? ''}`
  const started = { ...options, roles, redisSocket: redis.socketPath, postgresUrl }
  const test = await startTestBroker(started)
  const call = checking(test.call)
  const flows = await test.token('flows')
  const logins = async () => (await postgres.query("select rolname from pg_roles where rolname like 'mf-test-%'")).map(({ rolname }) => `${rolname}`)
  const obtain: Scene['obtain'] = async (task, role, more = {}, sub = 'triage') =>
    call('POST', '/v1/leases', await test.token(sub), { task, role, ...more })
  const opened = new Set<string>()
  const end: Scene['end'] = async (task, how = 'complete') => call('POST', `/v1/tasks/${task}/${how}?wait=10`, flows, {})
  const nothingUpstream = async () => void (await waitFor('no login upstream', async () => (await logins()).length === 0))
  return {
    test,
    redis,
    postgres,
    call,
    token: test.token,
    async openTask(more) {
      const task = await test.openTask(more)
      opened.add(task)
      return task
    },
    replica: () => startTestBroker({ ...started, like: test }),
    obtain,
    async issued(...asked) {
      const { status, body } = await obtain(...asked)
      if (status !== 201) throw new Error(`nothing was issued: ${status} ${JSON.stringify(body)}`)
      return body
    },
    end,
    leaseOf: async (id) => (await call('GET', `/v1/leases/${id}`, await test.token('oncall'))).body.lease,
    logins,
    nothingUpstream,
    async clear() {
      await Promise.all([...opened].map((task) => call('POST', `/v1/tasks/${task}/cancel`, flows, {})))
      opened.clear()
      await nothingUpstream()
    },
    told: async (fits = () => true) => (await eventsOf(test, redis.client)).filter(fits),
    async stop() {
      await test.stop()
      await Promise.all([postgres.stop(), redis.stop()])
    },
  }
}

/** An open session of a minted login; whoever opened it ends it, or sees it cut. */
export async function connected(url: string): Promise<{ client: pg.Client; isCut(): boolean }> {
  const client = new pg.Client({ connectionString: url })
  let cut = false
  client.on('error', () => {})
  client.on('end', () => {
    cut = true
  })
  await client.connect()
  return { client, isCut: () => cut }
}

/** Runs one statement with a minted login, and answers its rows. @throws what PostgreSQL refuses */
export async function query(url: string, text: string): Promise<unknown[]> {
  const { client } = await connected(url)
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}
