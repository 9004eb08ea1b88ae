import { once } from 'node:events'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { loadConfig } from '../../src/config.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { digitalSignature, type Made, makeAuthority, makeCertificate, makeSvid, SERVER_AUTH } from '../support/certificates.js'
import { type MtlsCaller, mtlsCaller } from '../support/mtls.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { BundleEndpoint, type FakeTrustDomain, newTrustDomain, x509Entry } from '../support/trust-domain.js'
import { waitFor } from '../support/wait.js'

const PATH = '/ns/team-a/sa/triage'
const AGENTS = `  - {id: "mesh/{path_2}", match: {issuer: mesh, path: "/ns/*/sa/triage"}, owner: sre@example.com, autonomy: scripted}
  - {id: "partner/{path_2}", match: {issuer: partner, path: "/ns/*/sa/triage"}, owner: sre@example.com, autonomy: scripted}
  - {id: "pod/{path_2}", match: {issuer: mesh, path: "/ns/*/sa/triage/pod/*", svid: x509}, instance: path_6, owner: sre@example.com, autonomy: scripted}
`

let redis: TestRedis
let prod: FakeTrustDomain
let partner: FakeTrustDomain
let endpoint: BundleEndpoint
let server: { authority: Made; certificate: Made }
let test: TestBroker

beforeAll(async () => {
  const authority = makeAuthority('server authority')
  server = {
    authority,
    certificate: makeCertificate({ commonName: 'mayfly', dns: ['127.0.0.1', 'localhost'], extendedUsage: [SERVER_AUTH] }, authority),
  }
  ;[redis, prod, partner] = await Promise.all([startRedis(), newTrustDomain('prod.example'), newTrustDomain('partner.example')])
  endpoint = await new BundleEndpoint(prod.bundle()).start()
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    tls: '{cert: env:CERT, key: env:KEY, spiffe: mesh}',
    issuers: `  mesh: {preset: spiffe, trust_domain: prod.example, bundle: "${endpoint.url}", audience: mayfly, allow_http_loopback: true, stale_limit: 2s, max_lifetime: 2h}
  partner: {preset: spiffe, trust_domain: partner.example, bundle: env:PARTNER, audience: mayfly}`,
    agents: AGENTS,
    env: { CERT: server.certificate.pem, KEY: server.certificate.key, PARTNER: JSON.stringify(partner.bundle()) },
  })
  await waitFor('the bundle', () => test.broker.identity().authorities('mesh').length === 1)
}, 30_000)
afterAll(async () => {
  await test?.stop()
  endpoint?.stop()
  await redis?.stop()
})
const callers: MtlsCaller[] = []
afterEach(() => {
  for (const caller of callers.splice(0)) caller.close()
})

function caller(certificate?: Made, above: readonly Made[] = []): MtlsCaller {
  const one = mtlsCaller(test.url.replace('127.0.0.1', 'localhost'), server.authority, certificate, above)
  callers.push(one)
  return one
}
const whoami = (one: MtlsCaller, headers: Record<string, string> = {}) => one.call('GET', '/v1/whoami', undefined, headers)
/** Why it was refused, by the line of the access log. */
async function reason(one: MtlsCaller, headers: Record<string, string> = {}): Promise<string> {
  const { status, body } = await whoami(one, headers)
  expect(status).toBe(401)
  const event = body.instance.replace('urn:uuid:', '')
  const line = await waitFor('the line', () => test.logs.find((text) => text.includes(event)))
  return JSON.parse(line).reason
}

