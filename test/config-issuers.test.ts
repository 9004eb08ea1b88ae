import { describe, expect, it } from '@jest/globals'
import { issuerOf, unusedDomains } from '../src/config-issuers.js'
import { ConfigFile, type IssuerFile } from '../src/config-schema.js'
import { newTrustDomain } from './support/trust-domain.js'

const ENDPOINT = { spiffe_id: 'spiffe://prod.example/spire/server', bootstrap: '{"keys":[]}' }
const parsed = (issuer: object): IssuerFile => ConfigFile.shape.issuers.parse({ it: issuer }).it as IssuerFile
function read(issuer: object) {
  const problems: string[] = []
  const [entry] = issuerOf('it', parsed(issuer), problems)
  return { options: entry?.[1], problems }
}

const GLASS = { jwks: '{"keys":[{"kty":"EC"}]}', issuer: 'https://glass.example', audience: 'm', break_glass: true }

describe('an issuer of the file', () => {
  const mesh = { preset: 'spiffe', trust_domain: 'prod.example', bundle: 'https://spire.example/bundle', audience: 'mayfly' }
  it('is a trust domain with the bundle at a URL, or as it stands in a file', async () => {
    const domain = await newTrustDomain('prod.example')
    const common = { kind: 'spiffe', trustDomain: 'prod.example', audience: 'mayfly' }
    const fetched = read({ ...mesh, ca: 'PEM', stale_limit: '10m', max_lifetime: '1h', algorithms: ['ES256'], only: ['agent'], single_use: true })
    expect(fetched).toMatchObject({
      problems: [],
      options: {
        ...common,
        bundle: { url: mesh.bundle },
        ca: 'PEM',
        staleLimitSeconds: 600,
        maxLifetimeSeconds: 3600,
        algorithms: ['ES256'],
        only: ['agent'],
        singleUse: true,
      },
    })
    expect(read({ ...mesh, bundle: JSON.stringify(domain.bundle()) }).options).toMatchObject({ ...common, bundle: { jwks: domain.bundle() } })
    expect(read({ ...mesh, bundle: domain.authority.pem }).options).toMatchObject({ ...common, bundle: { pem: domain.authority.pem } })
    const bootstrap = JSON.stringify(domain.bundle())
    expect(read({ ...mesh, bundle_endpoint: { spiffe_id: 'spiffe://prod.example/spire/server', bootstrap } })).toMatchObject({
      problems: [],
      options: { bundle: { url: mesh.bundle, endpoint: { spiffeId: 'spiffe://prod.example/spire/server', bootstrap: domain.bundle() } } },
    })
    expect(read({ ...mesh, audience: undefined })).toMatchObject({ problems: [], options: { kind: 'spiffe', audience: undefined } })
  })
  it('of broken glass is for one request of an operator, soon', () => {
    const options = { kind: 'jwks', breakGlass: true, singleUse: true, only: ['operator'], maxLifetimeSeconds: 600 }
    expect(read(GLASS)).toMatchObject({ problems: [], options })
    expect(read({ ...GLASS, max_lifetime: '15m' }).options).toMatchObject({ maxLifetimeSeconds: 900 })
  })
  it.each<[string, object, string]>([
    ['a trust domain without its bundle', { ...mesh, bundle: undefined }, 'issuers.it.bundle: missing'],
    ['a bundle without its trust domain', { ...mesh, trust_domain: undefined }, 'issuers.it.trust_domain: missing'],
    ['a bundle that is none', { ...mesh, bundle: '{' }, 'issuers.it.bundle: is neither'],
    ['a trust domain with a URL of its own', { ...mesh, url: 'https://x.example' }, 'issuers.it.url: is not for a trust domain'],
    ['a trust domain with an issuer', { ...mesh, issuer: 'x' }, 'issuers.it.issuer: is not for a trust domain'],
    ['a trust domain with types of tokens', { ...mesh, typ: ['at+jwt'] }, 'issuers.it.typ: is not for a trust domain'],
    ['a trust domain of an OIDC issuer', { url: 'https://x.example', audience: 'm', trust_domain: 'x' }, 'issuers.it.trust_domain: is for'],
    ['the endpoint of a bundle that is a file', { ...mesh, bundle: '{"keys":[]}', bundle_endpoint: ENDPOINT }, 'issuers.it.bundle_endpoint: is for'],
    ['an endpoint with two authorities', { ...mesh, ca: 'PEM', bundle_endpoint: ENDPOINT }, 'issuers.it.bundle_endpoint: is for'],
    ['an endpoint of an OIDC issuer', { url: 'https://x.example', audience: 'm', bundle_endpoint: ENDPOINT }, 'issuers.it.bundle_endpoint: is for'],
    ['an OIDC issuer without audience', { url: 'https://x.example' }, 'issuers.it.audience: missing'],
    ['a key set without its issuer', { jwks: '{"keys":[{"kty":"EC"}]}', audience: 'm' }, 'issuers.it.issuer: say which'],
    ['broken glass that has to be fetched', { ...GLASS, jwks: undefined, url: 'https://x.example' }, 'issuers.it.jwks: missing'],
    ['broken glass for everybody', { ...GLASS, only: ['operator', 'agent'] }, 'issuers.it.only: is [operator]'],
    ['broken glass that stays open', { ...GLASS, max_lifetime: '1h' }, 'issuers.it.max_lifetime: is at most'],
    ['broken glass for many requests', { ...GLASS, single_use: false }, 'issuers.it.single_use:'],
    ['a trust domain of broken glass', { ...mesh, break_glass: true }, 'issuers.it.break_glass: is not for a trust domain'],
    ['neither URL nor key set', { audience: 'm' }, "issuers.it.url: name the issuer's URL"],
  ])('is refused: %s', (_what, issuer, problem) => {
    expect(read(issuer).problems).toEqual([expect.stringContaining(problem)])
  })
  it.each(['Prod.example', 'spiffe://prod.example', 'prod.example:1', ''])('has no trust domain %p', (name) => {
    expect(() => parsed({ ...mesh, trust_domain: name })).toThrow(/lower-case letters/)
  })
})

describe('the certificates of a listener', () => {
  const bundle = 'https://spire.example/bundle'
  const sso = { url: 'https://sso.example', audience: 'mayfly' }
  const address = '127.0.0.1:0'
  const problemsOf = (issuers: object, spiffe?: string) => {
    const listeners = { public: { address, tls: { cert: 'x', key: 'x', spiffe } } }
    const { shape } = ConfigFile
    return unusedDomains({ issuers: shape.issuers.parse(issuers), listeners: shape.listeners.parse(listeners) } as ConfigFile)
  }
  it('are of a trust domain of the configuration', () => {
    const mesh = { preset: 'spiffe', trust_domain: 'prod.example', bundle }
    expect(problemsOf({ mesh, sso }, 'mesh')).toEqual([])
    expect(problemsOf({ mesh: { ...mesh, audience: 'mayfly' } })).toEqual([])
    for (const name of ['gone', 'sso', 'constructor'])
      expect(problemsOf({ sso }, name)).toEqual([`listeners.public.tls.spiffe: there is no issuer "${name}" with "preset: spiffe"`])
    expect(problemsOf({ mesh })).toEqual([expect.stringMatching(/^issuers\.mesh\.audience: missing/)])
  })
})
