import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { loadConfig } from '../../src/config.js'
import { identityFindings } from '../../src/doctor/identity.js'
import { type Prepared, prepare } from '../support/broker.js'
import { makeAuthority, makeCertificate, makeSvid } from '../support/certificates.js'
import { type FakeTrustDomain, jwtEntry, newTrustDomain, x509Entry } from '../support/trust-domain.js'

const PATH = '/ns/team-a/sa/triage'
let prod: FakeTrustDomain
const folders: string[] = []
beforeAll(async () => {
  prod = await newTrustDomain('prod.example')
})
afterAll(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))))

async function prepared(bundle: object, match = 'path: "/ns/*/sa/triage"'): Promise<Prepared> {
  const server = makeCertificate({ commonName: 'mayfly' })
  const made = await prepare({
    redisSocket: '/nowhere',
    tls: '{cert: env:CERT, key: env:KEY, spiffe: mesh}',
    issuers: '  mesh: {preset: spiffe, trust_domain: prod.example, bundle: env:BUNDLE, audience: mayfly}',
    agents: `  - {id: "mesh/{path_2}", match: {issuer: mesh, ${match}}, owner: sre@example.com, autonomy: scripted}\n`,
    env: { BUNDLE: JSON.stringify(bundle), CERT: server.pem, KEY: server.key },
  })
  folders.push(made.folder)
  return made
}
/** As the doctor prints them. */
async function findings({ configPath, env, folder }: Prepared, shown?: string): Promise<string[]> {
  const file = join(folder, 'shown')
  if (shown !== undefined) await writeFile(file, shown)
  const config = await loadConfig(configPath, env)
  const found = await identityFindings(config, shown === undefined ? undefined : file)
  return found.map(({ area, level, what }) => `${level} ${area}: ${what}`)
}

describe('the doctor on a trust domain', () => {
  it('counts what its bundle vouches with, and says what is missing', async () => {
    expect(await findings(await prepared(prod.bundle()))).toContain('ok issuers: mesh: 1 key, 1 X.509 authorities')
    expect(await findings(await prepared({ keys: [x509Entry(prod.authority)] }))).toContainEqual(
      expect.stringMatching(/^warn issuers: mesh: its bundle has no key for JWT-SVIDs/),
    )
    expect(await findings(await prepared({ keys: [jwtEntry(prod.signer)] }))).toContainEqual(
      expect.stringMatching(/^warn issuers: mesh: its bundle has no X.509 authority: certificates at the public listener/),
    )
  })
  it('warns of gateways that may ask for any agent', async () => {
    const made = await prepared(prod.bundle())
    const found = (await findings(made)).filter((line) => line.includes('gateways'))
    expect(found).toEqual([
      'warn issuers: gateways[1]: no agents: it can have calls of any agent that it names counted, and the agent suspended for them',
    ])
  })
  it('refuses a rule that binds no workload', async () => {
    expect(await findings(await prepared(prod.bundle(), 'path_4: triage'))).toContainEqual(
      expect.stringMatching(/^fail issuers: agents\[\d\]\.match: no subject is bound/),
    )
  })
  it('explains a JWT-SVID', async () => {
    const good = await findings(await prepared(prod.bundle()), await prod.jwt(PATH))
    expect(good).toContain('ok token: accepted: it is the agent "mesh/team-a"')
    const other = await newTrustDomain('prod.example')
    const bad = await findings(await prepared(prod.bundle()), await other.jwt(PATH))
    expect(bad.at(-1)).toBe('fail token: signature: no key of the issuer has this "kid" (issuer mesh)')
  })
  it('explains an X.509-SVID', async () => {
    const good = await findings(await prepared(prod.bundle()), prod.svid(PATH).pem)
    expect(good).toContain('ok token: accepted: it is the agent "mesh/team-a"')
    const bad = await findings(await prepared(prod.bundle()), makeSvid(`spiffe://prod.example${PATH}`, makeAuthority('other')).pem)
    expect(bad.at(-1)).toBe('fail token: chain: its chain does not lead to an X.509 authority of its trust domain')
  })
})
