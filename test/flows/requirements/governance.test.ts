import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { loadConfig } from '../../../src/config.js'
import { ready } from '../../../src/doctor/index.js'
import { rehearse } from '../../../src/rehearse.js'
import { waitFor } from '../../support/wait.js'
import { query, type Scene, startScene } from './support.js'

const NEW = '@id("no-more-reading") forbid (principal is Agent, action == Action::"read", resource == Role::"warehouse-read");'

let scene: Scene
let yaml: string
let candidate: string
beforeAll(async () => {
  scene = await startScene({
    roles: '  crown-signed: {provider: signed, access: read, sensitivity: restricted, max_ttl: 5m, params: {audience: "https://reports.example"}}',
  })
  yaml = await readFile(scene.test.configPath, 'utf8')
  candidate = join(scene.test.folder, 'candidate.cedar')
}, 60_000)
afterAll(() => scene?.stop())
afterEach(() => scene.clear())

const envelope = [{ role: 'warehouse-read' }]
/** Another configuration takes effect, or none does. */
const reload = async (text: string) => {
  await writeFile(scene.test.configPath, text)
  await scene.test.broker.reload(await loadConfig(scene.test.configPath, scene.test.env))
}
const withCandidate = (mode: 'enforce' | 'observe') => yaml.replace('files: [', `files: [{path: "${candidate}", mode: ${mode}}, `)
const metric = async (name: string) =>
  Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(await (await fetch(`${scene.test.metricsUrl}/metrics`)).text())?.[1] ?? 0)
const decisionOf = async (task: string) => {
  const [told] = await scene.told((event) => event.task === task && ['lease.reserved', 'lease.denied'].includes(event.type))
  return told.decision
}

describe('requirement 36: governance explicit, measurable, reversible', () => {
  it('readiness check: a failing item is named, with how to mend it', async () => {
    const fails = async (id = 'triage') => (await ready(scene.test.configPath, scene.test.env, id)).findings.filter(({ level }) => level === 'fail')
    expect(await fails()).toEqual([])
    expect(await fails('nobody')).toMatchObject([{ area: 'agent', mend: expect.stringContaining('owner') }])
    await scene.postgres.query('revoke reporting_ro from mayfly_broker')
    expect(await fails()).toMatchObject([{ area: 'providers', mend: expect.any(String) }])
    await scene.postgres.query('grant reporting_ro to mayfly_broker with admin true, inherit false, set false')
    // Without the guardrails, what is restricted could be had and not be taken back.
    await writeFile(scene.test.configPath, yaml.replace(/"[^"]*guardrails\.cedar", /, ''))
    expect(await fails()).toEqual(expect.arrayContaining([expect.objectContaining({ area: 'roles', what: expect.stringContaining('crown-signed') })]))
    await writeFile(scene.test.configPath, yaml)
    expect(await fails()).toEqual([])
  })

  it('drills: a real credential is made and seen to die, and is in the trail', async () => {
    const { found } = await ready(scene.test.configPath, scene.test.env, 'triage')
    if (!found) throw new Error('the agent was not found')
    const one = found.obtainable.filter(({ role }) => role.name === 'warehouse-read')
    expect(await rehearse(found.config, found.agent, one)).toMatchObject([{ level: 'ok', what: expect.stringMatching(/minted, and revoked \d+ ms/) }])
    expect(await scene.logins()).toEqual([])
    expect(await scene.told((event) => event.type === 'task.opened' && event.detail?.rehearsal === true)).toHaveLength(1)
  })

  it('observe mode: what a new policy would decide is counted and told, and decides nothing', async () => {
    const differs = 'mayfly_policy_observed_differences_total\\{action="read",decided="allow",observed="deny"\\}'
    await writeFile(candidate, NEW)
    await reload(withCandidate('observe'))
    const [before, task] = [await metric(differs), await scene.openTask({ envelope })]
    const { credential } = await scene.issued(task, 'warehouse-read')
    expect(await query(credential.url, 'select id from orders')).toEqual([{ id: 1 }])
    expect(await metric(differs)).toBe(before + 1)
    expect(await decisionOf(task)).toMatchObject({ outcome: 'allow', observed: { outcome: 'deny', policies: ['no-more-reading'] } })
    await reload(yaml)
  })

  it('policy rollback: what was decided before is decided again, under the same version', async () => {
    const [first, second, third] = [await scene.openTask({ envelope }), await scene.openTask({ envelope }), await scene.openTask({ envelope })]
    const held = await scene.issued(first, 'warehouse-read')
    await writeFile(candidate, NEW)
    await reload(withCandidate('enforce'))
    expect((await scene.obtain(second, 'warehouse-read')).body).toMatchObject({ code: 'denied', policies: ['no-more-reading'] })
    // What lived by the old policy is taken back by the new one.
    await waitFor('the lease to be revoked', async () => (await scene.leaseOf(held.lease.id)).state === 'revoked')
    await expect(query(held.credential.url, 'select 1')).rejects.toThrow()
    await reload(yaml)
    expect((await scene.obtain(third, 'warehouse-read')).status).toBe(201)
    const [old, changed, back] = await Promise.all([first, second, third].map(decisionOf))
    expect(changed.policyVersion).not.toBe(old.policyVersion)
    expect(back.policyVersion).toBe(old.policyVersion)
  })

  it('a change that is wrong takes no effect at all: the one before goes on', async () => {
    await writeFile(candidate, '@id("typo") forbid (principal in Team::"platfrom", action, resource);')
    await expect(reload(withCandidate('enforce'))).rejects.toThrow(/platfrom/)
    await writeFile(scene.test.configPath, yaml)
    expect((await scene.obtain(await scene.openTask({ envelope }), 'warehouse-read')).status).toBe(201)
  })
})
