import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { loadConfig } from '../../../src/config.js'
import { mayfly } from '../../cli/mayfly.js'
import { waitFor } from '../../support/wait.js'
import { query, type Scene, startScene } from './support.js'

const CANDIDATE = `@id("no-orders") @reason("orders are not for triage")
forbid (principal == Agent::"triage", action == Action::"read", resource == Role::"warehouse-read");`

let scene: Scene
let shipped: string
beforeAll(async () => {
  scene = await startScene({
    agents: '  - {id: newcomer, match: {issuer: test, sub: newcomer}, owner: sre@example.com, autonomy: supervised, team: platform}\n',
    more: 'drills: [{role: warehouse-read, agent: newcomer, intent: incident-triage, environment: production, every: 1h}]',
  })
  shipped = await readFile(scene.test.configPath, 'utf8')
  await writeFile(join(scene.test.folder, 'candidate.cedar'), CANDIDATE)
  // A broker begins with its drills.
  await waitFor('the first drill', async () => (await scene.told(({ type }) => type === 'drill.finished')).length > 0)
}, 60_000)
afterAll(() => scene?.stop())
afterEach(async () => {
  await decideBy(undefined)
  await scene.clear()
})

/** Has the broker read its policies again: those that are shipped and the candidate, which binds or is only observed; undefined: without it. */
async function decideBy(candidate: 'observe' | 'binding' | undefined): Promise<void> {
  const path = join(scene.test.folder, 'candidate.cedar')
  const file = candidate === 'observe' ? `{path: "${path}", mode: observe}` : `"${path}"`
  const yaml = candidate === undefined ? shipped : shipped.replace(/^(policies: .*)\]\}$/m, `$1, ${file}]}`)
  expect(yaml !== shipped).toBe(candidate !== undefined)
  await writeFile(scene.test.configPath, yaml)
  await scene.test.broker.reload(await loadConfig(scene.test.configPath, scene.test.env))
}
const openTask = (agent = 'triage') => scene.openTask({ assignees: [{ agent }], envelope: [{ role: 'warehouse-read' }] })
const asOperator = async (path: string, body: object) => scene.call('POST', path, await scene.token('oncall'), body)
const metrics = async () => (await fetch(`${scene.test.metricsUrl}/metrics`)).text()
const issued = async (task: string) =>
  waitFor('the event', async () => (await scene.told(({ type, task: of }) => type === 'lease.issued' && of === task)).at(-1))

describe('requirement 36: governance explicit, measurable, reversible', () => {
  it('readiness check: a failing item blocks enabling', async () => {
    const task = await openTask('newcomer')
    const obtain = () => scene.obtain(task, 'warehouse-read', {}, 'newcomer')
    await asOperator('/v1/agents/newcomer/suspend', { reason: 'not rolled out yet' })
    // As a pipeline does it: what is not ready is not resumed.
    const enable = async () => {
      const { code, out } = await mayfly(['agents', 'ready', 'newcomer', '--config', scene.test.configPath, '--json'], scene.test.env)
      if (code === 0) await asOperator('/v1/agents/newcomer/resume', { reason: 'ready' })
      return { code, ...(JSON.parse(out) as { ready: boolean; findings: { level: string; area: string; mend?: string }[] }) }
    }

    await scene.postgres.query('alter role mayfly_broker nologin')
    const blocked = await enable().finally(() => scene.postgres.query('alter role mayfly_broker login'))
    expect(blocked).toMatchObject({ code: 1, ready: false })
    expect(blocked.findings.filter(({ level }) => level === 'fail')).toEqual([
      expect.objectContaining({ area: 'providers', mend: expect.any(String) }),
    ])
    expect((await obtain()).body).toMatchObject({ status: 409, code: 'frozen' })
    expect(await scene.logins()).toEqual([])

    expect(await enable()).toMatchObject({ code: 0, ready: true })
    const { status, body } = await obtain()
    expect(status).toBe(201)
    expect(await query(body.credential.url, 'select id from orders')).toEqual([{ id: 1 }])
  }, 60_000)

  it('observe mode, metrics: what a candidate would change is measured before it binds', async () => {
    await decideBy('observe')
    const task = await openTask()
    const { credential } = await scene.issued(task, 'warehouse-read')
    expect(await query(credential.url, 'select id from orders')).toEqual([{ id: 1 }])
    expect((await issued(task)).decision).toMatchObject({ outcome: 'allow', observed: { outcome: 'deny', policies: ['no-orders'] } })
    expect(await metrics()).toMatch(/mayfly_policy_observed_differences_total\{action="read",decided="allow",observed="deny"\} [1-9]/)
    await scene.test.broker.audit()?.flush()
    const { body } = await asOperator('/v1/policy/simulate', {})
    expect(body.changes.denied).toBeGreaterThanOrEqual(1)
    expect(body.examples).toContainEqual(
      expect.objectContaining({ change: 'denied', candidate: expect.objectContaining({ policies: ['no-orders'] }) }),
    )
  })

  it('policy rollback: what a policy took away comes back with the version before it', async () => {
    const task = await openTask()
    await scene.issued(task, 'warehouse-read')
    const before = (await issued(task)).decision?.policyVersion
    expect(before).toMatch(/./)

    await decideBy('binding')
    await scene.nothingUpstream()
    expect((await scene.obtain(task, 'warehouse-read')).body).toMatchObject({ code: 'denied', policies: ['no-orders'] })
    const refused = await waitFor('the event', async () => (await scene.told(({ type, task: of }) => type === 'lease.denied' && of === task)).at(-1))
    expect(refused.decision?.policyVersion).not.toBe(before)

    await decideBy(undefined)
    const { credential } = await scene.issued(task, 'warehouse-read')
    expect(await query(credential.url, 'select id from orders')).toEqual([{ id: 1 }])
    expect((await issued(task)).decision?.policyVersion).toBe(before)
  })

  it('a policy that is wrong takes no effect at all: the ones before go on', async () => {
    const wrong = join(scene.test.folder, 'wrong.cedar')
    await writeFile(wrong, '@id("typo") forbid (principal in Team::"platfrom", action, resource);')
    await writeFile(scene.test.configPath, shipped.replace(/^(policies: .*)\]\}$/m, `$1, "${wrong}"]}`))
    const reload = async () => scene.test.broker.reload(await loadConfig(scene.test.configPath, scene.test.env))
    await expect(reload()).rejects.toThrow(/platfrom/)
    expect((await scene.obtain(await openTask(), 'warehouse-read')).status).toBe(201)
  })

  it('drills: a real credential is minted and seen dead, and how long that took is a metric', async () => {
    const { body } = await asOperator('/v1/drills', { role: 'warehouse-read' })
    expect(body.drills).toMatchObject([{ role: 'warehouse-read', agent: 'newcomer', outcome: 'dead', probed: true }])
    expect(await scene.logins()).toEqual([])
    expect(await metrics()).toMatch(/mayfly_time_to_dead_seconds_count\{provider="warehouse"\} [1-9]/)
  })
})
