import { createHmac } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { loadConfig } from '../../../src/config.js'
import { type Answer, startTestBroker, type TestBroker, type TestBrokerOptions } from '../../support/broker.js'
import { type CertificateShape, type Made, makeAuthority, makeCertificate, SERVER_AUTH } from '../../support/certificates.js'
import { type MtlsCaller, mtlsCaller } from '../../support/mtls.js'
import { type FakeTrustDomain, newTrustDomain } from '../../support/trust-domain.js'
import { waitFor } from '../../support/wait.js'
import { query, type Scene, startScene } from './support.js'

const AGENTS = [
  ['mesh/{path_2}', 'issuer: mesh, path: "/ns/*/sa/triage"', ''],
  ['pod/{path_2}', 'issuer: mesh, path: "/ns/*/sa/triage/pod/*"', ', instance: path_6'],
  // Two rules that some match both of.
  ['twin-{sub}', 'issuer: test, sub: "twin-*"', ''],
  ['agent-{sub}', 'issuer: test, sub: "*-agent"', ''],
  ['mesh-twin', 'issuer: mesh, path: "/twin/*"', ''],
  ['mesh-agent', 'issuer: mesh, path: "/*/agent"', ''],
].map(([id, match, more]) => `  - {id: "${id}", match: {${match}}, owner: sre@example.com, autonomy: supervised, team: platform${more}}\n`)

/** One ledger, and two brokers of it: a plain one for callers with tokens, and one for the mesh. */
let scene: Scene
let mesh: TestBroker
let prod: FakeTrustDomain
let server: { authority: Made; certificate: Made }

beforeAll(async () => {
  const authority = makeAuthority('server authority')
  server = { authority, certificate: makeCertificate({ commonName: 'mayfly', dns: ['localhost'], extendedUsage: [SERVER_AUTH] }, authority) }
  prod = await newTrustDomain('prod.example')
  const options: Omit<TestBrokerOptions, 'redisSocket'> = {
    agents: AGENTS.join(''),
    issuers: '  mesh: {preset: spiffe, trust_domain: prod.example, bundle: env:BUNDLE, audience: mayfly}',
    env: { BUNDLE: JSON.stringify(prod.bundle()), CERT: server.certificate.pem, KEY: server.certificate.key },
  }
  scene = await startScene(options)
  mesh = await startTestBroker({
    ...options,
    redisSocket: scene.redis.socketPath,
    postgresUrl: scene.test.env.WAREHOUSE_URL,
    like: scene.test,
    tls: '{cert: env:CERT, key: env:KEY, spiffe: mesh}',
  })
}, 60_000)
afterAll(async () => {
  await mesh?.stop()
  await scene?.stop()
})
const callers: MtlsCaller[] = []
afterEach(async () => {
  for (const caller of callers.splice(0)) caller.close()
  await scene.clear()
})

/** Over mTLS, with a certificate of this workload and no token. */
function workload(path: string, shape: CertificateShape = {}): MtlsCaller {
  const caller = mtlsCaller(mesh.url.replace('127.0.0.1', 'localhost'), server.authority, prod.svid(path, shape))
  callers.push(caller)
  return caller
}
const taskFor = (agent: string, more: object = {}) => scene.openTask({ assignees: [{ agent }], envelope: [{ role: 'warehouse-read' }], ...more })
const ask = (task: string) => ({ task, role: 'warehouse-read' })
const obtainWith = (token: string, task: string) => scene.call('POST', '/v1/leases', token, ask(task))
const works = async ({ body }: Answer) => expect(await query(body.credential.url, 'select id from orders')).toEqual([{ id: 1 }])
/** Refusals of callers without a valid token are told of, as far as they are not too many. */
const refusals = async () => (await scene.told(({ type, principal }) => type === 'request.refused' && !principal)).length

