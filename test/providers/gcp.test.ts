import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { parse } from 'yaml'
import { accessBoundary, boundaryOf, boundaryProblems } from '../../src/providers/gcp/boundary.js'
import { fillCondition, readCondition, writeCondition } from '../../src/providers/gcp/condition.js'
import { gcp } from '../../src/providers/gcp.js'
import { type Provider, ProviderError } from '../../src/providers/provider.js'
import { type FakeGoogle, startFakeGoogle } from './fake-google.js'
import { evaluate } from './fake-google-cel.js'
import { plan, requestOf } from './harness.js'

const placeholder = (name: string) => '$'.concat(`{scope.${name}}`)
const PREFIX = placeholder('prefix')
const OBJECTS = 'projects/_/buckets/exports/objects/'
const template = (expression: string, availableResource = '//storage.googleapis.com/projects/_/buckets/exports') =>
  accessBoundary.parse({
    accessBoundary: {
      accessBoundaryRules: [
        { availableResource, availablePermissions: ['inRole:roles/storage.objectViewer'], availabilityCondition: { title: 'kept', expression } },
      ],
    },
  })
const filled = (expression: string, prefix: string | string[]): string =>
  boundaryOf(template(expression), { prefix })?.accessBoundary.accessBoundaryRules[0]?.availabilityCondition?.expression ?? ''
const allows = (expression: string, object: string, listed?: string): boolean =>
  evaluate(expression, {
    resource: { name: `${OBJECTS}${object}`, type: 'storage.googleapis.com/Object', service: 'storage.googleapis.com' },
    attributes: listed === undefined ? {} : { 'storage.googleapis.com/objectListPrefix': listed },
  })

