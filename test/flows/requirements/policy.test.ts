import { readFile, writeFile } from 'node:fs/promises'
import { createServer, type Server, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { loadConfig } from '../../../src/config.js'
import { taskRequest } from '../../support/broker.js'
import { opaBinary, REGO, startOpa, type TestOpa } from '../../support/opa.js'
import { waitFor } from '../../support/wait.js'
import { query, type Scene, startScene } from './support.js'

/** A fake OPA, which can be made to misbehave as the real one cannot. */
let fake: Server
let fakeUrl: string
let answer: (response: ServerResponse) => void = (response) => says({ result: ALLOW })(response)
let opa: TestOpa | undefined
let empty: TestOpa | undefined
let scene: Scene
let shipped: string
let deciding: string | undefined

beforeAll(async () => {
  fake = createServer((request, response) => request.resume().on('end', () => answer(response)))
  await new Promise<void>((listening) => fake.listen(0, '127.0.0.1', listening))
  const address = fake.address()
  fakeUrl = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
  if (opaBinary !== undefined) [opa, empty] = await Promise.all([startOpa([REGO]), startOpa([])])
  scene = await startScene()
  shipped = await readFile(scene.test.configPath, 'utf8')
}, 60_000)
afterAll(async () => {
  await scene?.stop()
  await Promise.all([opa?.stop(), empty?.stop()])
  fake?.closeAllConnections()
  fake?.close()
})
afterEach(async () => {
  answer = says({ result: ALLOW })
  // Whoever opened them ends them, whatever the OPA says; not so where Cedar has no policy.
  if (deciding?.includes('empty.cedar')) await decideBy(undefined)
  await scene.clear()
})

/** Has the broker read its configuration again, with these policies; undefined: with those that are shipped, in Cedar. */
async function decideBy(policies: string | undefined): Promise<void> {
  if (policies === deciding) return
  deciding = policies
  const yaml = policies === undefined ? shipped : shipped.replace(/^policies: .*$/m, `policies: ${policies}`)
  await writeFile(scene.test.configPath, yaml)
  await scene.test.broker.reload(await loadConfig(scene.test.configPath, scene.test.env))
}
const byOpa = (url: string, timeout = '1s') =>
  decideBy(`{engine: opa, url: "${url}", allow_http_loopback: true, timeout: ${timeout}, watch: 1s, stop: [sre-oncall]}`)

const envelope = [{ role: 'warehouse-read' }, { role: 'warehouse-write' }]
const asOperator = async (path: string, body: object, who = 'oncall') => scene.call('POST', path, await scene.token(who), body)
const asked = async (who: 'flows' | 'oncall', method: string, path: string, body?: object) =>
  (await scene.call(method, path, await scene.token(who), body)).status

const NOTHING_ANSWERS = (response: ServerResponse) => void response
const says = (body: unknown, status = 200) => {
  return (response: ServerResponse) => void response.writeHead(status).end(typeof body === 'string' ? body : JSON.stringify(body))
}
const ALLOW = { outcome: 'allow', policies: ['anything'] }

describe('requirement 09: deny by default; policy as code (OPA, Cedar)', () => {
  it('an empty policy allows nobody anything, and what lives is taken back', async () => {
    const task = await scene.openTask({ envelope })
    const { credential } = await scene.issued(task, 'warehouse-read')
    expect(await query(credential.url, 'select id from orders')).toEqual([{ id: 1 }])
    await writeFile(join(scene.test.folder, 'empty.cedar'), '// Nothing.\n')
    await decideBy(`{schema: "${join(import.meta.dirname, '../../../config/schema.cedarschema')}", files: [empty.cedar]}`)
    expect(await scene.obtain(task, 'warehouse-read')).toMatchObject({ status: 403, body: { code: 'denied', policies: [] } })
    expect(await asked('flows', 'POST', '/v1/tasks', taskRequest())).toBe(403)
    expect(await asked('oncall', 'GET', '/v1/leases')).toBe(403)
    await scene.nothingUpstream()
    const closed = await scene.told(({ type, cause }) => type === 'lease.closing' && cause === 'context_changed')
    expect(closed.at(-1)).toMatchObject({ decision: { outcome: 'deny', policies: [] } })
  })

  it('each decision is recorded with the policies that made it, and their version', async () => {
    await decideBy(undefined)
    const task = await scene.openTask({ envelope })
    await scene.issued(task, 'warehouse-read')
    const { version } = scene.test.broker.house().policy
    const issued = await waitFor('the event', async () => (await scene.told(({ type, task: of }) => type === 'lease.issued' && of === task)).at(-1))
    expect(issued.decision).toMatchObject({ outcome: 'allow', policyVersion: version, policies: expect.arrayContaining(['read-supervised']) })
  })

  ;(opaBinary === undefined ? it.skip : it)(
    'an OPA decides as Cedar does, and what its policies take back is revoked without anybody asking',
    async () => {
      if (!opa || !empty) throw new Error('no OPA')
      await opa.put('version', 'package mayfly\n\nversion := "first"\n')
      await byOpa(opa.url)
      const task = await scene.openTask({ envelope })
      const { credential } = await scene.issued(task, 'warehouse-read')
      expect(await query(credential.url, 'select id from orders')).toEqual([{ id: 1 }])
      expect(await scene.obtain(task, 'warehouse-write', { can_wait: false })).toMatchObject({
        ...{ status: 403, body: { code: 'approval_required', policies: ['restricted-write-needs-a-human'] } },
      })
      const [issued] = await scene.told(({ type, task: of }) => type === 'lease.issued' && of === task)
      expect(issued?.decision).toMatchObject({ outcome: 'allow', policyVersion: 'first', policies: ['read-supervised', 'supervised-limits'] })

      const forbid = 'forbid contains {"id": "no-more", "reason": "no more"} if input.action == "read"'
      await opa.put('version', `package mayfly\n\nversion := "second"\n\n${forbid}\n`)
      await scene.nothingUpstream()
      expect(await scene.obtain(task, 'warehouse-read')).toMatchObject({
        status: 403,
        body: { code: 'denied', policies: ['no-more'], reasons: ['no more'] },
      })

      // One with nothing in it decides nothing.
      await byOpa(empty.url)
      expect(await scene.obtain(task, 'warehouse-read')).toMatchObject({ status: 403, body: { code: 'denied' } })
      const none = await waitFor('the event', async () => (await scene.told(({ type, task: of }) => type === 'lease.denied' && of === task)).at(-1))
      expect(none.decision).toMatchObject({ outcome: 'deny', error: expect.stringMatching(/no decision at this path/) })
      expect(await scene.logins()).toEqual([])
    },
  )

  it.each([
    ['no answer in time', NOTHING_ANSWERS, 503, 'policy_unavailable', /did not answer in 200 ms/],
    ['an error', says({ code: 'internal_error' }, 500), 503, 'policy_unavailable', /answered 500/],
    ['a malformed answer', says('{"result": {"outcome": "allow"'), 403, 'denied', /did not answer with JSON/],
    ['no decision', says({}), 403, 'denied', /no decision at this path/],
    ['an unknown outcome', says({ result: { ...ALLOW, outcome: 'yes' } }), 403, 'denied', /cannot be read: outcome/],
    ['a field too many', says({ result: { ...ALLOW, ttl: 60 } }), 403, 'denied', /Unrecognized key: "ttl"/],
  ])('%s is a no: nothing is issued', async (_, misbehaves, status, code, error) => {
    await byOpa(fakeUrl, '200ms')
    const task = await scene.openTask({ envelope })
    await scene.issued(task, 'warehouse-read')
    const before = await scene.logins()
    answer = misbehaves
    expect(await scene.obtain(task, 'warehouse-read')).toMatchObject({ status, body: { code } })
    // What lives may be decided anew at the same time, and then it goes.
    expect(before).toEqual(expect.arrayContaining(await scene.logins()))
    const denied = await waitFor('the event', async () => (await scene.told(({ type, task: of }) => type === 'lease.denied' && of === task)).at(-1))
    expect(denied).toMatchObject({ code, decision: { outcome: 'deny', policies: [], error: expect.stringMatching(error) } })
  })

  it('an OPA that has no policies yet ends nothing that lives; once it has, they decide', async () => {
    await decideBy(undefined)
    const task = await scene.openTask({ envelope })
    await scene.issued(task, 'warehouse-read')
    const before = await scene.logins()
    let reviews = 0
    answer = (response) => {
      reviews++
      says({})(response)
    }
    await byOpa(fakeUrl, '900ms')
    await waitFor('what lives to be decided anew, and again', async () => reviews >= 2)
    expect((await scene.obtain(task, 'warehouse-read')).status).toBe(403)
    expect(await scene.logins()).toEqual(before)
    answer = says({ result: { outcome: 'deny', policies: ['nobody'] } })
    await scene.nothingUpstream()
    const [closed] = await scene.told(({ type, task: of }) => type === 'lease.closing' && of === task)
    expect(closed).toMatchObject({ cause: 'context_changed', decision: { outcome: 'deny', policies: ['nobody'] } })
    answer = says({ result: ALLOW })
    await scene.end(task)
  })

  it('nobody waits for policy to stop: a task ends, and an operator freezes and revokes, with the OPA away', async () => {
    await byOpa(fakeUrl, '200ms')
    const tasks = [await scene.openTask({ envelope }), await scene.openTask({ envelope })]
    await Promise.all(tasks.map((task) => scene.issued(task, 'warehouse-read')))
    answer = NOTHING_ANSWERS
    expect((await scene.end(tasks[0] ?? '')).status).toBe(200)
    expect((await asOperator('/v1/freezes', { selector: { agent: ['triage'] }, reason: 'drill' }, 'visitor')).status).toBe(503)
    expect((await asOperator('/v1/freezes', { selector: { agent: ['triage'] }, reason: 'drill' })).status).toBe(201)
    expect((await asOperator('/v1/emergency/revoke', { selector: { agent: ['triage'] }, reason: 'drill' })).status).toBe(202)
    await scene.nothingUpstream()
    answer = says({ result: ALLOW })
    // An OPA that did not answer is left alone for a moment.
    const freezes = await waitFor(
      'an answer of the OPA',
      async () => (await scene.call('GET', '/v1/freezes', await scene.token('oncall'))).body.freezes,
    )
    expect(freezes).toMatchObject([{ reason: 'drill' }, { reason: 'drill' }])
    for (const { id } of freezes) expect((await asOperator(`/v1/freezes/${id}/thaw`, { reason: 'over' })).status).toBe(200)
  })
})
