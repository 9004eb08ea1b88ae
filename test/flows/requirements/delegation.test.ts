import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { waitFor } from '../../support/wait.js'
import { connected, query, type Scene, startScene } from './support.js'

/** Who works on a task at each depth, and hands on to the next; a stranger is of a team that is granted nothing. */
const AGENTS = ['triage', 'second', 'third'] as const

let scene: Scene
beforeAll(async () => {
  const agent = (id: string, team: string, autonomy = 'supervised') =>
    `  - {id: ${id}, match: {issuer: test, sub: ${id}}, owner: sre@example.com, autonomy: ${autonomy}, team: ${team}}\n`
  scene = await startScene({
    agents: agent('second', 'platform') + agent('third', 'platform') + agent('stranger', 'facilities') + agent('loose', 'platform', 'autonomous'),
  })
}, 60_000)
afterAll(() => scene?.stop())
afterEach(() => scene.clear())

const READ = { role: 'warehouse-read', max_ttl: 300 }
const handOn = async (parent: string, from: string, to: string, more: object = {}) =>
  scene.call('POST', `/v1/tasks/${parent}/children`, await scene.token(from), { assignees: [{ agent: to }], envelope: [READ], ...more })
const child = async (...asked: Parameters<typeof handOn>): Promise<string> => {
  const { status, body } = await handOn(...asked)
  if (status !== 201) throw new Error(`it was not handed on: ${status} ${JSON.stringify(body)}`)
  return body.task.id
}
/** A task handed on twice, and a lease at each depth. */
async function tree() {
  const root = await scene.openTask({ envelope: [READ, { role: 'warehouse-write' }], human: undefined })
  const first = await child(root, AGENTS[0], AGENTS[1])
  const tasks = [root, first, await child(first, AGENTS[1], AGENTS[2])]
  const leases = []
  for (const [depth, task] of tasks.entries()) leases.push(await scene.issued(task, 'warehouse-read', {}, AGENTS[depth]))
  return { root, first, tasks, leases }
}

describe('requirement 19: delegation chains auditable, original intent undiluted', () => {
  it('the chain is in every event and in the task, and the database says whose login it is', async () => {
    const { tasks, leases } = await tree()
    const last = tasks.at(-1)
    const told = await scene.told((event) => event.task === last)
    expect(told.map(({ type, chain }) => [type, chain.join(' > ')])).toEqual([
      ['task.opened', 'triage > second'],
      ['lease.reserved', 'triage > second > third'],
      ['lease.issued', 'triage > second > third'],
    ])
    const { body } = await scene.call('GET', `/v1/tasks/${last}`, await scene.token('flows'))
    expect(body.task).toMatchObject({ chain: ['triage', 'second'], parent: tasks[1], intent: 'incident-triage' })
    const [comment] = await scene.postgres.query("select shobj_description(oid, 'pg_authid') as text from pg_roles where rolname = $1", [
      leases.at(-1)?.credential.username,
    ])
    expect(JSON.parse(String(comment?.text))).toMatchObject({ agent: 'third', task: last, lease: leases.at(-1)?.lease.id })
  })

  it('intent immutable: neither who hands on nor who opened the tree says another', async () => {
    const { root, first } = await tree()
    expect((await handOn(root, 'triage', 'second', { intent: 'deploy' })).body.code).toBe('request_invalid')
    for (const who of ['triage', 'second', 'flows']) {
      const { status } = await scene.call('PATCH', `/v1/tasks/${first}/context`, await scene.token(who), { intent: 'deploy' })
      expect([404, 422]).toContain(status)
    }
    expect((await scene.call('GET', `/v1/tasks/${first}`, await scene.token('flows'))).body.task.intent).toBe('incident-triage')
  })

  it('child ⊆ parent: widening -> deny', async () => {
    const { first } = await tree()
    const before = await scene.logins()
    const wider: [string, object][] = [
      ['a role', { envelope: [{ role: 'warehouse-write' }] }],
      ['a TTL', { envelope: [{ role: 'warehouse-read', max_ttl: 301 }] }],
      ['no TTL', { envelope: [{ role: 'warehouse-read' }] }],
      ['a deadline', { deadline_at: new Date(Date.now() + 3_600_000).toISOString() }],
    ]
    for (const [what, more] of wider) {
      const { status, body } = await handOn(first, 'second', 'third', more)
      expect({ what, status, code: body.code }).toEqual({ what, status: 403, code: 'outside_envelope' })
    }
    expect((await scene.obtain(first, 'warehouse-write', {}, 'second')).body.code).toBe('outside_envelope')
    const { lease } = await scene.issued(first, 'warehouse-read', { ttl: 900 }, 'second')
    expect(Date.parse(lease.expires_at) - Date.parse(lease.issued_at)).toBeLessThanOrEqual(300_000)
    expect(await scene.logins()).toHaveLength(before.length + 1)
  })

  it('depth cap: a supervised agent hands on two deep, and no further; nobody hands back', async () => {
    const { tasks } = await tree()
    expect((await handOn(tasks[2] ?? '', 'third', 'reporter')).body).toMatchObject({ status: 403, code: 'denied' })
    expect((await handOn(tasks[1] ?? '', 'second', 'triage')).body).toMatchObject({ status: 403, policies: ['no-delegation-in-circles'] })
  })

  it('within the team, and to nobody of whom a human sees less: what is not known of an agent is the least', async () => {
    const root = await scene.openTask({ envelope: [READ] })
    for (const to of ['stranger', 'loose', 'nobody-that-is-configured'])
      expect({ to, ...(await handOn(root, 'triage', to)).body }).toMatchObject({ to, status: 403, code: 'denied', policies: [] })
    // One that may not is enough.
    const both = { assignees: [{ agent: 'second' }, { agent: 'stranger' }] }
    expect((await handOn(root, 'triage', 'second', both)).body.code).toBe('denied')
    // Whether or not its running copies are told apart.
    for (const to of ['reporter', 'copy-one']) expect((await handOn(root, 'triage', to)).status).toBe(201)
    expect(await scene.logins()).toEqual([])
  })

  it.each(['complete', 'fail', 'cancel'] as const)("parent's end takes the subtree: %s", async (how) => {
    const { root, tasks, leases } = await tree()
    const sessions = await Promise.all(leases.map(({ credential }) => connected(credential.url)))
    await scene.end(root, how)
    for (const { isCut } of sessions) await waitFor('the session to be cut', isCut)
    await scene.nothingUpstream()
    for (const [depth, task] of tasks.entries()) expect((await scene.obtain(task, 'warehouse-read', {}, AGENTS[depth])).body.code).toBe('task_ended')
    for (const { credential } of leases) await expect(query(credential.url, 'select 1')).rejects.toThrow()
  })
})

