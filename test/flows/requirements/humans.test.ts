import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { decodeJwt } from 'jose'
import { loadConfig } from '../../../src/config.js'
import type { Answer } from '../../support/broker.js'
import { newPeople, type TestPeople } from '../../support/people.js'
import { waitFor } from '../../support/wait.js'
import { query, type Scene, startScene } from './support.js'

const HELPER = 'https://helper.test'
/** Analysts read what is confidential; engineers write, and only the helper's team does. Ann is on call besides. */
const PEOPLE = `humans:
  - {id: "{sub}", match: {issuer: sso, dept: analytics}, team: analytics, groups: {finance: {groups: finance}}}
  - {id: "{email}", match: {issuer: sso, dept: platform}, team: platform}
`
const ANALYST = { dept: 'analytics', aud: HELPER }
const ENGINEER = { dept: 'platform', aud: HELPER, email: 'eve@example.com' }

let scene: Scene
let people: TestPeople
beforeAll(async () => {
  people = await newPeople()
  scene = await startScene({
    issuers: `  sso: {jwks: env:SSO, issuer: "${people.issuer}", audience: mayfly, typ: [at+jwt], max_lifetime: 1h}`,
    agents: ['helper', 'other']
      .map((id) => {
        const team = id === 'helper' ? 'platform' : 'analytics'
        const rule = `match: {issuer: test, sub: ${id}}, owner: sre@example.com, autonomy: supervised, team: ${team}`
        return `  - {id: ${id}, ${rule}, on_behalf_of: {audience: "https://${id}.test"}, open_tasks: {envelope: [{role: api-token}]}}\n`
      })
      .join(''),
    operators: [
      '  - {id: "ops/{sub}", match: {issuer: sso, oncall: "yes"}, groups: [sre-oncall]}',
      '  - {id: colleague, match: {issuer: test, sub: colleague}, groups: [sre-oncall]}',
    ].join('\n'),
    roles: '  api-write: {provider: tokens, access: write, sensitivity: internal, max_ttl: 1h, params: {audience: "https://reports.example"}}',
    more: PEOPLE,
    policy: '@id("finance-briefly") @maxTtl("60") permit (principal is Human in Group::"finance", action == Action::"read", resource);',
    env: { SSO: people.jwks },
  })
}, 60_000)
afterAll(() => scene?.stop())

const ALL = ['api-token', 'api-write', 'warehouse-read', 'warehouse-write']
const openTask = (more = {}) =>
  scene.openTask({ assignees: [{ agent: 'helper' }, { agent: 'other' }], envelope: ALL.map((role) => ({ role })), ...more })
const asHelper = (task: string, role: string, token?: string, more = {}) => scene.obtain(task, role, { ...more, on_behalf_of: token }, 'helper')
const outcome = ({ status, body }: Answer) => `${status} ${body.code ?? body.lease?.human ?? body.approval?.state ?? body.task?.human}`