describe('an X.509-SVID', () => {
  it('is who calls, without any token', async () => {
    const notAfter = Math.floor(Date.now() / 1000) * 1000 + 600_000
    const one = caller(prod.svid(PATH, { notAfter }))
    const { status, body } = await whoami(one)
    expect({ status, body }).toEqual({
      status: 200,
      body: {
        principal: {
          kind: 'agent',
          id: 'mesh/team-a',
          issuer: 'mesh',
          owner: 'sre@example.com',
          autonomy: 'scripted',
          token_expires_at: new Date(notAfter).toISOString(),
        },
      },
    })
    expect((await whoami(one)).status).toBe(200)
    expect(one.connections()).toBe(1)
  })
  it('may come with those between it and the authority', async () => {
    const between = makeAuthority('between', {}, prod.authority)
    const below = makeAuthority('below', {}, between)
    const svid = makeSvid(`spiffe://prod.example${PATH}`, below)
    expect((await whoami(caller(svid, [below, between]))).body.principal.id).toBe('mesh/team-a')
    expect(await reason(caller(svid, [below]))).toMatch(/not verified: UNABLE_TO_GET_ISSUER_CERT/)
  })
  it('tells two copies apart by its path', async () => {
    const pods = await Promise.all(['f00d', 'beef'].map(async (pod) => (await whoami(caller(prod.svid(`${PATH}/pod/${pod}`)))).body.principal))
    expect(pods).toMatchObject([
      { id: 'pod/team-a', instance: 'f00d' },
      { id: 'pod/team-a', instance: 'beef' },
    ])
  })
  it('is not needed: a token does, with no certificate and with one that is nobody’s', async () => {
    const authorization = `Bearer ${await test.token('triage')}`
    const strangers = [undefined, prod.svid('/nobody'), partner.svid(PATH), makeSvid(`spiffe://prod.example${PATH}`, makeAuthority('unknown'))]
    for (const certificate of strangers) expect((await whoami(caller(certificate), { authorization })).body.principal.id).toBe('triage')
    expect((await whoami(caller())).body.code).toBe('token_missing')
  })
  it('and a token are one and the same caller, or none', async () => {
    const own = caller(prod.svid(PATH))
    expect((await whoami(own, { authorization: `Bearer ${await prod.jwt(PATH)}` })).body.principal.id).toBe('mesh/team-a')
    for (const token of [await prod.jwt('/ns/team-b/sa/triage'), await partner.jwt(PATH), await test.token('triage')])
      expect(await reason(caller(prod.svid(PATH)), { authorization: `Bearer ${token}` })).toBe(
        'the certificate of the connection is somebody else than the token',
      )
    // A token that is no good is not made good by a certificate.
    for (const authorization of ['', 'Bearer x', `Basic ${Buffer.from('a:b').toString('base64')}`])
      expect((await whoami(caller(prod.svid(PATH)), { authorization })).status).toBe(401)
  })
  it.each(['x-forwarded-client-cert', 'x-client-cert', 'ssl-client-cert', 'client-cert', 'x-ssl-cert', 'x-spiffe-id'])(
    'is not what the header %s says',
    async (name) => {
      const svid = prod.svid(PATH)
      for (const value of [`URI=spiffe://prod.example${PATH}`, encodeURIComponent(svid.pem), `:${svid.der.toString('base64')}:`]) {
        expect((await whoami(caller(), { [name]: value })).body.code).toBe('token_missing')
        const other = caller(prod.svid('/ns/team-b/sa/triage'))
        expect((await whoami(other, { [name]: value })).body.principal.id).toBe('mesh/team-b')
      }
    },
  )
})

it('tells in /readyz how many authorities there are', async () => {
  const { body } = await caller().call('GET', '/readyz')
  expect(body.issuers).toEqual(
    expect.arrayContaining([
      { name: 'mesh', state: 'ready', keys: 1, authorities: 1 },
      { name: 'partner', state: 'ready', keys: 1, authorities: 1 },
    ]),
  )
})

describe('a certificate is refused', () => {
  it.each<[string, () => Made | readonly Made[], RegExp]>([
    ['of another trust domain', () => partner.svid(PATH), /not of trust domain prod.example/],
    ['of this one, by the authority of another', () => makeSvid(`spiffe://prod.example${PATH}`, partner.authority), /not verified/],
    [
      'of another, by the authority of this one',
      () => makeSvid(`spiffe://partner.example${PATH}`, prod.authority),
      /not of trust domain prod.example/,
    ],
    ['by an authority of the same name', () => makeSvid(`spiffe://prod.example${PATH}`, makeAuthority('prod.example authority')), /not verified/],
    ['that is self-signed', () => makeCertificate({ uris: [`spiffe://prod.example${PATH}`], usage: digitalSignature }), /not verified/],
    ['by another leaf', () => byLeaf(), /not verified/],
    ['that has expired', () => prod.svid(PATH, { notAfter: Date.now() - 5_000 }), /not verified: CERT_HAS_EXPIRED/],
    ['that is not valid yet', () => prod.svid(PATH, { notBefore: Date.now() + 600_000 }), /not verified: CERT_NOT_YET_VALID/],
    ['that lives longer than the cap', () => prod.svid(PATH, { notAfter: Date.now() + 3 * 3_600_000 }), /longer than the cap/],
    [
      'of an authority',
      () => makeAuthority('signs', { uris: [`spiffe://prod.example${PATH}`], extendedUsage: [] }, prod.authority),
      /not verified|authority/,
    ],
    ['of the authority itself', () => prod.authority, /not verified|authority/],
    ['for servers alone', () => prod.svid(PATH, { extendedUsage: [SERVER_AUTH] }), /not verified: INVALID_PURPOSE/],
    ['of a workload that no rule knows', () => prod.svid('/ns/team-a/sa/other'), /no agent.* matches/],
  ])('%s', async (_what, make, why) => {
    const made = [make()].flat() as Made[]
    const one = caller(made[0], made.slice(1))
    expect(await reason(one)).toMatch(why)
    // On the next connection it may be another one.
    expect((await whoami(one)).headers.get('connection')).toBe('close')
    expect(one.connections()).toBe(2)
  })
  function byLeaf(): readonly Made[] {
    const leaf = prod.svid(PATH, { commonName: 'leaf' })
    return [makeSvid(`spiffe://prod.example/ns/team-b/sa/triage`, leaf), leaf]
  }
})

