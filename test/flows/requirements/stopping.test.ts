import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import type { Answer } from '../../support/broker.js'
import { closedPort } from '../../support/faulty-upstream.js'
import { startOidc, type TestOidc } from '../../support/oidc.js'
import { agedSights, plantLogin, someLease } from '../../support/orphans.js'
import { watchCommands } from '../../support/redis.js'
import { waitFor } from '../../support/wait.js'
import { query, type Scene, startScene } from './support.js'

let scene: Scene
let idp: TestOidc
let oncall: string
beforeAll(async () => {
  idp = await startOidc({ clients: [{ id: 'federated' }] })
  const nobody = await closedPort()
  scene = await startScene({
    issuers: `  idp: {url: "${idp.issuer}", audience: mayfly, typ: [at+jwt], allow_http_loopback: true, stale_limit: 2s}`,
    agents: '  - {id: federated, match: {issuer: idp, sub: federated}, owner: sre@example.com, autonomy: supervised, team: platform}\n',
    operators: '  - {id: stopper, match: {issuer: test, sub: stopper}, groups: [stoppers]}',
    providers: '  gone: {type: postgres, url: env:GONE_URL, timeout: 1s}',
    roles: '  gone-read: {provider: gone, access: read, sensitivity: internal, max_ttl: 15m, params: {member_of: [reporting_ro]}}',
    env: { GONE_URL: `postgres://mayfly:secret@127.0.0.1:${nobody}/postgres` },
    policy: '@id("stoppers-stop") permit (principal in Group::"stoppers", action in [Action::"freeze", Action::"emergencyRevoke"], resource);',
    more: 'approvals: {ttl: 1s, granted_ttl: 1s}',
    limits: '{requests_per_second: 100000, per_agent_live: 0, per_task_live: 10000}',
  })
  oncall = await scene.token('oncall')
}, 60_000)
afterAll(async () => {
  await scene?.stop()
  await idp?.stop()
})
afterEach(() => scene.clear())

const ROLES = ['warehouse-read', 'warehouse-write', 'api-token', 'gone-read']
const openTask = (agent = 'triage', more: object = {}) =>
  scene.openTask({ assignees: [{ agent }], envelope: ROLES.map((role) => ({ role })), ...more })
const stop = async (selector: object, token = oncall, more: object = {}): Promise<Answer> =>
  scene.call('POST', '/v1/emergency/revoke', token, { selector, reason: 'requirement 23', ...more })
const thaw = (freeze: string, token = oncall) => scene.call('POST', `/v1/freezes/${freeze}/thaw`, token, { reason: 'over' })

