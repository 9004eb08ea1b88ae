import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type FakeGoogle, startFakeGoogle } from './fake-google.js'
import { evaluate } from './fake-google-cel.js'

const AUDIENCE = '//iam.googleapis.com/projects/123456/locations/global/workloadIdentityPools/my-pool/providers/my-provider'
const ACCOUNT = 'PRIV_SA@PROJECT_ID.iam.gserviceaccount.com'
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token'
const CLOUD = 'https://www.googleapis.com/auth/cloud-platform'
/** The example of https://docs.cloud.google.com/iam/docs/workload-identity-federation-with-other-providers, as the token service takes it. */
const WORKLOAD = {
  audience: AUDIENCE,
  grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
  requested_token_type: ACCESS_TOKEN,
  scope: CLOUD,
  subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
  subject_token: 'external-token',
}
/** The example of https://docs.cloud.google.com/iam/docs/downscoping-short-lived-credentials. */
const BOUNDARY = {
  accessBoundary: {
    accessBoundaryRules: [
      {
        availablePermissions: ['inRole:roles/storage.objectViewer'],
        availableResource: '//storage.googleapis.com/projects/_/buckets/example-bucket',
        availabilityCondition: {
          expression:
            "resource.name.startsWith('projects/_/buckets/example-bucket/objects/customer-a') || api.getAttribute('storage.googleapis.com/objectListPrefix', '').startsWith('customer-a')",
        },
      },
    ],
  },
}

