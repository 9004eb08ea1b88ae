import { deepStrictEqual, match } from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { startTestBroker } from '../test/support/broker.js'
import { makeAuthority, makeCertificate, SERVER_AUTH } from '../test/support/certificates.js'
import { startRedis } from '../test/support/redis.js'
import { waitFor } from '../test/support/wait.js'

/** A broker and a trust domain by go-spiffe, which takes its orders from here: a line of JSON for each, and one back. */
const PATH = '/ns/team-a/sa/triage'
const SERVER = 'spiffe://prod.example/spire/server'
const AGENT = `  - {id: "mesh/{path_2}", match: {issuer: mesh, path: "/ns/*/sa/triage"}, owner: sre@example.com, autonomy: scripted}\n`

const peer = spawn(process.argv[2] ?? '', { stdio: ['pipe', 'pipe', 'inherit'] })
const lines = createInterface({ input: peer.stdout })[Symbol.asyncIterator]()
// biome-ignore lint/suspicious/noExplicitAny: each order has an answer of its own
const next = async (): Promise<any> => JSON.parse((await lines.next()).value)
const tell = (op: string, more: object = {}) => {
  peer.stdin.write(`${JSON.stringify({ op, ...more })}\n`)
  return next()
}

const authority = makeAuthority('mayfly authority')
const server = makeCertificate({ commonName: 'mayfly', dns: ['localhost'], extendedUsage: [SERVER_AUTH] }, authority)
const redis = await startRedis()
const domain = await next()

async function check(profile: string, source: string, env: Record<string, string>): Promise<void> {
  const issuers = `  mesh: {preset: spiffe, trust_domain: prod.example, ${source}, audience: mayfly, stale_limit: 2s, allow_private_addresses: true}`
  const tls = '{cert: env:CERT, key: env:KEY, spiffe: mesh}'
  const broker = await startTestBroker({
    redisSocket: redis.socketPath,
    tls,
    issuers,
    agents: AGENT,
    env: { CERT: server.pem, KEY: server.key, ...env },
  })
  const url = `${broker.url.replace('127.0.0.1', 'localhost')}/v1/whoami`
  const callWith = (op: 'call' | 'strange', path: string) => tell(op, { url, path, ca: authority.pem })
  try {
    await waitFor('the bundle', () => broker.broker.identity().authorities('mesh').length > 0)
    const { status, body } = await callWith('call', PATH)
    deepStrictEqual([status, JSON.parse(body).principal?.id], [200, 'mesh/team-a'])
    console.log(`spiffe: ${profile}: an X.509-SVID over mTLS is the agent that it is`)
    const { token } = await tell('token', { path: PATH, audience: 'mayfly' })
    deepStrictEqual((await broker.broker.identity().verify(`Bearer ${token}`)).id, 'mesh/team-a')
    console.log(`spiffe: ${profile}: so is a JWT-SVID that go-spiffe takes itself`)
    deepStrictEqual((await callWith('strange', PATH)).status, 401)
    deepStrictEqual((await callWith('call', '/ns/team-a/sa/other')).status, 401)
    console.log(`spiffe: ${profile}: a stranger's, and one that no rule knows, are refused`)
    if (profile !== 'https_web') return
    await tell('rotate')
    await waitFor('the new authority', async () => (await callWith('call', PATH)).status === 200)
    await tell('retire')
    const renewed = await tell('token', { path: PATH, audience: 'mayfly' })
    await waitFor('the old key to be withdrawn', () =>
      broker.broker
        .identity()
        .verify(`Bearer ${token}`)
        .then(
          () => false,
          () => true,
        ),
    )
    deepStrictEqual((await broker.broker.identity().verify(`Bearer ${renewed.token}`)).id, 'mesh/team-a')
    console.log(`spiffe: ${profile}: keys and authorities rotate`)
  } finally {
    await broker.stop()
  }
}

try {
  const web = domain.web.replace('127.0.0.1', 'localhost')
  match(JSON.stringify(domain.bundle), /"jwt-svid".*"x509-svid"|"x509-svid".*"jwt-svid"/)
  await check('file', 'bundle: env:BUNDLE', { BUNDLE: JSON.stringify(domain.bundle) })
  const endpoint = `bundle: "${domain.spiffe}", bundle_endpoint: {spiffe_id: "${SERVER}", bootstrap: env:BUNDLE}`
  await check('https_spiffe', endpoint, { BUNDLE: JSON.stringify(domain.bundle) })
  await check('https_web', `bundle: "${web}", ca: env:WEB_CA`, { WEB_CA: domain.ca })
} finally {
  peer.kill()
  await redis.stop()
}