describe('the access boundary of a lease', () => {
  const below = `resource.name.startsWith('${OBJECTS}${PREFIX}/')`

  it('holds what the request names, in texts of the condition', () => {
    expect(filled(below, 'reports')).toBe(`resource.name.startsWith('${OBJECTS}reports/')`)
    const both = `${below} || api.getAttribute("storage.googleapis.com/objectListPrefix", '').startsWith("${PREFIX}/")`
    const expression = filled(both, ['a/b', 'c'])
    for (const object of ['a/b/x', 'c/x']) expect(allows(expression, object)).toBe(true)
    for (const object of ['a/bc', 'a/x', 'cc/x', 'c']) expect(allows(expression, object)).toBe(false)
    expect(allows(expression, '', 'c/')).toBe(true)
    expect(allows(expression, '', 'd/')).toBe(false)
  })

  it.each([
    `x') || true || resource.name.startsWith('`,
    `x') || resource.name == '${OBJECTS}other/a`,
    `\\`,
    `\\'`,
    `x\\') || true || ('`,
    `'''`,
    `"`,
    `') || ('' == '`,
    `x' /* `,
    `# // x`,
    `\\x27) || true || (\\x27`,
    `\\u0027`,
    `%27`,
    `&apos;`,
    'a'.repeat(256),
    '‘’',
    '../other',
  ])('takes %j as a name and nothing else', (value) => {
    const expression = filled(below, value)
    expect(allows(expression, `${value}/a`)).toBe(true)
    for (const object of ['other/a', 'x', 'x/a', `${value}`, `${value}-other/a`, '']) expect(allows(expression, object)).toBe(false)
    expect(writeCondition(readCondition(expression))).toBe(expression)
  })

  it('takes any text at all as a name and nothing else, or refuses it', () => {
    const anyText = fc.oneof(fc.string({ unit: 'binary' }), fc.string({ unit: fc.constantFrom("'", '\\', '"', ')', '|', ' ', 'x', '`', '/', '\n') }))
    fc.assert(
      fc.property(anyText, (value) => {
        let expression: string
        try {
          expression = filled(below, value)
        } catch (error) {
          return error instanceof ProviderError && error.kind === 'invalid'
        }
        return allows(expression, `${value}/a`) && !allows(expression, `${value}-other`) && !allows(expression, `not-${value}/a`)
      }),
      { numRuns: 1000 },
    )
  })

  it.each(['', '/', 'a/', '/a', 'a\nb', 'a\rb', 'a\0b', 'a\u2028b', 'a\u200bb', '\ud800', PREFIX, 'a{b', 'a}b', 'a$b', 'a'.repeat(257)])(
    'refuses %j',
    (prefix) => {
      expect(() => filled(below, prefix)).toThrow(ProviderError)
      expect(() => filled(below, ['fine', prefix])).toThrow(ProviderError)
    },
  )

  it('leaves a condition without placeholders as it is, and drops nothing else', () => {
    const other = "request.time < timestamp('2030-01-01T00:00:00Z') && !resource.name.endsWith('.key')"
    expect(boundaryOf(template(other), {})).toEqual(template(other))
    expect(boundaryOf(template(below), { prefix: 'a' })?.accessBoundary.accessBoundaryRules[0]?.availabilityCondition?.title).toBe('kept')
  })

  it('makes a rule for each bucket that is named, and no other resource', () => {
    const bucket = `//storage.googleapis.com/projects/_/buckets/team-${placeholder('bucket')}`
    const rules = boundaryOf(template("resource.name == 'x'", bucket), { bucket: ['a', 'b'] })?.accessBoundary.accessBoundaryRules
    expect(rules?.map((rule) => rule.availableResource.split('/').at(-1))).toEqual(['team-a', 'team-b'])
    for (const wrong of ['A', 'a/b', '..%2fother', 'a b', '*', 'a?', 'a'.repeat(223)])
      expect(() => boundaryOf(template("resource.name == 'x'", bucket), { bucket: wrong })).toThrow(ProviderError)
    expect(() => boundaryOf(template("resource.name == 'x'", bucket), { bucket: Array.from({ length: 11 }, (_, index) => `b${index}`) })).toThrow(
      /at most|takes 10/,
    )
  })

  it('says while the configuration is read what is wrong with a role', () => {
    const problems = (expression: string, scope: Parameters<typeof boundaryProblems>[1] = { prefix: 'path' }) =>
      boundaryProblems(template(expression), scope)
    expect(problems(below)).toEqual([])
    expect(problems(`(${below} && resource.type == 'storage.googleapis.com/Object') || resource.name == '${OBJECTS}${PREFIX}'`)).toEqual([])
    expect(problems(below, {})).toEqual([expect.stringContaining("which the role's scope does not have")])
    expect(problems("resource.name == 'x'")).toEqual([expect.stringContaining('scope.prefix narrows nothing')])
    expect(boundaryProblems(undefined, { prefix: 'path' })).toEqual([expect.stringContaining('scope.prefix narrows nothing')])
    expect(problems(`resource.name.startsWith('${OBJECTS}${PREFIX}')`)).toEqual([expect.stringContaining('write "/" after it')])
    expect(problems(`${below} || resource.name == '${'x'.repeat(1900)}'`)).toEqual([expect.stringContaining('Google takes 2048')])
    for (const wrong of [
      `!${below}`,
      `resource.name != '${PREFIX}/'`,
      `resource.name.matches('${PREFIX}/')`,
      `resource.name.startsWith(r'${PREFIX}/')`,
      `resource.name.startsWith('''${PREFIX}/''')`,
      `resource.name.startsWith(${PREFIX})`,
      `api.getAttribute('a', '').startsWith('b', '${PREFIX}/')`,
      `true || ${below}`,
      `${below} ? true : false`,
      `${below} // ${PREFIX}`,
      `${below})`,
      `(${below}`,
      `${below} ${below}`,
      `'${PREFIX}/' == resource.name`,
      `resource.labels == '${PREFIX}/'`,
      below.replace('/objects', '\\x2fobjects'),
      `${below} ||`,
    ])
      expect({ wrong, problems: problems(wrong) }).toEqual({ wrong, problems: [expect.stringContaining('a condition with a placeholder may hold')] })
  })

  it('writes a condition out as it was meant', () => {
    const texts = ["resource.name == 'a'", "(resource.name == 'a' || (resource.type == 'b' && resource.service.startsWith('c')))"]
    for (const text of texts) expect(writeCondition(fillCondition(readCondition(text), (value) => [value]))).toBe(text)
    expect(() => writeCondition(fillCondition(readCondition(texts[0] ?? ''), () => ['a\nb']))).toThrow(ProviderError)
  })
})

