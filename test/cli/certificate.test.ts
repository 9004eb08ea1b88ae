import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { type Made, makeAuthority, makeCertificate, SERVER_AUTH } from '../support/certificates.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { type FakeTrustDomain, newTrustDomain } from '../support/trust-domain.js'
import { mayfly } from './mayfly.js'

const PATH = '/ns/team-a/sa/triage'
let folder: string
let redis: TestRedis
let prod: FakeTrustDomain
let test: TestBroker
let env: Record<string, string>
const at = (name: string) => join(folder, name)
const put = async ({ pem, key }: Pick<Made, 'pem' | 'key'>) => {
  await Promise.all([writeFile(at('svid.pem'), pem), writeFile(at('svid.key'), key)])
}

beforeAll(async () => {
  const authority = makeAuthority('server authority')
  const server = makeCertificate({ commonName: 'mayfly', dns: ['localhost'], extendedUsage: [SERVER_AUTH] }, authority)
  ;[folder, redis, prod] = await Promise.all([mkdtemp(join(tmpdir(), 'mayfly-svid-')), startRedis(), newTrustDomain('prod.example')])
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    tls: '{cert: env:CERT, key: env:KEY, spiffe: mesh}',
    issuers: '  mesh: {preset: spiffe, trust_domain: prod.example, bundle: env:BUNDLE}',
    agents: '  - {id: "mesh/{path_2}", match: {issuer: mesh, path: "/ns/*/sa/triage"}, owner: sre@example.com, autonomy: scripted}\n',
    env: { CERT: server.pem, KEY: server.key, BUNDLE: JSON.stringify(prod.bundle()) },
  })
  await Promise.all([put(prod.svid(PATH)), writeFile(at('ca.pem'), authority.pem), writeFile(at('token'), await test.token('triage'))])
  env = { MAYFLY_URL: test.url.replace('127.0.0.1', 'localhost'), NODE_EXTRA_CA_CERTS: at('ca.pem') }
}, 30_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
  await rm(folder, { recursive: true })
})

describe('a command with a client certificate', () => {
  const files = () => ['--client-cert', at('svid.pem'), '--client-key', at('svid.key')]
  const whoami = async (...args: string[]) => mayfly(['whoami', '--json', ...args], env)
  it('needs no token, by option or environment', async () => {
    const byOption = await whoami(...files())
    expect({ ...byOption, out: JSON.parse(byOption.out).principal.id }).toMatchObject({ code: 0, err: '', out: 'mesh/team-a' })
    const named = { ...env, MAYFLY_CLIENT_CERT: at('svid.pem'), MAYFLY_CLIENT_KEY: at('svid.key') }
    expect(JSON.parse((await mayfly(['whoami', '--json'], named)).out).principal.id).toBe('mesh/team-a')
  })
  it('sends the token that is named, which must be of the same caller', async () => {
    expect(await whoami(...files(), '--token-file', at('token'))).toMatchObject({ code: 3, err: expect.stringContaining('token_invalid') })
    const stranger = prod.svid('/stranger')
    await put(stranger)
    const both = await whoami(...files(), '--token-file', at('token'))
    expect(JSON.parse(both.out).principal.id).toBe('triage')
    // An SVID rotates: each command reads the files anew.
    await put(prod.svid(PATH))
    expect(JSON.parse((await whoami(...files())).out).principal.id).toBe('mesh/team-a')
  })
  it('is a usage error with half of it, and says which file cannot be read', async () => {
    expect(await whoami('--client-cert', at('svid.pem'))).toMatchObject({ code: 2, err: expect.stringContaining('--client-key') })
    const missing = await whoami('--client-cert', at('none.pem'), '--client-key', at('svid.key'))
    expect(missing).toMatchObject({ code: 5, err: expect.stringContaining('none.pem (ENOENT)') })
  })
})
