import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { attributes, knownPaths } from '../../../src/policy/attributes.js'
import { type Answer, taskRequest } from '../../support/broker.js'
import { query, type Scene, startScene } from './support.js'

/** Of whom, for what task, of what role, and what is asked for beside it. */
interface Asking {
  readonly who?: 'probe' | 'other' | 'foreign'
  /** `own`: opened by the agent for itself; `child`: handed on to it. */
  readonly task?: Record<string, unknown> & { readonly opened?: 'own' | 'child' | 'by-others' }
  /** Of the role that is asked for; its name is all that another has in common with it. */
  readonly role?: string
  readonly ask?: Record<string, unknown>
  /** Roles that the task has obtained before. */
  readonly after?: readonly string[]
  /** Renews what was obtained. */
  readonly renews?: true
}
/** A condition that holds for the first request and not for the second, which differ in one attribute alone. */
type Flip = readonly [condition: string, holds: Asking, fails: Asking]

const LOGIN = 'provider: warehouse, params: {member_of: [reporting_ro]}'
const TOKEN = 'params: {audience: "https://reports.example"}'
/** By the path that policies read each by. */
const FLIPS: Readonly<Record<string, Flip>> = {
  'principal.issuer': ['principal.issuer == Issuer::"test"', {}, { who: 'foreign' }],
  'principal.autonomy': ['principal.autonomy == Autonomy::"supervised"', {}, { who: 'other' }],
  'principal.labels': ['principal.labels.contains("trusted")', {}, { who: 'other' }],
  'principal.owner': ['principal.owner == Human::"ann@example.com"', {}, { who: 'other' }],
  'resource.access': ['resource.access == Access::"read"', {}, { role: 'access: write' }],
  'resource.sensitivity': ['resource.sensitivity == Sensitivity::"internal"', {}, { role: 'sensitivity: confidential' }],
  'resource.level': ['resource.level <= 1', {}, { role: 'sensitivity: confidential' }],
  'resource.revocation': [
    'resource.revocation == Revocation::"immediate"',
    { role: `provider: tokens, ${TOKEN}` },
    { role: `provider: signed, ${TOKEN}` },
  ],
  'resource.labels': ['resource.labels.contains("reports")', { role: 'labels: [reports]' }, {}],
  'context.renewal': ['!context.renewal', {}, { renews: true }],
  'context.ttl': ['context.ttl <= 300', { ask: { ttl: 300 } }, { ask: { ttl: 301 } }],
  'context.intent': ['context.intent == Intent::"incident-triage"', {}, { task: { intent: 'deploy' } }],
  // What nobody has classified takes a human, who is asked where policy would allow it, and who agrees here.
  'context.classified': ['!context.classified', { task: { intent: 'something' } }, {}],
  'context.confidence': ['context.confidence.greaterThanOrEqual(decimal("0.8"))', { task: { confidence: 0.8 } }, { task: { confidence: undefined } }],
  'context.level': ['context.level <= 1', {}, { task: { classification: undefined } }],
  'context.environment': ['context.environment == Environment::"production"', {}, { task: { environment: undefined } }],
  'context.scope': [
    'context.scope.contains("member_of=reporting_ro")',
    { role: 'scope: {member_of: set}', ask: { scope: { member_of: ['reporting_ro'] } } },
    { role: 'scope: {member_of: set}' },
  ],
  'context.tool': ['context has tool && context.tool == Tool::"psql"', { ask: { tool: 'psql' } }, {}],
  'context.destination': [
    'context has destination && context.destination like "https://in.example/*"',
    { ask: { destination: 'https://in.example/x' } },
    {},
  ],
  'context.depth': ['context.depth < 1', {}, { task: { opened: 'child' } }],
  'context.selfOpened': ['context.selfOpened', { task: { opened: 'own' } }, {}],
  'context.orchestrator': ['context.orchestrator == Orchestrator::"flows"', {}, { task: { opened: 'by-others' } }],
  'context.human': ['context has human && context.human == Human::"cleo@example.com"', { task: { human: 'cleo@example.com' } }, {}],
  'context.accumulated.obtained': ['!context.accumulated.obtained.contains("read:confidential")', {}, { after: ['warehouse-read'] }],
  'context.accumulated.reads': ['context.accumulated.reads < 1', {}, { after: ['any-read'] }],
  'context.accumulated.writes': ['context.accumulated.writes < 1', {}, { after: ['any-write'] }],
  'context.accumulated.escalations': ['context.accumulated.escalations < 1', {}, { after: ['any-admin'] }],
}
/**
 * What no caller can say over HTTP: only an agent's own word tells where data goes, and that makes nothing inside; and how an agent behaves is
 * counted, not said.
 */