describe('requirement 23: kill switch, tested before roll-out', () => {
  it('by scope: each takes what it names, and nothing else; a dry run says which before', async () => {
    const scopes: object[] = [
      { agent: 'triage' },
      { role: 'warehouse-read', agent: 'triage' },
      { provider: 'warehouse', orchestrator: 'flows', owner: 'sre@example.com' },
      { owner: ['sre@example.com', 'nobody@example.com'] },
      { issuer: 'test', agent: ['triage', 'nobody'] },
    ]
    for (const selector of scopes) {
      const [task, other] = [await openTask(), await openTask('reporter')]
      const [taken, spared] = [await scene.issued(task, 'warehouse-read'), await scene.issued(other, 'warehouse-read', {}, 'reporter')]
      expect((await stop(selector, oncall, { dry_run: true })).body).toMatchObject({
        dry_run: true,
        matched: 1,
        providers: [{ provider: 'warehouse', live: 1 }],
      })
      expect(await scene.logins()).toHaveLength(2)
      const { status, body } = await stop(selector)
      expect({ selector, status, unreachable: body.freeze.partitions.unreachable }).toEqual({ selector, status: 202, unreachable: 0 })
      await waitFor('what it names to be gone', async () => (await scene.logins()).join() === spared.credential.username)
      await expect(query(taken.credential.url, 'select 1')).rejects.toThrow()
      expect((await scene.obtain(task, 'warehouse-read')).body.code).toBe('frozen')
      expect((await scene.obtain(other, 'warehouse-read', {}, 'reporter')).status).toBe(201)
      await thaw(body.freeze.id)
      expect((await scene.obtain(task, 'warehouse-read')).status).toBe(201)
      await scene.clear()
    }
  }, 60_000)

  it('in a burst: zero live; survives restart', async () => {
    const tasks = await Promise.all(Array.from({ length: 6 }, () => openTask()))
    const token = await scene.token('triage')
    const answers: Answer[] = []
    let over = false
    const asking = tasks.flatMap((task) =>
      ['warehouse-read', 'api-token'].map(async (role) => {
        while (!over) answers.push(await scene.call('POST', '/v1/leases', token, { task, role }))
      }),
    )
    await waitFor('a burst', () => answers.filter(({ status }) => status === 201).length > 60)
    const { status, body } = await stop({ all: true })
    const acknowledged = answers.length
    expect(status).toBe(202)
    await waitFor('refusals', () => answers.length > acknowledged + 40)
    over = true
    await Promise.all(asking)
    // Those that were under way when it was acknowledged, and no other.
    expect(answers.slice(acknowledged + asking.length).filter(({ status }) => status === 201)).toEqual([])
    await scene.nothingUpstream()
    const report = await waitFor('the report to be finished', async () => {
      const { body: seen } = await scene.call('GET', `/v1/emergency/revocations/${body.revocation.id}`, oncall)
      return seen.revocation.state === 'finished' ? seen.revocation : undefined
    })
    expect(report).toMatchObject({ pending: 0, failed: 0 })
    expect(report.revoked + report.expired).toBe(report.matched)

    const frozen = { status: 409, body: { code: 'frozen' } }
    const asked = { task: tasks[0], role: 'api-token' }
    const replica = await scene.replica()
    expect(await replica.call('POST', '/v1/leases', token, asked)).toMatchObject(frozen)
    await scene.redis.restart()
    await waitFor('the broker to be back', async () => (await scene.call('POST', '/v1/leases', token, asked)).status !== 503)
    expect(await scene.call('POST', '/v1/leases', token, asked)).toMatchObject(frozen)
    await replica.stop()
    expect((await thaw(body.freeze.id)).status).toBe(200)
    expect((await scene.call('POST', '/v1/leases', token, asked)).status).toBe(201)
  }, 60_000)

  it('thaw separate: who may stop may not start again', async () => {
    const stopper = await scene.token('stopper')
    const { status, body } = await stop({ agent: 'triage' }, stopper)
    expect(status).toBe(202)
    expect((await thaw(body.freeze.id, stopper)).body).toMatchObject({ status: 403, code: 'denied' })
    expect((await scene.obtain(await openTask(), 'api-token')).body.code).toBe('frozen')
    expect((await thaw(body.freeze.id)).status).toBe(200)
    const told = await scene.told(({ type, detail }) => type.startsWith('freeze.') && [detail.freeze, detail.id].includes(body.freeze.id))
    expect(told.at(-1)).toMatchObject({ type: 'freeze.thawed', principal: { id: 'oncall' } })
  })
})

