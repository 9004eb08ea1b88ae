import { createSign, generateKeyPairSync, randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { Ajv } from 'ajv'
import { type FakeEntra, startFakeEntra } from './fake-entra.js'

const TENANT = 'a8990e1f-ff32-408a-9f8e-78d3b9139b95'
/** The client id and the scope of the page's own example of a federated credential. */
const CLIENT = '97e0a5b7-d745-40b6-94fe-5f77d35c6e05'
const EXAMPLE = {
  scope: 'https://graph.microsoft.com/.default',
  client_id: CLIENT,
  client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
  grant_type: 'client_credentials',
}
const AUDIENCE = 'api://AzureADTokenExchange'
const schemas = JSON.parse(readFileSync(new URL('published/entra-token.json', import.meta.url), 'utf8'))
const ajv = new Ajv()

describe('the fake of Entra ID', () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const stranger = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey
  const provider = createServer((request, response) => {
    const metadata = { issuer, jwks_uri: `${issuer}/keys` }
    const keys = { keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'one' }] }
    response.end(JSON.stringify(request.url === '/keys' ? keys : metadata))
  })
  let issuer = ''
  let entra: FakeEntra
  beforeAll(async () => {
    await new Promise<void>((resolve) => provider.listen(0, '127.0.0.1', resolve))
    issuer = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`
    const federated = [{ issuer, subject: 'mayfly:Prod', audience: AUDIENCE }]
    entra = await startFakeEntra({ tenant: TENANT, applications: { [CLIENT]: { federated } }, resources: ['https://graph.microsoft.com'] })
  })
  afterAll(async () => {
    await entra.stop()
    provider.closeAllConnections()
    provider.close()
  })

  const assertion = (change: object = {}, { alg = 'RS256', kid = 'one', key = privateKey } = {}): string => {
    const now = Math.floor(Date.now() / 1000)
    const claims = { iss: issuer, sub: 'mayfly:Prod', aud: AUDIENCE, nbf: now, exp: now + 60, jti: randomUUID(), ...change }
    const signed = [{ alg, typ: 'JWT', kid }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
    return `${signed}.${createSign('sha256').update(signed).sign(key, 'base64url')}`
  }
  const ask = async (change: Record<string, string | undefined> = {}, tenant = TENANT) => {
    const fields = Object.entries({ ...EXAMPLE, client_assertion: assertion(), ...change })
    const body = new URLSearchParams(fields.filter((field): field is [string, string] => field[1] !== undefined))
    const response = await fetch(`${entra.authority}/${tenant}/oauth2/v2.0/token`, { method: 'POST', body })
    return { status: response.status, body: Object(await response.json()) }
  }

  it('answers the documented example with the documented fields', async () => {
    const { status, body } = await ask()
    expect(status).toBe(200)
    expect(ajv.validate(schemas.success, body)).toBe(true)
    expect(body).toMatchObject({ token_type: 'Bearer', expires_in: 3599 })
    expect(entra.issued.at(-1)).toMatchObject({ clientId: CLIENT, audience: 'https://graph.microsoft.com' })
  })

  it.each<[string, number, number, () => Parameters<typeof ask>]>([
    ['an assertion of ES256', 401, 5002738, () => [{ client_assertion: assertion({}, { alg: 'ES256' }) }]],
    ['an assertion without signature', 401, 5002738, () => [{ client_assertion: assertion({}, { alg: 'none' }) }]],
    ['another issuer', 401, 700211, () => [{ client_assertion: assertion({ iss: `${issuer}/` }) }]],
    ['another subject', 401, 700213, () => [{ client_assertion: assertion({ sub: 'mayfly:Prod2' }) }]],
    ['a subject in lower case', 401, 7002138, () => [{ client_assertion: assertion({ sub: 'mayfly:prod' }) }]],
    ['another audience', 401, 700212, () => [{ client_assertion: assertion({ aud: 'api://other' }) }]],
    ['two audiences', 401, 700212, () => [{ client_assertion: assertion({ aud: [AUDIENCE, 'b'] }) }]],
    ['an assertion that ended ten minutes ago', 401, 700024, () => [{ client_assertion: assertion({ exp: Date.now() / 1000 - 600 }) }]],
    ['an assertion without an end', 401, 700024, () => [{ client_assertion: assertion({ exp: undefined }) }]],
    ['an unknown key', 401, 7000272, () => [{ client_assertion: assertion({}, { kid: 'two' }) }]],
    ["a stranger's signature", 401, 700027, () => [{ client_assertion: assertion({}, { key: stranger }) }]],
    ['an assertion without id', 401, 50027, () => [{ client_assertion: assertion({ jti: undefined }) }]],
    ['an unknown application', 400, 700016, () => [{ client_id: randomUUID() }]],
    ['an unknown tenant', 400, 90002, () => [{}, randomUUID()]],
    ['a scope without .default', 400, 1002012, () => [{ scope: 'https://graph.microsoft.com/User.Read' }]],
    ['two scopes', 400, 70011, () => [{ scope: 'https://graph.microsoft.com/.default https://b/.default' }]],
    ['an unknown resource', 400, 500011, () => [{ scope: 'https://other/.default' }]],
    ['no assertion', 400, 900144, () => [{ client_assertion: undefined }]],
    ['another grant', 400, 900144, () => [{ grant_type: 'password' }]],
    ['a parameter that is not documented', 400, 900144, () => [{ resource: 'https://graph.microsoft.com' }]],
  ])('refuses %s', async (_what, status, code, change) => {
    const before = entra.issued.length
    const answer = await ask(...change())
    expect(answer).toMatchObject({ status, body: { error_codes: [code] } })
    expect(ajv.validate(schemas.error, answer.body)).toBe(true)
    expect(entra.issued).toHaveLength(before)
  })

  it('refuses an assertion for the second time', async () => {
    const client_assertion = assertion()
    expect((await ask({ client_assertion })).status).toBe(200)
    expect((await ask({ client_assertion })).body.error_codes).toEqual([50027])
  })

  it('fails once when told to', async () => {
    entra.failNext(503, 90033)
    expect(await ask()).toMatchObject({ status: 503, body: { error_codes: [90033] } })
    expect((await ask()).status).toBe(200)
  })

  it('lets a bearer in at the resource that the token is for, until it ends', async () => {
    const { access_token: token } = (await ask()).body
    const now = Date.now()
    expect(entra.authorize(token, 'https://graph.microsoft.com')).toBe(true)
    expect(entra.authorize(token, 'https://storage.azure.com')).toBe(false)
    expect(entra.authorize(token, 'https://graph.microsoft.com', now + 3_597_000)).toBe(true)
    expect(entra.authorize(token, 'https://graph.microsoft.com', now + 3_600_000)).toBe(false)
    expect(entra.authorize(`${token.slice(0, -8)}AAAAAAAA`, 'https://graph.microsoft.com')).toBe(false)
  })

  it('tells where it takes requests', async () => {
    const url = `${entra.authority}/${TENANT}/v2.0/.well-known/openid-configuration`
    expect(await (await fetch(url)).json()).toMatchObject({ token_endpoint: `${entra.authority}/${TENANT}/oauth2/v2.0/token` })
  })
})