describe('the fake of Google', () => {
  let google: FakeGoogle
  const answerOf = async (response: Response) => ({ status: response.status, body: Object(await response.json()) })
  const exchange = (change: Record<string, string | undefined>) => {
    const fields = Object.entries({ ...WORKLOAD, ...change }).filter((field): field is [string, string] => field[1] !== undefined)
    return fetch(`${google.url}/v1/token`, { method: 'POST', body: new URLSearchParams(fields) }).then(answerOf)
  }
  const generate = (token: string, body: object, account = ACCOUNT) =>
    fetch(`${google.url}/v1/projects/-/serviceAccounts/${account}:generateAccessToken`, {
      ...{ method: 'POST', headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' }, body: JSON.stringify(body) },
    }).then(answerOf)
  const bound = (subject_token: string, options: object = BOUNDARY) =>
    exchange({ audience: undefined, scope: undefined, subject_token_type: ACCESS_TOKEN, subject_token, options: JSON.stringify(options) })
  const storage = async (token: string, path: string, method = 'GET') =>
    (await fetch(`${google.url}${path}`, { method, headers: { authorization: `Bearer ${token}` } })).status
  const ready = async (scope = [CLOUD]) => {
    const { body } = await exchange({})
    return String((await generate(body.access_token, { scope, lifetime: '300s' })).body.accessToken)
  }
  beforeAll(async () => {
    const roles = { 'example-bucket': ['roles/storage.objectAdmin'], other: ['roles/storage.objectAdmin'] }
    google = await startFakeGoogle({
      workloads: { 'external-token': 'workload' },
      audience: AUDIENCE,
      accounts: { [ACCOUNT]: { tokenCreators: ['workload'], roles } },
    })
  })
  afterAll(() => google.stop())

  it("exchanges a workload's token as documented", async () => {
    const { status, body } = await exchange({})
    expect(status).toBe(200)
    expect(body).toEqual({ access_token: expect.any(String), issued_token_type: ACCESS_TOKEN, token_type: 'Bearer', expires_in: 3600 })
  })

  it.each([
    ['another audience', { audience: '//iam.googleapis.com/x' }],
    ['no audience', { audience: undefined }],
    ['another grant', { grant_type: 'client_credentials' }],
    ['another subject token', { subject_token: 'x' }],
    ['a token type that is not', { subject_token_type: 'jwt' }],
    ['a parameter that is not', { client_secret: 'x' }],
    ['no type of what is wanted', { requested_token_type: undefined }],
  ])('refuses %s', async (_what, change) => {
    const { status, body } = await exchange(change)
    expect(status).toBe(400)
    expect(body).toEqual({ error: expect.stringMatching(/^[a-z_]+$/), error_description: expect.any(String) })
  })

  it('answers the documented generateAccessToken', async () => {
    const { body } = await exchange({})
    const answer = await generate(body.access_token, { scope: [CLOUD], lifetime: '300s', delegates: [] })
    expect(answer).toEqual({
      status: 200,
      body: { accessToken: expect.any(String), expireTime: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) },
    })
    const end = Date.parse(answer.body.expireTime) - Date.now()
    expect(end).toBeLessThanOrEqual(300_000)
    expect(end).toBeGreaterThan(297_000)
  })

  it('refuses what Google does', async () => {
    const { body } = await exchange({})
    const token = String(body.access_token)
    const status = async (change: object, account?: string) => (await generate(token, { scope: [CLOUD], ...change }, account)).body.error?.status
    expect(await status({})).toBeUndefined()
    for (const change of [
      { scope: [] },
      { lifetime: '299s' },
      { lifetime: '3601s' },
      { lifetime: 600 },
      { lifetime: '600' },
      { delegates: ['x'] },
      { email: 'x' },
    ])
      expect({ change, status: await status(change) }).toEqual({ change, status: 'INVALID_ARGUMENT' })
    expect(await status({}, 'other@project.iam.gserviceaccount.com')).toBe('PERMISSION_DENIED')
    expect((await generate('x', { scope: [CLOUD] })).body.error.status).toBe('UNAUTHENTICATED')
  })

  it('bounds a token by the documented boundary, once', async () => {
    const whole = await ready()
    const { status, body } = await bound(whole)
    expect(status).toBe(200)
    expect(body).toMatchObject({ issued_token_type: ACCESS_TOKEN, token_type: 'Bearer' })
    expect(google.endOf(body.access_token)).toBe(google.endOf(whole))
    const objects = '/storage/v1/b/example-bucket/o'
    expect(await storage(body.access_token, `${objects}/customer-a%2Finvoice.txt`)).toBe(200)
    expect(await storage(body.access_token, `${objects}?prefix=customer-a`)).toBe(200)
    for (const path of [`${objects}/customer-b%2Finvoice.txt`, objects, `${objects}?prefix=customer`, '/storage/v1/b/other/o/customer-a'])
      expect({ path, status: await storage(body.access_token, path) }).toEqual({ path, status: 403 })
    expect(await storage(body.access_token, '/upload/storage/v1/b/example-bucket/o?uploadType=media&name=customer-a', 'POST')).toBe(403)
    expect(await storage(whole, '/upload/storage/v1/b/example-bucket/o?uploadType=media&name=customer-a', 'POST')).toBe(200)
    expect((await bound(body.access_token)).status).toBe(400)
    expect((await generate(body.access_token, { scope: [CLOUD] })).status).toBe(403)
  })

  it('refuses boundaries that are not as described', async () => {
    const whole = await ready()
    const [rule] = BOUNDARY.accessBoundary.accessBoundaryRules
    const rules = (...accessBoundaryRules: object[]) => ({ accessBoundary: { accessBoundaryRules } })
    for (const wrong of [
      {},
      rules(),
      rules({ ...rule, availablePermissions: [] }),
      rules({ ...rule, availablePermissions: ['roles/storage.objectViewer'] }),
      rules({ ...rule, availableResource: '//cloudresourcemanager.googleapis.com/projects/x' }),
      rules({ ...rule, availabilityCondition: { expression: 'resource.name.startsWith(' } }),
      rules({ ...rule, availabilityCondition: { expression: "resource.labels == 'x'" } }),
      rules({ ...rule, availablePermission: [] }),
      rules(...Array(11).fill({ ...rule, availabilityCondition: undefined })),
      rules({ ...rule, availabilityCondition: { expression: `resource.name == '${'x'.repeat(2048)}'` } }),
    ])
      expect({ wrong, status: (await bound(whole, wrong)).status }).toEqual({ wrong, status: 400 })
  })

  it('forgets tokens when they end, and asks for the right OAuth scopes', async () => {
    const reader = await ready(['https://www.googleapis.com/auth/devstorage.read_only'])
    expect(await storage(reader, '/storage/v1/b/other/o/a')).toBe(200)
    expect(await storage(reader, '/upload/storage/v1/b/other/o?uploadType=media&name=a', 'POST')).toBe(403)
    google.passTime(301_000)
    expect(await storage(reader, '/storage/v1/b/other/o/a')).toBe(401)
    expect((await bound(reader)).status).toBe(400)
  })
})

describe("the fake's CEL", () => {
  const facts = { resource: { name: "it's", type: 't', service: 's' }, attributes: {} }
  it.each([
    [`resource.name == 'it\\'s'`, true],
    [`resource.name == "it's"`, true],
    [`resource.name == 'it\\x27s'`, true],
    [`resource.name == r"it's"`, true],
    [`resource.name == '''it's'''`, true],
    [`resource.name == r'it\\'`, false],
    [`!(resource.name.startsWith('x')) && (resource.type == 't' || false)`, true],
    [`resource.name.startsWith('x') || true // never mind`, true],
    [`resource.type != 't' || resource.service.contains('x')`, false],
    [`api.getAttribute('none', 'otherwise') == 'otherwise'`, true],
  ])('finds %s %s', (expression, expected) => expect(evaluate(expression, facts)).toBe(expected))

  it.each([`'a`, `'a\nb' == 'c'`, `'\\q' == 'q'`, `resource.name`, `'a' 'b'`, `true ||`, `resource.name.matches('.*')`, '', `request.time`])(
    'takes %j for no condition',
    (expression) => expect(() => evaluate(expression, facts)).toThrow(),
  )
})