describe('requirement 30: no fallback to standing access, no cached credentials', () => {
  it('no-store; asking the same again makes another, and the first one dies', async () => {
    const task = await openTask()
    const ask = async () =>
      scene.call('POST', '/v1/leases', await scene.token('triage'), { task, role: 'warehouse-read' }, { 'idempotency-key': 'again' })
    const [first, second] = [await ask(), await ask()]
    expect([first, second].map(({ headers }) => headers.get('cache-control'))).toEqual(['no-store', 'no-store'])
    expect(second.body.credential.username).not.toBe(first.body.credential.username)
    await waitFor('the first to be gone', async () => (await scene.logins()).join() === second.body.credential.username)
    const { body } = await scene.call('GET', `/v1/leases/${second.body.lease.id}`, await scene.token('triage'))
    expect(JSON.stringify(body)).not.toContain(second.body.credential.password)
  })

  it('Redis down -> 503, nothing; what lives goes on, and is revoked as ever once it is back', async () => {
    const task = await openTask()
    const { credential } = await scene.issued(task, 'warehouse-read')
    await scene.redis.kill()
    for (const role of ['warehouse-read', 'api-token']) {
      const refused = await scene.obtain(task, role)
      expect(refused).toMatchObject({ status: 503, body: { code: 'ledger_unavailable' } })
      expect(refused.body.credential).toBeUndefined()
    }
    expect(await scene.logins()).toEqual([credential.username])
    await scene.redis.restart()
    await waitFor('issuing', async () => (await scene.obtain(task, 'api-token')).status === 201)
    await scene.end(task)
    await expect(query(credential.url, 'select 1')).rejects.toThrow()
  })

  it('IdP down -> 503, nothing', async () => {
    const task = await openTask('federated')
    const ask = async () => scene.call('POST', '/v1/leases', await idp.token('federated'), { task, role: 'warehouse-read' })
    expect((await ask()).status).toBe(201)
    const before = await scene.logins()
    idp.fail(true)
    const refused = await waitFor('its keys to be too old', async () => {
      const answer = await ask()
      return answer.status === 201 ? undefined : answer
    })
    expect(refused).toMatchObject({ status: 503, body: { code: 'issuer_unavailable' } })
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    const held = await scene.logins()
    expect((await ask()).status).toBe(503)
    expect(await scene.logins()).toEqual(held)
    expect(held).toEqual(expect.arrayContaining(before))
    idp.fail(false)
  })

  it('upstream down -> an error that says so, nothing, and nothing of another upstream instead', async () => {
    const task = await openTask()
    const codes = []
    for (let n = 0; n < 3; n++) {
      const { status, headers, body } = await scene.obtain(task, 'gone-read')
      expect(status).toBeGreaterThanOrEqual(500)
      expect(headers.get('retry-after')).not.toBeNull()
      expect(body.credential).toBeUndefined()
      codes.push(body.code)
    }
    expect(new Set(codes)).toEqual(new Set(['provider_failed']))
    expect(await scene.logins()).toEqual([])
    expect((await scene.call('GET', `/v1/tasks/${task}`, await scene.token('flows'))).body.task.obtained).toEqual(['read:internal'])
    const { body } = await scene.call('GET', `/v1/leases?task=${task}&state=active`, oncall)
    expect(body.leases).toEqual([])
  })
})

describe('requirement 34: shadow integrations, inherited secrets', () => {
  const reconcile = async (more: object = {}) => {
    const { status, body } = await scene.call('POST', '/v1/reconciliations', oncall, { providers: ['warehouse'], wait: false, ...more })
    expect(status).toBe(200)
    return body.providers[0]
  }

  it('a planted credential is reported and revoked; what tasks hold, and what others made, stays', async () => {
    const held = await scene.issued(await openTask(), 'warehouse-read')
    const planted = someLease()
    const login = await plantLogin(scene.postgres, planted)
    const theirs = await plantLogin(scene.postgres, someLease(), 'test-eu')
    expect(await reconcile({ revoke: true })).toMatchObject({ listed: 2, known: 1, seen: [`lease_${planted}`], orphans: [] })
    await agedSights(scene.redis)
    expect(await reconcile()).toMatchObject({ known: 1, orphans: [{ lease: `lease_${planted}`, outcome: 'found' }] })
    expect(await scene.logins()).toContain(login)
    expect(await reconcile({ revoke: true })).toMatchObject({ orphans: [{ lease: `lease_${planted}`, outcome: 'revoked' }] })
    expect(await scene.logins()).not.toContain(login)
    expect(await scene.logins()).toContain(theirs)
    expect(await query(held.credential.url, 'select 1 as one')).toEqual([{ one: 1 }])
    for (const type of ['orphan.found', 'orphan.revoked'])
      expect(await scene.told((event) => event.type === type && event.lease === `lease_${planted}`)).toMatchObject([{ provider: 'warehouse' }])
    await scene.postgres.query(`drop role "${theirs}"`)
  })
})