const COUNTED = ['principal.risk', ...['reads', 'writes', 'escalations'].map((count) => `context.recent.${count}`)]
const UNSAID = ['context.external', 'context.approval.groups', 'context.humanProven', ...COUNTED]

const paths = Object.keys(FLIPS)
const BEFORE = ['any-read', 'any-write', 'any-admin']
const roleOf = (path: string, which: 'yes' | 'no') => `${path.replaceAll('.', '-').toLowerCase()}-${which}`

let scene: Scene
beforeAll(async () => {
  const agent = (id: string, more: string) => `  - {id: ${id}, ${more}, open_tasks: {envelope: [{role: ${roleOf('context.selfOpened', 'yes')}}]}}\n`
  const role = (name: string, more = '') => {
    const given = new Map(
      [`access: read`, 'sensitivity: internal', 'max_ttl: 15m', 'max_lifetime: 1h', ...fields(LOGIN), ...fields(more)].map(entryOf),
    )
    return `  ${name}: {${[...given].map(([key, value]) => `${key}: ${value}`).join(', ')}}`
  }
  scene = await startScene({
    issuers: '  second: {jwks: env:JWKS, issuer: "https://second.test", audience: mayfly}',
    agents: [
      agent('probe', 'match: {issuer: test, sub: probe}, owner: ann@example.com, autonomy: supervised, labels: [trusted]'),
      agent('other', 'match: {issuer: test, sub: other}, owner: bob@example.com, autonomy: scripted'),
      agent('foreign', 'match: {issuer: second, sub: probe}, owner: ann@example.com, autonomy: supervised, labels: [trusted]'),
    ].join(''),
    roles: [
      ...paths.flatMap((path) => [role(roleOf(path, 'yes'), FLIPS[path]?.[1].role), role(roleOf(path, 'no'), FLIPS[path]?.[2].role)]),
      ...BEFORE.map((name) => role(name, `access: ${name === 'any-admin' ? 'escalate' : name.replace('any-', '')}`)),
    ].join('\n'),
    policy: [
      ...paths.map((path) => {
        const [which, id] = [`(resource == Role::"${roleOf(path, 'yes')}" || resource == Role::"${roleOf(path, 'no')}")`, path.replaceAll('.', '-')]
        return `@id("${id}") permit (principal is Agent, action in Action::"obtain", resource) when { ${which} && ${FLIPS[path]?.[0]} };`
      }),
      ...[...BEFORE, 'warehouse-read'].map(
        (name) => `@id("${name}") permit (principal is Agent, action in Action::"obtain", resource == Role::"${name}");`,
      ),
      '@id("people") permit (principal is Human, action in Action::"obtain", resource);',
    ].join('\n'),
  })
}, 60_000)
afterAll(() => scene?.stop())

/** `a: b, c: {d: e}` -> its fields; commas within brackets are theirs. */
const fields = (text: string) => text.split(/, (?=[a-z_]+:)(?![^{]*\})/).filter(Boolean)
const entryOf = (field: string) => [field.slice(0, field.indexOf(':')), field.slice(field.indexOf(':') + 2)] as const

const tokenOf = (who: string) => scene.token(who === 'foreign' ? 'probe' : who, who === 'foreign' ? { iss: 'https://second.test' } : {})
const opened = ({ status, body }: Answer): string => {
  if (status !== 201) throw new Error(`the task was not opened: ${status} ${JSON.stringify(body)}`)
  return body.task.id
}

