import { appendFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, expect, it } from '@jest/globals'
import { exportJWK, generateKeyPair } from 'jose'
import { startRedis, type TestRedis } from '../support/redis.js'
import { mayfly, type Run, start, stop, until } from './mayfly.js'

const CONFIG = resolve(import.meta.dirname, '../../config')
let redis: TestRedis
let folder: string
let config: string
let env: Record<string, string>
beforeAll(async () => {
  redis = await startRedis()
  folder = mkdtempSync(join(tmpdir(), 'mayfly-serve-'))
  config = join(folder, 'mayfly.yaml')
  const { publicKey } = await generateKeyPair('ES256')
  const keys = await mayfly(['keys', 'generate'])
  expect(keys.code).toBe(0)
  env = {
    REDIS: `unix:${redis.socketPath}`,
    JWKS: JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: '1', alg: 'ES256' }] }),
    SIGNING: keys.out,
  }
  writeFileSync(
    config,
    `version: 1
instance: serve
listeners: {public: {address: 127.0.0.1:0}}
ledger: {redis: env:REDIS, durability: everysec}
signing: {issuer: "https://mayfly.test", keys: env:SIGNING}
issuers: {test: {jwks: env:JWKS, issuer: "https://issuer.test", audience: mayfly}}
agents: [{id: triage, match: {issuer: test, sub: triage}, owner: sre@example.com, autonomy: scripted}]
providers: {tokens: {type: jwt}}
policies: {schema: ${CONFIG}/schema.cedarschema, files: [${CONFIG}/policies/tasks.cedar]}
audit: {sinks: {local: {type: jsonl, path: audit}}}
roles:
  one: {provider: tokens, access: read, max_ttl: 5m, params: {audience: "https://reports.example"}}
`,
  )
})
const started: Run[] = []
afterAll(async () => {
  await Promise.all(started.map(stop))
  await redis.stop()
  rmSync(folder, { recursive: true, force: true })
})

it('serves only from a ledger that was prepared once, reloads all or nothing, and drains when it is told to', async () => {
  const early = await mayfly(['serve', '--config', config], env)
  expect(early).toMatchObject({ code: 1, err: expect.stringMatching(/ledger_unavailable.*\n {2}next: for a first start run `mayfly ledger init`/) })
  for (const said of [/is ready/, /already/])
    expect(await mayfly(['ledger', 'init', '--config', config], env)).toMatchObject({ code: 0, out: expect.stringMatching(said) })

  const broker = start(['serve', '--config', config], env)
  started.push(broker)
  await until(broker, '"listening"')
  const url = /"public":"([^"]+)"/.exec(broker.out())?.[1]
  const before = readFileSync(config, 'utf8')
  appendFileSync(config, '  two: {provider: nowhere, access: read, max_ttl: 5m}\n')
  broker.child.kill('SIGHUP')
  await until(broker, 'the old one stays')
  expect(broker.out()).toContain('roles.two.provider: there is no provider')
  expect((await fetch(`${url}/readyz`)).status).toBe(200)

  writeFileSync(
    config,
    `${before}  two: {provider: tokens, access: read, max_ttl: 5m, params: {audience: "https://reports.example"}}\nlog: {level: error}\n`,
  )
  broker.child.kill('SIGHUP')
  await until(broker, 'configuration reloaded')
  // The new level holds from here on.
  expect(await stop(broker)).toMatchObject({ code: 0, out: expect.not.stringContaining('"stopping"') })
})

it('says what is wrong with a configuration, by its path', async () => {
  const wrong = join(folder, 'wrong.yaml')
  writeFileSync(wrong, readFileSync(config, 'utf8').replace('autonomy: scripted', 'autonomy: wild, colour: red'))
  const ended = await mayfly(['config', 'check', wrong], env)
  expect(ended).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/agents\.0\.autonomy[\s\S]*unknown field "colour"/) })
  const schema = await mayfly(['config', 'schema'])
  expect(JSON.parse(schema.out)).toMatchObject({ type: 'object', properties: { providers: {} } })
})