describe("requirement 18: on behalf of a human: the user's permission is not the agent's", () => {
  it('both may: the credential is issued, for as long as both may have it', async () => {
    const task = await openTask()
    const { status, body } = await asHelper(task, 'api-write', await people.token('eve', ENGINEER))
    expect(status).toBe(201)
    expect(body.lease).toMatchObject({ agent: 'helper', human: 'eve@example.com', human_proof: { issuer: 'sso', team: 'platform', groups: [] } })
    // The human's own limit counts where it is the least.
    const seconds = async (claims: object) => {
      const { lease } = (await asHelper(task, 'api-token', await people.token('ann', { ...ANALYST, ...claims }))).body
      return (Date.parse(lease.expires_at) - Date.parse(lease.issued_at)) / 1000
    }
    expect([await seconds({}), await seconds({ groups: ['finance'] })]).toEqual([300, 60])
    expect((await scene.leaseOf(body.lease.id)).human).toBe('eve@example.com')
  })

  it('either lacks it: denied, and nothing is minted', async () => {
    const task = await openTask()
    // The agent may read it, this human may not: with the one's token no, with the other's yes, and for itself yes.
    expect(outcome(await asHelper(task, 'warehouse-read', await people.token('eve', ENGINEER)))).toBe('403 denied')
    expect(await scene.logins()).toEqual([])
    expect(outcome(await asHelper(task, 'warehouse-read', await people.token('ann', ANALYST)))).toBe('201 ann')
    expect((await asHelper(task, 'warehouse-read')).status).toBe(201)
    // The human may write it, this agent may not.
    const engineer = await people.token('eve', { ...ENGINEER, aud: 'https://other.test' })
    expect(outcome(await scene.obtain(task, 'api-write', { on_behalf_of: engineer }, 'other'))).toBe('403 denied')
    await scene.end(task)
  })

  it('whom an orchestrator only names has no team, and so nothing that a team is granted', async () => {
    const task = await openTask({ human: 'ann' })
    expect(outcome(await asHelper(task, 'warehouse-read'))).toBe('403 denied')
    expect(outcome(await asHelper(task, 'warehouse-read', await people.token('ann', ANALYST)))).toBe('201 ann')
    await scene.end(task)
  })

  it('both are in the events and in what is minted', async () => {
    const task = await openTask()
    const token = await people.token('ann', ANALYST)
    const jwt = (await asHelper(task, 'api-token', token)).body
    expect(decodeJwt(jwt.credential.token)).toMatchObject({ sub: 'ann', act: { sub: 'helper' }, client_id: 'helper' })
    const login = (await asHelper(task, 'warehouse-read', token)).body
    const [row] = await scene.postgres.query("select shobj_description(oid, 'pg_authid') as note from pg_roles where rolname = $1", [
      login.credential.username,
    ])
    expect(JSON.parse(String(row?.note))).toMatchObject({ agent: 'helper', human: 'ann' })
    expect(await query(login.credential.url, 'select id from orders')).toEqual([{ id: 1 }])

    const told = await scene.told(({ task: of, type }) => of === task && type === 'lease.issued')
    expect(told.map(({ role }) => role).sort()).toEqual(['api-token', 'warehouse-read'])
    for (const event of told) {
      expect(event.human).toEqual({ id: 'ann', issuer: 'sso', token: expect.stringMatching(/^[\w-]{16}$/) })
      expect(event.principal).toMatchObject({ kind: 'agent', id: 'helper' })
      expect(event.detail.input.task).toMatchObject({ human: 'ann', human_proof: { team: 'analytics', groups: [] } })
    }
    await scene.end(task)
  })

  it('a tool call with a credential is on behalf of whom that was obtained for', async () => {
    const task = await openTask({ tools: [{ tool: 'tickets/create' }] })
    const { lease } = (await asHelper(task, 'api-token', await people.token('ann', ANALYST))).body
    const call = async (more: object) => {
      const body = { tool: 'tickets/create', action: 'create', target: 'acme/app', ...more }
      return scene.call('POST', `/v1/tasks/${task}/tool-calls`, await scene.token('helper'), body)
    }
    // The agent may by itself; no policy lets this human write with a tool.
    expect((await call({})).status).toBe(200)
    expect((await call({ lease: lease.id })).body.code).toBe('denied')
    const [denied] = await scene.told(({ task: of, type }) => of === task && type === 'tool.denied')
    expect(denied).toMatchObject({ human: { id: 'ann', issuer: 'sso' }, principal: { id: 'helper' } })
    await scene.end(task)
  })

  it('also where a gateway asks, and all that it has is the token that the agent showed to it', async () => {
    const tools = [{ tool: 'tickets/create' }, { tool: 'tickets/get' }]
    const [task, another] = [await openTask({ tools }), await openTask({ tools })]
    const own = (await asHelper(task, 'api-token')).body.credential.token
    const anns = (await asHelper(task, 'api-token', await people.token('ann', ANALYST))).body.credential.token
    const ask = async (of: string, token: string, tool: string) => {
      const call = { tool, action: 'create', target: 'acme/app' }
      const { body } = await scene.call('POST', `/v1/tasks/${of}/tool-calls`, await scene.token('mcp-proxy'), { token, calls: [call] })
      return body.calls[0].problem?.code ?? body.calls[0].decision
    }
    expect([await ask(task, own, 'tickets/create'), await ask(task, anns, 'tickets/create')]).toEqual(['allow', 'denied'])
    expect([await ask(task, anns, 'tickets/get'), await ask(another, anns, 'tickets/get')]).toEqual(['allow', 'lease_ended'])
    const [called] = (await scene.told(({ task: of, type }) => of === task && type === 'tool.called')).slice(-1)
    expect(called).toMatchObject({ human: { id: 'ann' }, detail: { call: { lease: expect.any(String) } } })
    for (const one of [task, another]) await scene.end(one)
  })

  it.each<[string, Record<string, unknown>, string, RegExp]>([
    ['another agent', { aud: 'https://other.test' }, 'on_behalf_of_invalid', /"aud" names somebody else/],
    ['nobody', { aud: 'mayfly' }, 'on_behalf_of_invalid', /neither its "aud" nor "may_act"/],
    ['another agent, in may_act', { aud: 'mayfly', may_act: { sub: 'triage' } }, 'on_behalf_of_invalid', /"may_act" names somebody else/],
    ['a client that people sign in at', { nonce: 'n' }, 'on_behalf_of_invalid', /ID token/],
    ['the time before', { iat: 1_700_000_000, exp: 1_700_000_600 }, 'on_behalf_of_expired', /"exp" has passed/],
    ['nobody whom a rule knows', { dept: 'sales' }, 'on_behalf_of_invalid', /no human of issuer sso/],
  ])('a token for %s is refused, told and yields nothing', async (_, claims, code, because) => {
    const task = await openTask()
    const { status, body } = await asHelper(task, 'warehouse-read', await people.token('ann', { ...ANALYST, ...claims }))
    expect({ status, code: body.code }).toEqual({ status: 403, code })
    expect(JSON.stringify(body)).not.toMatch(because)
    const [denied] = await scene.told(({ task: of, type }) => of === task && type === 'lease.denied')
    expect(denied).toMatchObject({ code, principal: { id: 'helper' }, detail: { because: expect.stringMatching(because) } })
    expect(await scene.logins()).toEqual([])
    await scene.end(task)
  })

  it('a token of an agent is no token of a human, and a human calls nothing', async () => {
    const task = await openTask()
    expect(outcome(await asHelper(task, 'api-token', await scene.token('helper')))).toBe('403 on_behalf_of_invalid')
    for (const claims of [{ ...ANALYST, aud: 'mayfly' }, ANALYST, { ...ANALYST, aud: 'mayfly', may_act: { sub: 'helper' } }])
      expect(outcome(await scene.call('GET', '/v1/whoami', await people.token('ann', claims)))).toBe('401 token_invalid')
    // Nor does what an operator lets an agent act with make the agent an operator.
    const oncall = { ...ANALYST, oncall: 'yes', aud: 'mayfly' }
    expect((await scene.call('GET', '/v1/freezes', await people.token('ann', oncall))).status).toBe(200)
    const lent = await people.token('ann', { ...oncall, may_act: { sub: 'helper' } })
    expect(outcome(await scene.call('GET', '/v1/freezes', lent))).toBe('401 token_invalid')
    expect(outcome(await asHelper(task, 'api-token', lent))).toBe('201 ann')
  })

  it('a task that is opened with the token of a human is for that human, and so is what is handed on of it', async () => {
    const body = { intent: 'incident-triage', confidence: 0.9, classification: 'internal', environment: 'production' }
    const asked = {
      ...body,
      assignees: [{ agent: 'helper' }],
      envelope: ALL.map((role) => ({ role })),
      deadline_at: new Date(Date.now() + 6e5).toISOString(),
    }
    const forFlows = (sub: string, claims: object) =>
      people.token(sub, { ...claims, aud: 'mayfly', may_act: { iss: 'https://issuer.test', sub: 'flows' } })
    const flows = await scene.token('flows')
    const open = async (more: object) => scene.call('POST', '/v1/tasks', flows, { ...asked, ...more })
    expect(outcome(await open({ human: 'bob', on_behalf_of: await forFlows('ann', ANALYST) }))).toBe('403 on_behalf_of_invalid')
    expect(outcome(await open({ on_behalf_of: await people.token('ann', ANALYST) }))).toBe('403 on_behalf_of_invalid')
    const opened = await open({ human: 'ann', on_behalf_of: await forFlows('ann', { ...ANALYST, groups: ['finance'] }) })
    expect(opened.body.task).toMatchObject({ human: 'ann', human_proof: { issuer: 'sso', team: 'analytics', groups: ['finance'] } })
    const task = opened.body.task.id
    // What is known of the human goes for all that is obtained in it, without a token, and for nobody else.
    expect(outcome(await asHelper(task, 'warehouse-read'))).toBe('201 ann')
    expect(outcome(await asHelper(task, 'api-write'))).toBe('403 denied')
    expect(outcome(await asHelper(task, 'api-write', await people.token('eve', ENGINEER)))).toBe('403 on_behalf_of_invalid')
    const child = await scene.call('POST', `/v1/tasks/${task}/children`, await scene.token('helper'), {
      assignees: [{ agent: 'triage' }],
      envelope: [{ role: 'warehouse-read' }, { role: 'api-write' }],
    })
    expect(child.body.task).toMatchObject({ human: 'ann', human_proof: { team: 'analytics', groups: ['finance'] } })
    expect(outcome(await scene.obtain(child.body.task.id, 'warehouse-read'))).toBe('201 ann')
    expect(outcome(await scene.obtain(child.body.task.id, 'api-write'))).toBe('403 denied')
    await scene.end(task)
  })

  it('an agent that opens a task for itself says on whose behalf by a token alone', async () => {
    const asked = { intent: 'incident-triage', envelope: [{ role: 'api-token' }], deadline_at: new Date(Date.now() + 6e5).toISOString() }
    const open = async (more: object) => scene.call('POST', '/v1/tasks', await scene.token('helper'), { ...asked, ...more })
    expect(outcome(await open({ human: 'ann' }))).toBe('201 undefined')
    expect(outcome(await open({ on_behalf_of: await people.token('ann', ANALYST) }))).toBe('201 ann')
    // The same again, with another token of the same human, is the same task.
    const first = await open({ external_id: 'mail-7', on_behalf_of: await people.token('ann', ANALYST) })
    const second = await open({ external_id: 'mail-7', deadline_at: first.body.task.deadline_at, on_behalf_of: await people.token('ann', ANALYST) })
    expect([first.status, second.status, second.body.task.id]).toEqual([201, 200, first.body.task.id])
  })
})

