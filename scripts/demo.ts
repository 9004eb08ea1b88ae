/**
 * The main job end to end, on real parts: PostgreSQL, Redis, an OIDC issuer and the broker as processes on free loopback ports.
 * `--json` prints one object of what was seen; without it, a story. Every number and every "refused" is read off what happened.
 */
import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { waitFor } from '../test/support/wait.js'
import { forge, openStage, type Stage } from './demo/stage.js'

const json = process.argv.includes('--json')
const say = (line: string) => json || process.stdout.write(`${line}\n`)

interface Facts {
  credential_worked: boolean
  refused: { wrong_agent: string; wrong_role: string; forged_token: string }
  open_session_cut_ms: number
  login_after_end: 'refused' | 'accepted'
  emergency: { matched: number; revoked: number; ms: number }
  crash: { killed: boolean; role_existed: boolean; orphans: number; cleaned_up_ms: number }
  issue_ms: number
}

const stage = await openStage()
try {
  const facts: Facts = { ...(await oneTask(stage)), emergency: await stop(stage), crash: await crash(stage) }
  if (json) process.stdout.write(`${JSON.stringify(facts, null, 2)}\n`)
  const well =
    facts.credential_worked &&
    Object.values(facts.refused).every((code) => code !== 'accepted') &&
    facts.login_after_end === 'refused' &&
    facts.emergency.revoked === facts.emergency.matched &&
    facts.crash.killed &&
    facts.crash.orphans === 0
  say(well ? '\nAll of it happened as told.' : '\nSomething did not happen as it should have.')
  process.exitCode = well ? 0 : 1
} finally {
  await stage.close()
}

/** An agent's token becomes a login that works, and dies with its task. */
async function oneTask({ call, tokens, database }: Stage): Promise<Omit<Facts, 'emergency' | 'crash'>> {
  say('\n1. One task')
  const task = await openTask({ call, tokens }, ['triage'])
  say(`   orchestrator "flows" opened ${task}: intent incident-triage, role warehouse-read, for the agent "triage"`)

  const asked = performance.now()
  const { credential, lease } = await obtain({ call }, tokens.triage, task)
  const issue_ms = Math.round(performance.now() - asked)
  say(`   agent "triage" showed its token and got the login ${credential.username} in ${issue_ms} ms, for ${lease.ttl_seconds} s`)

  const session = new pg.Client({ connectionString: credential.url })
  let cutAt = 0
  session.on('error', () => {})
  session.on('end', () => (cutAt ||= performance.now()))
  await session.connect()
  const { rows } = await session.query('select count(*)::int as orders from orders')
  const credential_worked = rows[0]?.orders === database.orders
  say(`   it ran a query on an open session: ${rows[0]?.orders} orders`)

  const wrong = {
    wrong_agent: await refusal(call('POST', '/v1/leases', tokens.reporter, { task, role: 'warehouse-read' })),
    wrong_role: await refusal(call('POST', '/v1/leases', tokens.triage, { task, role: 'warehouse-write' })),
    forged_token: await refusal(call('POST', '/v1/leases', await forge(tokens.triage), { task, role: 'warehouse-read' })),
  }
  for (const [what, code] of Object.entries(wrong)) say(`   ${what.replace('_', ' ')}: refused (${code})`)

  const ended = performance.now()
  await call('POST', `/v1/tasks/${task}/complete`, tokens.flows, {})
  await waitFor('the open session to be cut', () => cutAt > 0)
  const open_session_cut_ms = Math.round(cutAt - ended)
  await waitFor('the login to be dropped', async () => (await database.rolesOf(lease.id)) === 0)
  const login_after_end = await tryLogin(credential.url)
  say(`   the task completed: the open session was cut after ${open_session_cut_ms} ms, a new login is ${login_after_end}`)
  return { credential_worked, refused: wrong, open_session_cut_ms, login_after_end, issue_ms }
}