describe('an access token for a lease', () => {
  const AUDIENCE = '//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/mayfly/providers/cluster'
  const ACCOUNT = 'export@shop.iam.gserviceaccount.com'
  const MIDDLE = 'middle@shop.iam.gserviceaccount.com'
  const LONG = 'long@shop.iam.gserviceaccount.com'
  let folder: string
  let google: FakeGoogle
  let provider: Provider
  const whole = (more: object = {}) => gcp.params.parse({ service_account: ACCOUNT, whole: true, ...more })
  const file = (more: object = {}) => ({
    type: 'external_account',
    audience: AUDIENCE,
    subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
    token_url: `${google.url}/v1/token`,
    credential_source: { file: join(folder, 'token') },
    ...more,
  })
  const open = (credentials: object) =>
    gcp.open(gcp.options.parse({ credentials: JSON.stringify(credentials), endpoints: { iamcredentials: google.url, sts: `${google.url}/` } }), {
      ...{ name: 'gcp', instance: 'test', timeoutMs: 5000, concurrency: 2 },
    })
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'mayfly-gcp-'))
    await writeFile(join(folder, 'token'), 'the-workloads-own')
    google = await startFakeGoogle({
      workloads: { 'the-workloads-own': 'broker' },
      audience: AUDIENCE,
      accounts: {
        [ACCOUNT]: { tokenCreators: ['broker'], roles: {} },
        [MIDDLE]: { tokenCreators: ['broker'], roles: {} },
        [LONG]: { tokenCreators: [MIDDLE], roles: {}, extended: true },
      },
    })
    provider = await open(file())
  })
  afterAll(async () => {
    await provider.close()
    await google.stop()
    await rm(folder, { recursive: true })
  })
  const mint = (params: ReturnType<typeof whole>, ttlMs: number) => provider.mint(requestOf(provider, plan(), params, 5000, ttlMs))

  it('lives as long as its lease, in whole seconds', async () => {
    const request = requestOf(provider, plan(), whole({ oauth_scopes: ['https://www.googleapis.com/auth/bigquery.readonly'] }), 5000, 900_000)
    const { expiresAt, usableUntil, credential } = await provider.mint(request)
    const end = google.endOf(String(credential.fields.access_token)) ?? 0
    // A slow way there may make it a little later, which is told.
    expect([expiresAt, usableUntil]).toEqual(end > request.expiresAt ? [undefined, end] : [end, undefined])
    expect(Math.abs(end - request.expiresAt)).toBeLessThan(3000)
    expect(credential.fields.expires_at).toBe(new Date(Math.min(end, request.expiresAt)).toISOString())
    expect(google.impersonated.at(-1)).toEqual({
      ...{ account: ACCOUNT, delegates: [], scope: ['https://www.googleapis.com/auth/bigquery.readonly'] },
      ...{ lifetime: expect.stringMatching(/^(899|898)s$/), reason: `mf-test-${request.lease.id.slice('lease_'.length)}` },
    })
  })

  it("says when it outlives its lease because Google's least life is longer", async () => {
    const request = requestOf(provider, plan(), whole(), 5000, 60_000)
    const { usableUntil, credential } = await provider.mint(request)
    expect(google.impersonated.at(-1)?.lifetime).toBe('300s')
    expect(usableUntil).toBe(google.endOf(String(credential.fields.access_token)))
    expect(usableUntil).toBeGreaterThan(request.expiresAt + 200_000)
    // What its holder is told is the lease's.
    expect(credential.fields.expires_at).toBe(new Date(request.expiresAt).toISOString())
    expect(provider.shortestLifeSeconds).toBe(300)
  })

  it('lives for more than an hour only where the role says that the organisation allows it', async () => {
    await expect(mint(whole(), 3_700_000)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('3600') })
    const through = { service_account: LONG, delegates: [MIDDLE], extended_lifetime: true }
    await mint(whole(through), 43_000_000)
    expect(google.impersonated.at(-1)).toMatchObject({ account: LONG, delegates: [`projects/-/serviceAccounts/${MIDDLE}`] })
    await expect(mint(whole(through), 44_000_000)).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('43200') })
    // The role says so, Google does not.
    await expect(mint(whole({ extended_lifetime: true }), 7_200_000)).rejects.toMatchObject({ kind: 'invalid' })
  })

  it('is only made where each is trusted by the next', async () => {
    await expect(mint(whole({ service_account: LONG }), 900_000)).rejects.toMatchObject({ kind: 'refused' })
    await expect(mint(whole({ delegates: [LONG] }), 900_000)).rejects.toMatchObject({ kind: 'refused' })
  })

  it('is not made where its bound could not be', async () => {
    const made = google.impersonated.length
    const params = gcp.params.parse({
      service_account: ACCOUNT,
      access_boundary: template(`resource.name.startsWith('${OBJECTS}${PREFIX}/')`),
    })
    await expect(mint(params, 900_000)).rejects.toMatchObject({ kind: 'invalid' })
    expect(google.impersonated).toHaveLength(made)
  })

  it('is checked without being kept', async () => {
    const roles = [
      { name: 'a', params: whole() },
      { name: 'b', params: whole() },
    ]
    const made = google.impersonated.length
    await provider.check(roles)
    expect(google.impersonated.slice(made)).toMatchObject([{ account: ACCOUNT, lifetime: '300s', reason: 'mf-test-check' }])
    await expect(provider.check([{ name: 'c', params: whole({ service_account: LONG }) }])).rejects.toMatchObject({
      ...{ kind: 'refused', message: expect.stringContaining('roles/iam.serviceAccountTokenCreator') },
    })
  })

  it('is asked for once, whatever the answer, by the library too', async () => {
    for (const [status, kind] of [
      [429, 'throttled'],
      [503, 'unreachable'],
      [403, 'refused'],
    ] as const) {
      const fresh = await open(file())
      const before = google.requests.length
      google.fail(status, 1)
      await expect(fresh.check()).rejects.toMatchObject({ kind })
      expect(google.requests).toHaveLength(before + 1)
      // And it is not remembered.
      await fresh.check()
      google.fail(status, 1)
      await expect(fresh.mint(requestOf(fresh, plan(), whole(), 5000))).rejects.toMatchObject({ kind })
      expect(google.requests).toHaveLength(before + 3)
      await fresh.close()
    }
  })

  it('is not made for a broker that Google does not know, and the error holds none of its secrets', async () => {
    const other = join(folder, 'other')
    await writeFile(other, 'a-secret-of-somebody-else')
    const stranger = await open(file({ credential_source: { file: other } }))
    const error = await stranger.check().catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ name: 'ProviderError', kind: 'refused' })
    expect(inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true })).not.toContain('a-secret-of-somebody-else')
    await expect((await open(file({ credential_source: { file: join(folder, 'none') } }))).check()).rejects.toMatchObject({ kind: 'refused' })
  })

  it('is configured as the page shows it', async () => {
    const page = await readFile(join(import.meta.dirname, '..', '..', 'docs', 'providers', 'gcp.md'), 'utf8')
    const [, shown = '', json = ''] = /## Configuration\n```yaml\n([\s\S]*?)```[\s\S]*?```json\n([\s\S]*?)```/.exec(page) ?? []
    const { roles } = parse(shown)
    const { params, scope } = roles['gcs-export']
    const options = gcp.options.parse({})
    expect(gcp.checkRole(gcp.params.parse({ ...params, access_boundary: json }), scope, options)).toEqual([])
    expect(gcp.checkRole(gcp.params.parse(roles['bigquery-read'].params), {}, options)).toEqual([])
    const { accessBoundary: bounded } = boundaryOf(accessBoundary.parse(json), { prefix: 'reports' }) ?? {}
    const expression = bounded?.accessBoundaryRules[0]?.availabilityCondition?.expression ?? ''
    expect([allows(expression, 'reports/a'), allows(expression, 'reports-of-others/a'), allows(expression, '', 'reports/')]).toEqual([
      true,
      false,
      true,
    ])
  })

  it('takes credentials files that run no program, and endpoints that are encrypted', () => {
    const refused = (value: object) => expect(gcp.options.safeParse(value).success).toBe(false)
    refused({ credentials: '{' })
    refused({ credentials: '{}' })
    refused({ credentials: JSON.stringify({ type: 'external_account', credential_source: { executable: { command: 'id' } } }) })
    refused({ credentials: file() })
    refused({ endpoints: { sts: 'http://sts.example.com' } })
    refused({ endpoints: { storage: 'https://x.example.com' } })
    refused({ region: 'eu' })
    const [ready] = [gcp.options.parse({})]
    expect(gcp.target(ready)).toBe('iamcredentials.googleapis.com')
  })
})