describe('the stop of a human', () => {
  const oncall = async (path: string, body: object) => scene.call('POST', path, await scene.token('oncall'), { reason: 'a test', ...body })

  it('covers what is obtained on their behalf, however their name is written', async () => {
    const task = await openTask()
    const eve = () => people.token('eve', ENGINEER)
    const before = (await asHelper(task, 'api-write', await eve())).body.lease
    const kept = (await asHelper(task, 'warehouse-read', await people.token('ann', ANALYST))).body.lease
    const { body } = await oncall('/v1/emergency/revoke', { selector: { human: 'Eve@Example.com' } })
    await waitFor('the lease to be revoked', async () => (await scene.leaseOf(before.id)).state === 'revoked')
    expect((await scene.leaseOf(kept.id)).state).toBe('active')
    expect(outcome(await asHelper(task, 'api-write', await eve()))).toBe('409 frozen')
    expect(outcome(await asHelper(task, 'api-write', await people.token('eve', { ...ENGINEER, email: 'EVE@example.com' })))).toBe('409 frozen')
    expect(outcome(await asHelper(task, 'api-token', await people.token('ann', ANALYST)))).toBe('201 ann')
    await oncall(`/v1/freezes/${body.freeze.id}/thaw`, {})
    expect(outcome(await asHelper(task, 'api-write', await eve()))).toBe('201 eve@example.com')
    await scene.end(task)
  })

  it('also with something else, and also where they are to be renewed or agreed to', async () => {
    const task = await openTask()
    const { lease } = (await asHelper(task, 'warehouse-read', await people.token('ann', ANALYST))).body
    const { body } = await oncall('/v1/freezes', { selector: { human: 'ann', agent: ['helper', 'triage'] } })
    const on_behalf_of = await people.token('ann', ANALYST)
    const renewed = await scene.call('POST', `/v1/leases/${lease.id}/renew`, await scene.token('helper'), { on_behalf_of })
    expect(outcome(renewed)).toBe('409 frozen')
    expect(outcome(await asHelper(task, 'warehouse-write', await people.token('eve', { ...ENGINEER, email: 'ann' })))).toBe('409 frozen')
    await oncall(`/v1/freezes/${body.freeze.id}/thaw`, {})
    await scene.end(task)
  })

  it('and what tools do with a credential of theirs that still lives', async () => {
    const task = await openTask({ tools: [{ tool: 'tickets/get' }] })
    const { lease } = (await asHelper(task, 'api-token', await people.token('ann', ANALYST))).body
    const call = async (more: object) => {
      const body = { tool: 'tickets/get', action: 'get', target: 'acme/app', ...more }
      return scene.call('POST', `/v1/tasks/${task}/tool-calls`, await scene.token('helper'), body)
    }
    expect((await call({ lease: lease.id })).status).toBe(200)
    const { body } = await oncall('/v1/freezes', { selector: { human: 'ANN' } })
    expect(outcome(await call({ lease: lease.id }))).toBe('409 frozen')
    // By itself the agent goes on.
    expect((await call({})).status).toBe(200)
    await oncall(`/v1/freezes/${body.freeze.id}/thaw`, {})
    await scene.end(task)
  })
})