describe('requirement 04: a workload identity, no human-shaped account, no shared secret', () => {
  it('a JWT-SVID becomes a working login, and dies with its task', async () => {
    const task = await taskFor('mesh/team-a')
    const answer = await obtainWith(await prod.jwt('/ns/team-a/sa/triage'), task)
    expect(answer).toMatchObject({ status: 201, body: { lease: { task, role: 'warehouse-read', state: 'active' } } })
    await works(answer)
    const [told] = await scene.told(({ type, lease }) => type === 'lease.issued' && lease === answer.body.lease.id)
    expect(told.principal).toMatchObject({ kind: 'agent', id: 'mesh/team-a', issuer: 'mesh', owner: 'sre@example.com' })
    await scene.end(task)
    await expect(query(answer.body.credential.url, 'select 1')).rejects.toThrow()
    await scene.nothingUpstream()
  })

  it('an X.509-SVID does, too, and is renewed by one that is newer', async () => {
    const task = await taskFor('mesh/team-a')
    const old = workload('/ns/team-a/sa/triage')
    const answer = await old.call('POST', '/v1/leases', { ...ask(task), ttl: 60 })
    expect(answer).toMatchObject({ status: 201, body: { lease: { task, state: 'active' } } })
    await works(answer)
    const renewal = `/v1/leases/${answer.body.lease.id}/renew`
    expect(await old.call('POST', renewal, { ttl: 300 })).toMatchObject({ status: 401, body: { code: 'token_not_fresh' } })
    const renewed = await workload('/ns/team-a/sa/triage', { notBefore: Date.now() }).call('POST', renewal, { ttl: 300 })
    expect(renewed).toMatchObject({ status: 200, body: { lease: { id: answer.body.lease.id, renewals: 1 } } })
    await works(answer)
    await scene.end(task)
    await expect(query(answer.body.credential.url, 'select 1')).rejects.toThrow()
    expect((await old.call('POST', '/v1/leases', ask(task))).body.code).toBe('task_ended')
  })

  it("a static key or a login's ID token -> 401, and nothing is minted", async () => {
    const task = await taskFor('triage')
    const [header, payload] = (await scene.token('triage')).split('.')
    const shared = Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(header ?? '', 'base64url').toString()), alg: 'HS256' })).toString(
      'base64url',
    )
    const mac = createHmac('sha256', 'a secret that is shared').update(`${shared}.${payload}`).digest('base64url')
    const login = { auth_time: Math.floor(Date.now() / 1000) }
    const tokens = [
      'sk-live-0123456789abcdef0123456789abcdef',
      'triage',
      `${shared}.${payload}.${mac}`,
      await scene.token('triage', { ...login, nonce: 'n-0S6_WzA2Mj' }),
      await scene.token('triage', { ...login, at_hash: '77QmUPtjPfzWtF2AnpK9RQ' }),
      await prod.jwt('/ns/team-a/sa/triage', { nonce: 'n-0S6_WzA2Mj' }),
    ]
    const before = await refusals()
    for (const token of tokens) expect(await obtainWith(token, task)).toMatchObject({ status: 401, body: { code: 'token_invalid' } })
    const bare: Record<string, string>[] = [
      { authorization: `Basic ${Buffer.from('triage:password').toString('base64')}` },
      { 'x-api-key': 'sk-live-0123456789abcdef' },
      { cookie: 'session=0123456789abcdef' },
    ]
    for (const headers of bare) expect((await scene.call('POST', '/v1/leases', '', ask(task), headers)).status).toBe(401)
    expect(await refusals()).toBeGreaterThan(before)
    expect(await scene.logins()).toEqual([])
    expect((await scene.obtain(task, 'warehouse-read')).status).toBe(201)
  })

  it('what was minted here is no identity here', async () => {
    const task = await scene.openTask({ envelope: [{ role: 'api-token' }] })
    const { credential } = await scene.issued(task, 'api-token')
    expect(credential.token).toMatch(/^ey/)
    expect((await obtainWith(credential.token, task)).status).toBe(401)
  })

  it('a key for an agent, or a key set with a secret in it, does not load', async () => {
    const yaml = await readFile(scene.test.configPath, 'utf8')
    const path = join(scene.test.folder, 'changed.yaml')
    const loaded = async (change: (text: string) => string, env: Record<string, string> = {}) => {
      await writeFile(path, change(yaml))
      return loadConfig(path, { ...scene.test.env, ...env })
    }
    expect((await loaded((text) => text)).identity.agents).toHaveLength(AGENTS.length + 3)
    for (const key of ['key', 'password', 'api_key', 'secret'])
      await expect(loaded((text) => text.replace('{id: triage,', `{id: triage, ${key}: hunter2,`))).rejects.toThrow(
        `agents.0: unknown field "${key}"`,
      )
    const symmetric = await loaded((text) => text, { JWKS: JSON.stringify({ keys: [{ kty: 'oct', k: 'c2VjcmV0', kid: 'test', alg: 'HS256' }] }) })
    await expect(scene.test.broker.reload(symmetric)).rejects.toThrow(/issuers\.test\.keys: 1 of 1 are not public signature keys/)
    await expect(loaded((text) => text.replace('audience: mayfly}', 'audience: mayfly, algorithms: [HS256]}'))).rejects.toThrow(/algorithms/)
  })
})