describe('requirement 20: trust is not inherited with context', () => {
  const approve = async (id: string) => scene.call('POST', `/v1/approvals/${id}/approve`, await scene.token('oncall'), {})

  it("parent's write absent in the child: neither its lease, nor its envelope, nor the consent that it was given", async () => {
    const root = await scene.openTask({ envelope: [READ, { role: 'warehouse-write' }] })
    const asked = (await scene.obtain(root, 'warehouse-write')).body.approval.id
    await approve(asked)
    const write = await scene.issued(root, 'warehouse-write', { approval: asked })
    const again = (await scene.obtain(root, 'warehouse-write')).body.approval.id
    await approve(again)

    // Handed on without the write: it is not there.
    const reading = await child(root, 'triage', 'second')
    expect((await scene.obtain(reading, 'warehouse-write', { approval: again }, 'second')).body.code).toBe('outside_envelope')
    // Handed on with it: a human has to agree anew, to this agent in this task.
    const writing = await child(root, 'triage', 'second', { envelope: [READ, { role: 'warehouse-write' }] })
    const theirs = await scene.obtain(writing, 'warehouse-write', {}, 'second')
    expect(theirs).toMatchObject({ status: 202, body: { approval: { agent: 'second', task: writing, state: 'open' } } })
    for (const approval of [asked, again]) {
      expect((await scene.obtain(writing, 'warehouse-write', { approval }, 'second')).body).toMatchObject({ status: 403, code: 'approval_invalid' })
      expect((await scene.call('GET', `/v1/approvals/${approval}`, await scene.token('second'))).status).toBe(404)
    }
    for (const [method, path] of [
      ['GET', ''],
      ['DELETE', ''],
      ['POST', '/renew'],
    ] as const) {
      const body = method === 'POST' ? {} : undefined
      expect((await scene.call(method, `/v1/leases/${write.lease.id}${path}`, await scene.token('second'), body)).status).toBe(404)
    }
    expect((await scene.obtain(root, 'warehouse-read', {}, 'second')).status).toBe(404)
    expect(await scene.logins()).toEqual([write.credential.username])
  })

  it('what the one who hands on may is not what the other may', async () => {
    const root = await scene.openTask({ envelope: [READ] })
    await scene.issued(root, 'warehouse-read')
    // An agent hands nothing on to another team. An orchestrator may, and what the stranger lacks nobody gives it.
    expect((await handOn(root, 'triage', 'stranger')).body).toMatchObject({ status: 403, code: 'denied', policies: [] })
    const task = await child(root, 'flows', 'stranger')
    expect((await scene.obtain(task, 'warehouse-read', {}, 'stranger')).body).toMatchObject({ status: 403, code: 'denied', policies: [] })
    expect(await scene.logins()).toHaveLength(1)
  })
})