describe('a human agrees to nothing that an agent asks for on their behalf', () => {
  it('under whatever name, and what others agreed to is for this human alone', async () => {
    const task = await openTask()
    const ask = async (claims: object, more = {}) => asHelper(task, 'warehouse-write', await people.token('eve', { ...ENGINEER, ...claims }), more)
    const asked = await ask({})
    expect(asked.body.approval.request).toMatchObject({ human: 'eve@example.com', human_proof: { issuer: 'sso', team: 'platform' } })
    const { id } = asked.body.approval
    const decide = async (token: string) => scene.call('POST', `/v1/approvals/${id}/approve`, token, {})
    // The operator's id is another; the subject at the issuer is the same.
    const eve = await people.token('eve', { aud: 'mayfly', oncall: 'yes' })
    expect(outcome(await decide(eve))).toBe('403 denied')
    expect((await decide(await scene.token('colleague'))).status).toBe(200)
    for (const claims of [{ email: 'mallory@example.com' }, { dept: 'analytics' }])
      expect(outcome(await ask(claims, { approval: id }))).toMatch(/^403 (approval_invalid|denied)/)
    expect(outcome(await asHelper(task, 'warehouse-write', undefined, { approval: id }))).toBe('403 approval_invalid')
    // With a token that is newer than the one that was asked with.
    expect(outcome(await ask({}, { approval: id }))).toBe('201 eve@example.com')
    await scene.end(task)
  })
})