async function taskFor(who: string, role: string, { opened: how, ...facts }: NonNullable<Asking['task']> = {}): Promise<string> {
  const envelope = [role, ...BEFORE, 'warehouse-read'].map((name) => ({ role: name }))
  if (how === 'own') {
    const own = { intent: 'incident-triage', envelope: [{ role }], deadline_at: taskRequest().deadline_at }
    return opened(await scene.call('POST', '/v1/tasks', await tokenOf(who), own))
  }
  const by = await scene.token(how === 'by-others' ? 'other-flows' : 'flows')
  const task = opened(await scene.call('POST', '/v1/tasks', by, { ...taskRequest(), envelope, assignees: [{ agent: who }], ...facts }))
  if (how !== 'child') return task
  return opened(await scene.call('POST', `/v1/tasks/${task}/children`, by, { assignees: [{ agent: who }], envelope }))
}

/** What becomes of a request, with a human's consent where one is asked. */
async function obtain(who: string, asked: Record<string, unknown>): Promise<Answer> {
  const token = await tokenOf(who)
  const first = await scene.call('POST', '/v1/leases', token, asked)
  if (first.status !== 202) return first
  const { id } = first.body.approval
  await scene.call('POST', `/v1/approvals/${id}/approve`, await scene.token('oncall'), {})
  return scene.call('POST', '/v1/leases', token, { ...asked, approval: id })
}

async function outcomeOf(path: string, which: 'yes' | 'no', { who = 'probe', task: about, ask, after = [], renews }: Asking): Promise<Answer> {
  const role = roleOf(path, which)
  const task = await taskFor(who, role, about)
  for (const before of after) expect((await obtain(who, { task, role: before })).status).toBe(201)
  const answer = await obtain(who, { task, role, ...ask })
  if (!renews) return answer
  return scene.call('POST', `/v1/leases/${answer.body.lease.id}/renew`, await tokenOf(who), {})
}

describe('requirement 06: decide in context: action, target, task, purpose, tool, data sensitivity, environment, destination, risk, blast radius', () => {
  it.each(paths)('flip each attribute: the decision flips: %s', async (path) => {
    const [, holds, fails] = FLIPS[path] ?? ['', {}, {}]
    const yes = await outcomeOf(path, 'yes', holds)
    expect({ status: yes.status, code: yes.body.code }).toEqual({ status: 201, code: undefined })
    if (yes.body.credential.url) expect(await query(yes.body.credential.url, 'select 1 as one')).toEqual([{ one: 1 }])

    const before = await scene.logins()
    const no = await outcomeOf(path, 'no', fails)
    // Denied by nobody's forbid: no policy allows it.
    expect({ status: no.status, code: no.body.code, policies: no.body.policies }).toEqual({ status: 403, code: 'denied', policies: [] })
    const made = fails.renews ? 1 : (fails.after?.length ?? 0)
    // Each no raises the risk of the agent, and what it holds from before may end by that: what counts is what is new.
    expect((await scene.logins()).filter((login) => !before.includes(login))).toHaveLength(made)
  })

  it('and none is left out that a caller can tell', () => {
    const known = knownPaths(attributes({ intents: new Set(), environments: new Set() }), 'obtain')
    expect([...paths, ...UNSAID].sort()).toEqual([...known].sort())
  })

  it('missing is never a wildcard: what is not said is the strictest there is', async () => {
    const task = await taskFor('probe', roleOf('context.tool', 'no'), { confidence: undefined, classification: undefined, environment: undefined })
    const { body } = await scene.call('GET', `/v1/tasks/${task}`, await scene.token('flows'))
    expect(body.task).toMatchObject({ confidence: 0, classification: 'restricted', environment: 'unknown', classified: true })
    const unnamed = await scene.call('POST', '/v1/tasks', await scene.token('flows'), { ...taskRequest(), intent: undefined })
    expect(unnamed).toMatchObject({ status: 422, body: { code: 'request_invalid' } })
  })
})