describe('requirement 05: one identity for each agent in multi-agent systems', () => {
  it('double mapping refused: a token, or a certificate, that is two agents is none', async () => {
    const whoami = async (token: string) => (await scene.call('GET', '/v1/whoami', token)).body.principal?.id ?? 'nobody'
    expect(await whoami(await scene.token('twin-one'))).toBe('twin-twin-one')
    expect(await whoami(await scene.token('one-agent'))).toBe('agent-one-agent')
    expect(await whoami(await scene.token('twin-agent'))).toBe('nobody')
    expect(await whoami(await prod.jwt('/twin/a'))).toBe('mesh-twin')
    expect(await whoami(await prod.jwt('/a/agent'))).toBe('mesh-agent')
    expect(await whoami(await prod.jwt('/twin/agent'))).toBe('nobody')
    expect((await workload('/twin/a').call('GET', '/v1/whoami')).body.principal.id).toBe('mesh-twin')
    expect(await workload('/twin/agent').call('GET', '/v1/whoami')).toMatchObject({ status: 401, body: { code: 'token_invalid' } })
    const task = await taskFor('mesh-twin')
    expect((await obtainWith(await prod.jwt('/twin/agent'), task)).status).toBe(401)
    expect((await obtainWith(await prod.jwt('/twin/a'), task)).status).toBe(201)
  })

  it("B cannot use A's lease, whichever way A and B show who they are", async () => {
    const task = await taskFor('mesh/team-a')
    const a = await obtainWith(await prod.jwt('/ns/team-a/sa/triage'), task)
    const { id } = a.body.lease
    const b = workload('/ns/team-b/sa/triage', { notBefore: Date.now() })
    const others: ((method: string, path: string, body?: object) => Promise<Answer>)[] = [
      (method, path, body) => b.call(method, path, body),
      async (method, path, body) => scene.call(method, path, await prod.jwt('/ns/team-b/sa/triage'), body),
      async (method, path, body) => scene.call(method, path, await scene.token('triage'), body),
    ]
    for (const other of others) {
      for (const [method, path, body] of [
        ['GET', `/v1/leases/${id}`, undefined],
        ['POST', `/v1/leases/${id}/renew`, { ttl: 60 }],
        ['DELETE', `/v1/leases/${id}`, undefined],
        ['POST', '/v1/leases', ask(task)],
        ['GET', `/v1/tasks/${task}`, undefined],
      ] as const)
        expect({ path, ...(await other(method, path, body)) }).toMatchObject({ path, status: 404, body: { code: 'not_found' } })
    }
    // To A it is there, by a certificate as by a token: one workload is one agent.
    const own = workload('/ns/team-a/sa/triage')
    expect(await own.call('GET', `/v1/leases/${id}`)).toMatchObject({ status: 200, body: { lease: { state: 'active' } } })
    await works(a)
    expect((await own.call('DELETE', `/v1/leases/${id}?wait=10`)).status).toBe(200)
    await waitFor('A to have given it back', async () => (await scene.logins()).length === 0)
  })

  it('running copies of one agent are told apart: what one holds is not the other’s', async () => {
    const task = await taskFor('pod/team-a', { assignees: [{ agent: 'pod/team-a', instance: 'f00d' }] })
    const one = workload('/ns/team-a/sa/triage/pod/f00d')
    const two = workload('/ns/team-a/sa/triage/pod/beef')
    const { status, body } = await one.call('POST', '/v1/leases', ask(task))
    expect(status).toBe(201)
    expect((await two.call('POST', '/v1/leases', ask(task))).status).toBe(404)
    expect((await two.call('GET', `/v1/leases/${body.lease.id}`)).status).toBe(404)
    expect((await scene.call('GET', `/v1/leases/${body.lease.id}`, await prod.jwt('/ns/team-a/sa/triage/pod/beef'))).status).toBe(404)
    expect((await scene.call('GET', `/v1/leases/${body.lease.id}`, await prod.jwt('/ns/team-a/sa/triage/pod/f00d'))).status).toBe(200)
  })

  it('a connection of A with a token of B is neither', async () => {
    const task = await taskFor('mesh/team-b')
    const authorization = `Bearer ${await prod.jwt('/ns/team-b/sa/triage')}`
    const mixed = await workload('/ns/team-a/sa/triage').call('POST', '/v1/leases', ask(task), { authorization })
    expect(mixed).toMatchObject({ status: 401, body: { code: 'token_invalid' } })
    expect(await scene.logins()).toEqual([])
    const same = await workload('/ns/team-b/sa/triage').call('POST', '/v1/leases', ask(task), { authorization })
    expect(same.status).toBe(201)
  })
})