describe('a renewal on behalf of a human', () => {
  it.each([
    ['in place', 'warehouse-read'],
    ['by a successor', 'api-token'],
  ])('%s takes a newer token of the same human', async (_, role) => {
    const task = await openTask()
    const first = await people.token('ann', ANALYST)
    let { lease } = (await asHelper(task, role, first, { ttl: 60 })).body
    const renew = async (on_behalf_of?: string) => {
      return scene.call('POST', `/v1/leases/${lease.id}/renew`, await scene.token('helper'), { on_behalf_of, ttl: 120 })
    }
    expect(outcome(await renew())).toBe('403 on_behalf_of_required')
    expect(outcome(await renew(first))).toBe('403 on_behalf_of_required')
    expect(outcome(await renew(await people.token('bob', ANALYST)))).toBe('403 on_behalf_of_invalid')
    expect(outcome(await renew(await people.token('ann', { ...ANALYST, iat: Date.now() / 1000 - 60 })))).toBe('403 on_behalf_of_required')
    const newer = await people.token('ann', ANALYST)
    const renewed = await renew(newer)
    expect(outcome(renewed)).toBe('200 ann')
    lease = renewed.body.lease
    expect(outcome(await renew(newer))).toBe('403 on_behalf_of_required')
    expect(outcome(await renew(await people.token('ann', { ...ANALYST, dept: 'sales' })))).toBe('403 on_behalf_of_invalid')
    expect(outcome(await renew(await people.token('ann', ANALYST)))).toBe('200 ann')
    await scene.end(task)
  })

  it('of what was obtained for nobody, or for whom the task is, takes none', async () => {
    const task = await openTask()
    const { lease } = (await asHelper(task, 'api-token')).body
    const renew = async (on_behalf_of?: string) => scene.call('POST', `/v1/leases/${lease.id}/renew`, await scene.token('helper'), { on_behalf_of })
    expect(outcome(await renew(await people.token('ann', ANALYST)))).toBe('403 on_behalf_of_invalid')
    expect(outcome(await renew())).toBe('200 undefined')
    await scene.end(task)
  })
})

describe('what a human may, decided anew', () => {
  it('a lease goes when the configuration takes from the human what it rests on, and stays when it does not', async () => {
    const task = await openTask()
    const ann = (await asHelper(task, 'warehouse-read', await people.token('ann', ANALYST))).body.lease
    const eve = (await asHelper(task, 'api-write', await people.token('eve', ENGINEER))).body.lease
    const written = await readFile(scene.test.configPath, 'utf8')
    const reload = async (yaml: string) => {
      await writeFile(scene.test.configPath, yaml)
      await scene.test.broker.reload(await loadConfig(scene.test.configPath, scene.test.env))
    }
    await reload(written.replace('dept: analytics}, team: analytics', 'dept: analytics}'))
    await waitFor('the lease to go', async () => (await scene.leaseOf(ann.id)).cause === 'context_changed')
    expect((await scene.leaseOf(eve.id)).state).toBe('active')
    await reload(written.replace(/^ {2}- \{id: "\{email\}".*$/m, ''))
    await waitFor('the other to go', async () => (await scene.leaseOf(eve.id)).cause === 'context_changed')
    await reload(written)
    await scene.end(task)
  })
})