describe('requirement 37: overhead balanced against blast radius', () => {
  const metrics = async () => (await fetch(`${scene.test.metricsUrl}/metrics`)).text()
  const countOf = (text: string, name: string, labels: string) =>
    Number(new RegExp(`^${name}_count\\{[^}]*${labels}[^}]*\\} (\\d+)$`, 'm').exec(text)?.[1] ?? 0)

  it('latency published: of issuing, minting, revoking, of the end of a task until all is dead, and of each call', async () => {
    const published: [string, string][] = [
      ['mayfly_issue_duration_seconds', 'provider="warehouse"'],
      ['mayfly_mint_duration_seconds', 'provider="warehouse",outcome="minted"'],
      ['mayfly_revoke_duration_seconds', 'provider="warehouse"'],
      ['mayfly_task_end_to_revoked_seconds', 'provider="warehouse"'],
      ['mayfly_http_request_duration_seconds', 'route="/v1/leases",method="post",status="201"'],
    ]
    const before = await metrics()
    const task = await openTask()
    await scene.issued(task, 'warehouse-read')
    await scene.end(task)
    const after = await metrics()
    for (const [name, labels] of published) {
      const grown = countOf(after, name, labels) - countOf(before, name, labels)
      expect({ name, grown }).toEqual({ name, grown: 1 })
      expect(after).toMatch(new RegExp(`^${name}_bucket\\{le="0.1"`, 'm'))
    }
  })

  it('low-risk paths cheap: one round trip to the ledger, and none to any upstream', async () => {
    const task = await openTask()
    const token = await scene.token('triage')
    const asked = (role: string) => scene.call('POST', '/v1/leases', token, { task, role })
    const watch = await watchCommands(scene.redis)
    const commandsOf = async (role: string) => {
      await watch.seen()
      const { status, body } = await asked(role)
      expect(status).toBe(201)
      const about = (await watch.seen()).filter((line) => [task, body.lease.id].some((id) => line.includes(id)))
      // How an agent behaves is counted behind the answer: nobody waits for that.
      return about.filter((line) => !line.includes('agent.risk')).length
    }
    await asked('api-token')
    const statements = async () => (await scene.postgres.query("select count(*)::int as n from pg_roles where rolname like 'mf-%'"))[0]?.n
    const upstream = await statements()
    for (let n = 0; n < 5; n++) expect(await commandsOf('api-token')).toBe(1)
    expect(await statements()).toBe(upstream)
    // Where something is made upstream it is written down before, and after.
    expect(await commandsOf('warehouse-read')).toBe(2)
    watch.stop()
  })
})

describe('requirement 38: no assumption that a human is always there', () => {
  const read = async (id: string) => (await scene.call('GET', `/v1/approvals/${id}`, await scene.token('triage'))).body.approval

  it('deadline on approvals: nobody answers -> denied in time, with what to do next', async () => {
    const task = await openTask()
    const { status, headers, body } = await scene.obtain(task, 'warehouse-write')
    expect(status).toBe(202)
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0)
    const { id, asked_at, expires_at } = body.approval
    expect(Date.parse(expires_at) - Date.parse(asked_at)).toBe(1_000)
    const over = await waitFor('the deadline', async () => {
      const now = await read(id)
      return now.state === 'open' ? undefined : now
    })
    expect(Date.now() - Date.parse(expires_at)).toBeLessThan(3_000)
    expect(over).toMatchObject({ state: 'expired', cause: 'expired', next: 'ask_again' })
    const late = await scene.call('POST', `/v1/approvals/${id}/approve`, oncall, {})
    expect(late).toMatchObject({ status: 403, body: { code: 'approval_invalid' } })
    const presented = await scene.obtain(task, 'warehouse-write', { approval: id })
    expect(presented).toMatchObject({ status: 403, body: { code: 'approval_invalid', next: expect.any(String) } })
    expect(await scene.logins()).toEqual([])
    expect((await scene.told(({ approval }) => approval === id)).map(({ type }) => type)).toEqual(['approval.asked', 'approval.expired'])
    // And what needs nobody goes on meanwhile.
    expect((await scene.obtain(task, 'warehouse-read')).status).toBe(201)
  })

  it('who cannot wait is told so at once, and what was agreed to is not kept for ever', async () => {
    const task = await openTask()
    const refused = await scene.obtain(task, 'warehouse-write', { can_wait: false })
    expect(refused.body).toMatchObject({
      status: 403,
      code: 'approval_required',
      step_up: [{ group: 'sre-oncall', approvals: 1 }],
      next: expect.any(String),
    })
    const { id } = (await scene.obtain(task, 'warehouse-write')).body.approval
    expect((await scene.call('POST', `/v1/approvals/${id}/approve`, oncall, {})).body.approval.state).toBe('granted')
    await waitFor('it to be too late', async () => (await read(id)).state === 'expired')
    expect((await scene.obtain(task, 'warehouse-write', { approval: id })).body.code).toBe('approval_invalid')
    expect(await scene.logins()).toEqual([])
  })
})
