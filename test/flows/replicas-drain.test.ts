import { rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Answer, type BrokerProcess, type Prepared, prepare, SHORT_LIVED, startBrokerProcess, taskRequest } from '../support/broker.js'
import { type HoldingProxy, startHoldingProxy } from '../support/holding-proxy.js'
import { startPostgres, type TestPostgres } from '../support/postgres.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

const ROLE = 'warehouse-read'

let postgres: TestPostgres
let redis: TestRedis
let proxy: HoldingProxy
let prepared: Prepared
/** The same, with an upstream that is waited for longer than a drain may take. */
let patient: Prepared
const running = new Set<BrokerProcess>()

beforeAll(async () => {
  ;[postgres, redis] = await Promise.all([startPostgres(), startRedis()])
  proxy = await startHoldingProxy({ host: postgres.host, port: postgres.port })
  const url = new URL(await postgres.createBroker(['reporting_ro']))
  url.port = String(proxy.port)
  const options = { redisSocket: redis.socketPath, postgresUrl: url.href, partitions: 4 }
  prepared = await prepare({ ...options, postgresTimeout: '3s' })
  patient = await prepare({ ...options, postgresTimeout: '20s', like: prepared })
}, 60_000)
afterAll(async () => {
  await Promise.all([...running].map((broker) => broker.kill()))
  await proxy?.close()
  await Promise.all([postgres?.stop(), redis?.stop()])
  for (const { folder } of [prepared, patient].filter(Boolean)) rmSync(folder, { recursive: true, force: true })
})

async function start(configuration = prepared): Promise<BrokerProcess> {
  const broker = await startBrokerProcess(configuration, { node: SHORT_LIVED })
  running.add(broker)
  void broker.ended.then(() => running.delete(broker))
  return broker
}

const loginsUpstream = async () => Number((await postgres.query("select count(*)::int as n from pg_roles where rolname like 'mf-test-%'"))[0]?.n)
const noLogins = () => waitFor('no login upstream', async () => (await loginsUpstream()) === 0, 60_000)
const openTask = (broker: BrokerProcess) => broker.openTask({ envelope: [{ role: ROLE }] })
const obtain = async (broker: BrokerProcess, task: string) =>
  broker.call('POST', '/v1/leases', await prepared.token('triage'), { task, role: ROLE, ttl: 300 })
const complete = async (broker: BrokerProcess, task: string, wait = 0) =>
  broker.call('POST', `/v1/tasks/${task}/complete${wait > 0 ? `?wait=${wait}` : ''}`, await prepared.token('flows'), {})

/** Whether a new connection is taken. */
const isOpen = ({ url }: BrokerProcess) =>
  new Promise<boolean>((resolve) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })

/** A client with one connection, which it keeps. */
function oneConnection({ url }: BrokerProcess) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 })
  return {
    ask: (method: string, path: string, token: string, body?: unknown) =>
      new Promise<{ status: number; connection?: string; reused: boolean; code?: string }>((resolve, reject) => {
        const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
        const asked = request(new URL(path, url), { method, agent, headers }, (answer) => {
          let text = ''
          answer.on('data', (chunk) => (text += chunk))
          answer.on('end', () => {
            const { code } = JSON.parse(text) as { code?: string }
            resolve({ status: answer.statusCode ?? 0, connection: answer.headers.connection, reused: asked.reusedSocket, code })
          })
        })
        asked.on('error', reject)
        asked.end(body === undefined ? undefined : JSON.stringify(body))
      }),
    close: () => agent.destroy(),
  }
}

