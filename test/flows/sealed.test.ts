import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { createBroker } from '../../src/broker.js'
import { ConfigError, loadConfig } from '../../src/config.js'
import { generateSealingKeys } from '../../src/sealing.js'
import { APP_ID, type GitHubUpstream, PRIVATE_KEY, startGitHubUpstream } from '../providers/github-upstream.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { find } from '../support/canary.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** An upstream whose handle only the mint knows, and is the secret itself: GitHub (a fake), behind a whole broker on a real Redis. */
let redis: TestRedis
let github: GitHubUpstream
let test: TestBroker
let agent: string
const first = generateSealingKeys()
const MINT = 'POST /app/installations/{installation_id}/access_tokens'

beforeAll(async () => {
  ;[redis, github] = await Promise.all([startRedis(['appendonly yes', 'appendfsync always']), startGitHubUpstream()])
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    more: 'sealing: {keys: env:SEALING}',
    providers: `  code: {type: github-app, app_id: ${APP_ID}, private_key: env:APP_KEY, api_url: "${github.apiUrl}", timeout: 1s}`,
    roles:
      '  code-read: {provider: code, access: read, sensitivity: internal, max_ttl: 5m, params: {owner: acme, repositories: [app], permissions: {contents: read}}}',
    env: { SEALING: JSON.stringify(first), APP_KEY: PRIVATE_KEY },
  })
  agent = await test.token('triage')
}, 60_000)
afterEach(() => github.next(MINT, (usual) => usual()))
afterAll(async () => {
  await test?.stop()
  await Promise.all([redis?.stop(), github?.stop()])
})

const eventsOf = (folder: string) =>
  readdirSync(folder)
    .map((name) => readFileSync(join(folder, name), 'utf8'))
    .join('\n')
const openTask = () => test.openTask({ envelope: [{ role: 'code-read' }] })
const obtain = async (task: string) => test.call('POST', '/v1/leases', agent, { task, role: 'code-read', ttl: 120 })
const leasesOf = async (task: string) => (await test.call('GET', `/v1/tasks/${task}`, await test.token('oncall'))).body.leases
const complete = async (task: string) => test.call('POST', `/v1/tasks/${task}/complete?wait=5`, await test.token('flows'), {})
const withKeys = (keys: object) => loadConfig(test.configPath, { ...test.env, SEALING: JSON.stringify(keys) })

describe('a handle that is a secret', () => {
  it('is kept encrypted, and revokes when the task is over', async () => {
    const task = await openTask()
    const { status, body } = await obtain(task)
    expect(status).toBe(201)
    const token = String(body.credential.token)
    expect(github.live()).toContain(token)
    // GitHub gives no token a shorter life than an hour, and the answer says so.
    expect(body.lease.revocation).toMatchObject({ mode: 'immediate', residual_seconds: 0 })
    expect(Date.parse(body.lease.usable_until) - Date.parse(body.lease.expires_at)).toBeGreaterThan(3_000_000)

    const { body: ended } = await complete(task)
    expect(ended.leases.map((lease: { state: string }) => lease.state)).toEqual(['revoked'])
    expect(github.live()).not.toContain(token)
    const files = readdirSync(dirname(redis.socketPath), { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile())
    const kept = files.map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1')).join('\n')
    expect(kept).toContain('sealed')
    const events = await waitFor('the events to be written', () => {
      const text = readdirSync(test.folder).includes('audit') ? eventsOf(join(test.folder, 'audit')) : ''
      return text.includes('"lease.revoked"') ? text : undefined
    })
    expect(find({ token, key: String(first.keys[0]?.k) }, { redis: kept, log: test.logs.join('\n'), events })).toEqual([])
  })

  it('opens with the key that it was sealed with while a new one seals, and that key cannot be taken away before', async () => {
    const task = await openTask()
    const token = String((await obtain(task)).body.credential.token)
    const next = generateSealingKeys()
    const kid = String(first.keys[0]?.kid)
    await expect(test.broker.reload(await withKeys(next))).rejects.toThrow(`sealing.keys: leases that live need the key "${kid}"`)
    await test.broker.reload(await withKeys({ keys: [...next.keys, ...first.keys] }))

    const other = await openTask()
    const later = String((await obtain(other)).body.credential.token)
    expect(github.live()).toEqual(expect.arrayContaining([token, later]))
    await complete(task)
    expect(github.live()).not.toContain(token)
    // Nothing needs the first key any more, and the second one opens what it sealed.
    await test.broker.reload(await withKeys(next))
    await complete(other)
    expect(github.live()).not.toContain(later)
    await test.broker.reload(await withKeys(first))
  })

  it('stops a start whose configuration lost the key, with the name of the key', async () => {
    const task = await openTask()
    await obtain(task)
    const refused = createBroker(await withKeys(generateSealingKeys())).catch((error: unknown) => error)
    expect(await refused).toBeInstanceOf(ConfigError)
    expect(String(await refused)).toContain(`leases that live need the key "${first.keys[0]?.kid}"`)
    await complete(task)
  })
})

describe('a mint whose handle was never learnt', () => {
  it('leaves nothing to wait for where the upstream refused it', async () => {
    const task = await openTask()
    github.next(MINT, () => ({ status: 422, body: { message: 'no' } }))
    expect((await obtain(task)).status).toBeGreaterThanOrEqual(400)
    await waitFor('the lease to be settled', async () => (await leasesOf(task)).every((lease: { state: string }) => lease.state === 'revoked'))
  })

  it('is not called revoked: it stays closing until nothing of it can live any more', async () => {
    const task = await openTask()
    // The answer is lost for good: whoever made the token does not know it.
    github.next(MINT, (usual) => {
      usual()
      return { status: 502, body: 'bad gateway', isProxys: true }
    })
    const before = github.live().length
    expect((await obtain(task)).status).toBe(502)
    expect(github.live()).toHaveLength(before + 1)
    const { body } = await complete(task)
    expect(body.leases).toEqual([])
    const [lease] = await leasesOf(task)
    expect(lease.state).toBe('closing')
    expect(Date.parse(lease.usable_until) - Date.now()).toBeGreaterThan(3_500_000)
  })

  it('is given back where it could not be written down', async () => {
    const task = await openTask()
    const before = github.live()
    let made: string[] = []
    github.next(MINT, (usual) => {
      const answer = usual()
      made = github.live().filter((token) => !before.includes(token))
      process.kill(redis.pid(), 'SIGSTOP')
      return answer
    })
    const answered = obtain(task)
    await waitFor('the ledger to be gone', () => made.length === 1)
    try {
      await waitFor('the token to be given back', () => !github.live().includes(made[0] ?? ''), 10_000)
    } finally {
      process.kill(redis.pid(), 'SIGCONT')
    }
    expect((await answered).status).toBeGreaterThanOrEqual(500)
  })
})