/** Three live leases, and an operator who stops the agent. */
async function stop({ call, tokens, database }: Stage): Promise<Facts['emergency']> {
  say('\n2. The stop')
  const task = await openTask({ call, tokens }, ['reporter'])
  const leases = [1, 2, 3].map(() => obtain({ call }, tokens.reporter, task))
  const ids = (await Promise.all(leases)).map(({ lease }) => lease.id)
  say(`   agent "reporter" holds ${await database.rolesOf(...ids)} logins`)

  const started = performance.now()
  const body = { selector: { agent: 'reporter' }, reason: 'the demo pulls the plug' }
  const { revocation } = await call('POST', '/v1/emergency/revoke', tokens.oncall, body).then(accepted)
  await waitFor('the logins to be dropped', async () => (await database.rolesOf(...ids)) === 0)
  const ms = Math.round(performance.now() - started)
  const report = await waitFor('the revocation to finish', async () => {
    const answer = await call('GET', `/v1/emergency/revocations/${revocation.id}`, tokens.oncall).then(accepted)
    return answer.revocation.state === 'finished' ? answer.revocation : undefined
  })
  const again = await refusal(call('POST', '/v1/leases', tokens.reporter, { task, role: 'warehouse-read' }))
  say(`   operator "oncall" revoked ${report.revoked} of ${report.matched} in ${ms} ms; asking again is refused (${again})`)
  return { matched: report.matched, revoked: report.revoked, ms }
}

/** The broker dies after the upstream has made the login and before it is told so. */
async function crash(stage: Stage): Promise<Facts['crash']> {
  say('\n3. The crash')
  const { call, tokens, database } = stage
  const task = await openTask({ call, tokens }, ['triage'])
  stage.proxy.holdAfter('LOGIN PASSWORD')
  const lost = obtain({ call }, tokens.triage, task).then(
    () => 'answered',
    () => 'lost',
  )
  await stage.proxy.held()
  const role = await waitFor('the login to exist', async () => (await database.allRoles()) > 0)
  const killed = await stage.killBroker()
  stage.proxy.release()
  say(`   CREATE ROLE has committed, its answer has not arrived: the broker is killed with SIGKILL (the caller's answer is ${await lost})`)
  const restarted = performance.now()
  await stage.startBroker()
  await waitFor('the login to be dropped', async () => (await database.allRoles()) === 0, 30_000)
  const cleaned_up_ms = Math.round(performance.now() - restarted)
  const orphans = await database.allRoles()
  say(`   a new broker found the lease that was written before anything existed, and dropped the login: ${orphans} orphans after ${cleaned_up_ms} ms`)
  return { killed, role_existed: role === true, orphans, cleaned_up_ms }
}

type Caller = Pick<Stage, 'call'>

async function openTask({ call, tokens }: Pick<Stage, 'call' | 'tokens'>, agents: string[]): Promise<string> {
  const body = {
    intent: 'incident-triage',
    confidence: 0.9,
    classification: 'internal',
    environment: 'development',
    assignees: agents.map((agent) => ({ agent })),
    envelope: [{ role: 'warehouse-read' }],
    deadline_at: new Date(Date.now() + 600_000).toISOString(),
    external_id: randomUUID(),
  }
  return (await call('POST', '/v1/tasks', tokens.flows, body).then(accepted)).task.id
}

async function obtain({ call }: Caller, token: string, task: string) {
  const { lease, credential } = await call('POST', '/v1/leases', token, { task, role: 'warehouse-read', ttl: 300 }).then(accepted)
  const ttl_seconds = Math.round((Date.parse(lease.expires_at) - Date.parse(lease.issued_at)) / 1000)
  return { lease: { id: String(lease.id), ttl_seconds }, credential: { username: String(credential.username), url: String(credential.url) } }
}

function accepted({ status, body }: Awaited<ReturnType<Stage['call']>>) {
  if (status >= 400) throw new Error(`${status} ${body.code}: ${body.detail}`)
  return body
}

async function refusal(answer: ReturnType<Stage['call']>): Promise<string> {
  const { status, body } = await answer
  return status >= 400 ? `${status} ${body.code}` : 'accepted'
}

async function tryLogin(url: string): Promise<'refused' | 'accepted'> {
  const client = new pg.Client({ connectionString: url })
  client.on('error', () => {})
  try {
    await client.connect()
    return 'accepted'
  } catch {
    return 'refused'
  } finally {
    await client.end().catch(() => {})
  }
}