describe('three brokers that are replaced one after the other, under load', () => {
  it('fail no request that a client may not simply ask another for, and leave nothing behind', async () => {
    const brokers = await Promise.all([start(), start(), start()])
    const failed: string[] = []
    const turned: string[] = []
    let done = 0
    let over = false
    let turn = 0

    /** Asks the next broker where this one takes no connection or says that it is draining; anything else is a failure. */
    const persist = async (ask: (broker: BrokerProcess) => Promise<Answer>): Promise<Answer> => {
      for (;;) {
        const broker = brokers[turn++ % brokers.length] as BrokerProcess
        const answer = await ask(broker).catch((error: Error & { cause?: { code?: string } }) => {
          if (error.cause?.code !== 'ECONNREFUSED') failed.push(`${error.cause?.code}: ${error.cause}`)
          return undefined
        })
        if (answer?.status === 503 && answer.body.code === 'draining') turned.push(answer.headers.get('connection') ?? '')
        else if (answer) {
          if (answer.status >= 400) failed.push(JSON.stringify(answer.body))
          return answer
        }
        await pause(5)
      }
    }
    const life = async () => {
      const flows = await prepared.token('flows')
      const body = { ...taskRequest(), envelope: [{ role: ROLE }] }
      const opened = await persist((broker) => broker.call('POST', '/v1/tasks', flows, body))
      const task = opened.body.task.id
      await persist((broker) => obtain(broker, task))
      await persist((broker) => complete(broker, task, 5))
      done++
    }
    const lines = Promise.all(
      Array.from({ length: 4 }, async () => {
        while (!over) await life()
      }),
    )
    for (const [n, broker] of brokers.entries()) {
      const before = done
      await waitFor('work to be done', () => done > before + 4, 30_000)
      broker.signal('SIGTERM')
      expect(await broker.exitCode).toBe(0)
      brokers[n] = await start()
    }
    over = true
    await lines
    expect(failed).toEqual([])
    expect(turned.every((connection) => connection === 'close')).toBe(true)
    await noLogins()
    await Promise.all(brokers.map((broker) => broker.stop()))
  }, 300_000)
})

describe('a broker that is told to stop', () => {
  it('answers what is in flight, tells kept connections that they are over, and takes no new ones', async () => {
    const broker = await start()
    const [task, idle, busy] = [await openTask(broker), oneConnection(broker), oneConnection(broker)]
    const [agent, flows] = [await prepared.token('triage'), await prepared.token('flows')]
    expect(await idle.ask('GET', '/v1/whoami', agent)).toMatchObject({ status: 200, connection: 'keep-alive' })
    proxy.holdAfter('LOGIN PASSWORD')
    const asked = busy.ask('POST', '/v1/leases', agent, { task, role: ROLE, ttl: 300 })
    await proxy.held()

    // As npm does with a keystroke: the terminal sends one to each, and npm hands its own on.
    broker.signal('SIGINT')
    broker.signal('SIGTERM')
    await waitFor('no new connection to be taken', async () => !(await isOpen(broker)))
    const turned = await idle.ask('POST', '/v1/tasks', flows, { ...taskRequest(), envelope: [{ role: ROLE }] })
    expect(turned).toEqual({ status: 503, code: 'draining', connection: 'close', reused: true })
    proxy.release()
    expect(await asked).toMatchObject({ status: 201, connection: 'close' })
    expect(await broker.exitCode).toBe(0)

    // What it handed out is as good as before: another broker takes it back with its task.
    const next = await start()
    expect(await loginsUpstream()).toBe(1)
    expect((await complete(next, task, 5)).status).toBe(200)
    await noLogins()
    await next.stop()
  }, 60_000)

  it('ends at once when it is told again, and its successor settles what was under way', async () => {
    const broker = await start()
    const task = await openTask(broker)
    proxy.holdAfter('LOGIN PASSWORD')
    const asked = obtain(broker, task).catch(() => undefined)
    await proxy.held()
    let ended = false
    void broker.ended.then(() => (ended = true))
    await waitFor('the end', () => {
      broker.signal('SIGTERM')
      return ended
    })
    expect(await broker.exitCode).toBe(1)
    proxy.release()
    await asked
    const next = await start()
    await noLogins()
    await next.stop()
  }, 60_000)

  it('does not wait for an upstream that hangs, and leaves what is closing to the ledger', async () => {
    const broker = await start(patient)
    const task = await openTask(broker)
    const { body } = await obtain(broker, task)
    proxy.holdAfter('DROP ROLE IF EXISTS')
    expect((await complete(broker, task)).status).toBe(200)
    await proxy.held()
    const began = performance.now()
    broker.signal('SIGTERM')
    expect(await broker.exitCode).toBe(0)
    // Ten seconds for what is under way, and three for its connections: less than its timeout, and than the grace that the chart gives.
    expect(performance.now() - began).toBeLessThan(19_000)
    proxy.release()
    const next = await start()
    const seen = async () => (await next.call('GET', `/v1/leases/${body.lease.id}`, await prepared.token('oncall'))).body.lease.state
    expect(await seen()).toBe('closing')
    // The claim of the one that is gone runs out.
    await waitFor('the next to take it over', async () => (await seen()) === 'revoked', 60_000)
    await noLogins()
    await next.stop()
  }, 120_000)
})