describe('a connection outlives what it began with', () => {
  it('but not its certificate', async () => {
    const one = caller(prod.svid(PATH, { notAfter: Date.now() + 4_000 }))
    expect((await whoami(one)).status).toBe(200)
    const refused = await waitFor('the end of the certificate', async () => {
      const answer = await whoami(one)
      return answer.status === 401 && answer
    })
    expect(refused).toMatchObject({ body: { code: 'token_expired' } })
    expect(one.connections()).toBe(1)
  })
  it('nor the rules: a reload is for open connections, too', async () => {
    const one = caller(prod.svid(PATH))
    expect((await whoami(one)).body.principal).toMatchObject({ owner: 'sre@example.com' })
    const config = await loadConfig(test.configPath, test.env)
    const agents = (config.identity.agents ?? []).map((rule) => ({ ...rule, owner: 'new@example.com' }))
    await test.broker.reload({ ...config, identity: { ...config.identity, agents } })
    expect((await whoami(one)).body.principal).toMatchObject({ owner: 'new@example.com' })
    expect((await whoami(caller(prod.svid(PATH)))).body.principal).toMatchObject({ owner: 'new@example.com' })
    expect(one.connections()).toBe(1)
    await test.broker.reload(config)
  })
  it('nor the authority that it was verified by; the new one is taken at once, without a restart, and after a reload, too', async () => {
    const next = makeAuthority('next authority')
    const renewed = makeSvid(`spiffe://prod.example${PATH}`, next)
    const old = caller(prod.svid(PATH))
    expect((await whoami(old)).status).toBe(200)
    expect((await whoami(caller(renewed))).status).toBe(401)
    endpoint.bundle = prod.bundle({ spiffe_sequence: 2, keys: [x509Entry(prod.authority), x509Entry(next)] })
    // It was not known to the first connection, which had it fetched.
    await waitFor('both authorities', async () => (await whoami(caller(renewed))).status === 200)
    expect((await whoami(old)).status).toBe(200)
    expect(old.connections()).toBe(1)
    endpoint.bundle = prod.bundle({ spiffe_sequence: 3, keys: [x509Entry(next)] })
    await waitFor('the withdrawal', async () => (await whoami(old)).status === 401)
    expect(old.connections()).toBe(1)
    expect((await whoami(caller(prod.svid(PATH)))).status).toBe(401)
    endpoint.bundle = prod.bundle({ spiffe_sequence: 4, keys: [] })
    await waitFor('the end of the trust domain', async () => (await whoami(caller(renewed))).status === 401)
    endpoint.bundle = prod.bundle({ spiffe_sequence: 5 })
    await waitFor('the first authority', async () => (await whoami(caller(prod.svid(PATH)))).status === 200)
  }, 30_000)
})

describe('no verdict of an earlier handshake is taken over', () => {
  const open = async (more: ConnectionOptions = {}): Promise<TLSSocket> => {
    const { pem, key } = prod.svid(PATH)
    const { port } = new URL(test.url)
    const socket = connect({ port: Number(port), host: '127.0.0.1', servername: 'localhost', ca: server.authority.pem, cert: pem, key, ...more })
    await once(socket, 'secureConnect')
    return socket
  }
  it.each(['TLSv1.2', 'TLSv1.3'] as const)('%s: by resuming its session', async (maxVersion) => {
    const first = await open({ maxVersion })
    let session = first.getSession()
    first.on('session', (given) => {
      session = given
    })
    first.write('GET /v1/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    await once(first.resume(), 'close')
    // Without a certificate now: only a resumed session could know of one.
    const second = await open({ maxVersion, session, cert: undefined, key: undefined })
    expect(second.isSessionReused()).toBe(false)
    second.write('GET /v1/whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n')
    const [answer] = await once(second, 'data')
    expect(String(answer)).toMatch(/^HTTP\/1\.1 401 /)
    second.destroy()
  })
  it('by asking for another handshake', async () => {
    const socket = await open({ maxVersion: 'TLSv1.2' })
    const renegotiated = await new Promise<Error | null>((done) => {
      socket.on('error', done)
      socket.on('close', () => done(new Error('closed')))
      socket.renegotiate({}, done)
    })
    expect(renegotiated).not.toBeNull()
    socket.destroy()
  })
})

it('a connection does not outlive the bundle, while its endpoint is down', async () => {
  const one = caller(prod.svid(PATH))
  expect((await whoami(one)).status).toBe(200)
  endpoint.bundle = undefined
  await waitFor('the stale limit', async () => (await whoami(one)).status === 401)
  expect(one.connections()).toBe(1)
})
