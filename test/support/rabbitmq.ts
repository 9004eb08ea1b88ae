import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { closedPort } from './faulty-upstream.js'
import { waitFor } from './wait.js'

/** A real RabbitMQ with its management plugin, of a test's own, on free loopback ports, with its data in a temporary folder. */
export interface TestRabbitmq {
  readonly host: string
  /** Of AMQP. */
  readonly port: number
  /** Of the management API. */
  readonly apiPort: number
  /** All that the server logged, at its most talkative: where a leaked secret would show. */
  log(): string
  /** A request to the management API as the administrator of the tests, with other eyes than the broker's. */
  ask(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }>
  /** The broker's own user, as docs/providers/rabbitmq.md says to make it. Answers its url. */
  createBroker(name?: string, tags?: string): Promise<string>
  stop(): Promise<void>
}

const HOST = '127.0.0.1'
const START_MS = 60_000
/** Debian's is a wrapper that insists on its own folders; this is the server's own script. */
const PATH = `/usr/lib/rabbitmq/bin:${process.env.PATH}:/usr/sbin`

/** Starts a server; takes about ten seconds, so that a test file shares one. */
export async function startRabbitmq(): Promise<TestRabbitmq> {
  const folder = mkdtempSync(join(tmpdir(), 'mayfly-rabbitmq-'))
  const [port, apiPort, epmdPort, distributionPort] = await Promise.all([closedPort(), closedPort(), closedPort(), closedPort()])
  const password = randomBytes(16).toString('hex')
  const write = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text)
    return join(folder, name)
  }
  const config = [
    `listeners.tcp.1 = ${HOST}:${port}`,
    `management.tcp.ip = ${HOST}`,
    `management.tcp.port = ${apiPort}`,
    'default_user = tests',
    `default_pass = ${password}`,
    'default_user_tags.administrator = true',
    'log.console = true',
    'log.console.level = debug',
    'log.file = false',
  ]
  const env = {
    ...process.env,
    PATH,
    HOME: folder,
    ERL_EPMD_PORT: String(epmdPort),
    RABBITMQ_NODENAME: `mayfly-${randomBytes(4).toString('hex')}@localhost`,
    RABBITMQ_BASE: folder,
    RABBITMQ_MNESIA_BASE: join(folder, 'mnesia'),
    RABBITMQ_LOG_BASE: folder,
    RABBITMQ_PID_FILE: join(folder, 'pid'),
    RABBITMQ_FEATURE_FLAGS_FILE: join(folder, 'feature_flags'),
    RABBITMQ_CONF_ENV_FILE: write('env.conf', ''),
    RABBITMQ_CONFIG_FILE: write('rabbitmq.conf', `${config.join('\n')}\n`),
    RABBITMQ_ENABLED_PLUGINS_FILE: write('enabled_plugins', '[rabbitmq_management].\n'),
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: `-setcookie ${randomBytes(16).toString('hex')} -kernel inet_dist_use_interface {127,0,0,1}`,
  }
  const logPath = join(folder, 'server.log')
  const log = openSync(logPath, 'a')
  // The name server of Erlang's nodes: else the server would start one that stays.
  const epmd = spawn('epmd', ['-port', String(epmdPort), '-address', HOST], { env, stdio: ['ignore', log, log] })
  // A group of its own: the server is a script, the virtual machine and its helpers.
  const server = spawn('rabbitmq-server', [], { env, stdio: ['ignore', log, log], detached: true })

  const ask: TestRabbitmq['ask'] = async (method, path, body) => {
    const authorization = `Basic ${Buffer.from(`tests:${password}`).toString('base64')}`
    const headers = { authorization, 'content-type': 'application/json' }
    const answer = await fetch(`http://${HOST}:${apiPort}/api/${path}`, { method, headers, body: body === undefined ? null : JSON.stringify(body) })
    const text = await answer.text()
    return { status: answer.status, body: text === '' ? undefined : JSON.parse(text) }
  }
  const stop = async () => {
    await end(server, () => process.kill(-(server.pid ?? 0), 'SIGKILL'))
    await end(epmd, () => epmd.kill('SIGKILL'))
    rmSync(folder, { recursive: true, force: true, maxRetries: 5 })
  }
  try {
    await waitFor(
      'RabbitMQ to answer',
      async () => {
        if (server.exitCode !== null) throw new Error(`RabbitMQ did not start: ${readFileSync(logPath, 'utf8').slice(-2000)}`)
        return (await ask('GET', 'whoami').catch(() => undefined))?.status === 200
      },
      START_MS,
    )
  } catch (error) {
    await stop()
    throw error
  }
  return {
    host: HOST,
    port,
    apiPort,
    log: () => readFileSync(logPath, 'utf8'),
    ask,
    async createBroker(name = 'mayfly', tags = 'administrator') {
      const secret = randomBytes(16).toString('hex')
      await ask('PUT', `users/${name}`, { password: secret, tags })
      return `http://${name}:${secret}@${HOST}:${apiPort}`
    },
    stop,
  }
}

async function end(child: ChildProcess, kill: () => void): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
  const ended = once(child, 'exit')
  kill()
  await ended
}
