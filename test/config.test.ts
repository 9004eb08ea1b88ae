import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { ConfigError, configJsonSchema, loadConfig } from '../src/config.js'
import { generateSealingKeys } from '../src/sealing.js'
import { generateSigningKeys } from '../src/signer.js'

const SECRET = `whsec_${'a'.repeat(44)}`
const CLASSIFIER = 'classifier: {url: https://classifier.example, secret: env:CLASSIFIER}'
const ROOT = resolve(import.meta.dirname, '..')
let folder: string
let env: Record<string, string>
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mayfly-config-'))
  env = { CLASSIFIER: SECRET, KEYS: JSON.stringify(await generateSigningKeys()), DB: 'postgres://broker:secret@127.0.0.1:5432/app' }
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const CEDAR = `{schema: "${ROOT}/config/schema.cedarschema", files: ["${ROOT}/config/policies/guardrails.cedar"]}`
const GOOD = `
version: 1
instance: prod-eu
listeners: {public: {address: "127.0.0.1:8080"}}
ledger: {redis: embedded}
signing: {issuer: https://mayfly.example, keys: env:KEYS}
issuers:
  sso: {url: https://sso.example, audience: mayfly}
agents:
  - {id: triage, match: {issuer: sso, sub: triage}, owner: a@b.c, autonomy: scripted, team: analytics}
operators:
  - {id: oncall, match: {issuer: sso, sub: oncall}, groups: [sre-oncall]}
providers:
  tokens: {type: jwt}
  warehouse: {type: postgres, url: env:DB, timeout: 2s}
roles:
  api-token: {provider: tokens, access: read, max_ttl: 5m, params: {audience: x}}
  warehouse-read: {provider: warehouse, access: read, sensitivity: internal, max_ttl: 15m, max_lifetime: 1h, params: {member_of: [ro]}}
policies: ${CEDAR}
audit: {sinks: {local: {type: jsonl, path: audit}}}
`

async function load(text: string) {
  const path = join(folder, 'mayfly.yaml')
  await writeFile(path, text)
  return loadConfig(path, env)
}
async function problems(text: string): Promise<string> {
  const error = await load(text).then(
    () => undefined,
    (thrown: unknown) => thrown,
  )
  expect(error).toBeInstanceOf(ConfigError)
  return (error as ConfigError).problems.join('\n')
}

describe('the configuration', () => {
  it('is read into frozen, typed values', async () => {
    const config = await load(GOOD)
    expect(config.roles.find((role) => role.name === 'warehouse-read')).toMatchObject({ maxTtlSeconds: 900, maxLifetimeSeconds: 3600 })
    expect(config.roles.find((role) => role.name === 'api-token')).toMatchObject({ sensitivity: 'restricted', maxLifetimeSeconds: 300 })
    expect(config.providers.find((one) => one.name === 'warehouse')).toMatchObject({ timeoutMs: 2000, concurrency: 8 })
    expect(config.policy.known).toMatchObject({ teams: ['analytics'], groups: ['sre-oncall'], roles: ['api-token', 'warehouse-read'] })
    expect(() => {
      // @ts-expect-error: it is readonly, and also at run time
      config.roles[0].provider = 'other'
    }).toThrow(TypeError)
  })

  it.each([
    ['an unknown field', 'instance: prod-eu', 'instance: prod-eu\nextra: 1', /unknown field "extra"/],
    ['an unknown field deep inside', 'autonomy: scripted', 'autonomy: scripted, autonmy: x', /agents\.0: unknown field "autonmy"/],
    ['an unknown option of a provider', 'timeout: 2s', 'timeout: 2s, hots: x', /providers\.warehouse: unknown field "hots"/],
    ['a missing field', 'instance: prod-eu\n', '', /instance: missing/],
    ['an agent without an owner', 'owner: a@b.c, ', '', /agents\.0\.owner: missing/],
    ['an agent without a level of autonomy', ', autonomy: scripted', '', /agents\.0\.autonomy/],
    ['a provider that is not there', 'provider: tokens', 'provider: tokenz', /roles\.api-token\.provider: there is no provider "tokenz"/],
    ['a type that is not there', 'type: jwt', 'type: jwtt', /providers\.tokens\.type: "jwtt" is none of/],
    ['an issuer that is not there', 'match: {issuer: sso, sub: triage}', 'match: {issuer: ss, sub: triage}', /agents\[0\]\.match\.issuer/],
    ['a duration without a unit', 'max_ttl: 15m', 'max_ttl: 15', /roles\.warehouse-read\.max_ttl: must be a duration such as/],
    ['text where a list is due', 'audience: mayfly', 'audience: mayfly, typ: at+jwt', /issuers\.sso\.typ: .*expected array, received string/],
    ['a port that there is not', ':8080', ':80800', /listeners\.public\.address: must end in a port up to 65535/],
    ['a timeout that outlasts a claim', 'timeout: 2s', 'timeout: 1m', /providers\.warehouse\.timeout: must be between/],
    ['a lifetime shorter than the TTL', 'max_lifetime: 1h', 'max_lifetime: 1m', /max_lifetime: is shorter/],
    [
      'a parameter that the provider does not know',
      'member_of: [ro]',
      'member_of: [ro], superuser: true',
      /roles\.warehouse-read\.params: unknown field "superuser"/,
    ],
    ['an unset environment variable', 'env:DB', 'env:NOPE', /providers\.warehouse\.url: the environment variable NOPE is not set/],
    ['a file that is not there', 'keys: env:KEYS', 'keys: file:nope.json', /signing\.keys: cannot read nope\.json/],
    ['a password in the file', 'url: env:DB', 'url: "postgres://u:hunter2@h/db"', /providers\.warehouse\.url: holds a password/],
    ['a key twice', 'version: 1', 'version: 1\nversion: 1', /unique/],
    ['a jwt provider without signing keys', /^signing.*$/m, '', /needs "signing"/],
    ['an unknown policy engine', CEDAR, '{engine: casbin}', /policies\.engine/],
    ['an OPA that is told nothing of Cedar', CEDAR, '{engine: opa, url: "https://opa", stop: null, files: [x]}', /policies: unknown field "files"/],
    ['an OPA that anybody could answer for', CEDAR, '{engine: opa, url: "http://opa", stop: null}', /policies\.url: must be https/],
    [
      'an OPA at no document',
      CEDAR,
      '{engine: opa, url: "https://opa", stop: null, path: ../policies}',
      /policies\.path: must be the path of a document/,
    ],
    ['an OPA that nobody waits for', CEDAR, '{engine: opa, url: "https://opa", stop: null, timeout: 1m}', /policies\.timeout/],
    [
      'an OPA without which nobody could stop anything',
      CEDAR,
      '{engine: opa, url: "https://opa"}',
      /policies\.stop: must name groups of operators, or be null/,
    ],
    ['a stop by nobody', CEDAR, '{engine: opa, url: "https://opa", stop: [friends]}', /policies\.stop: no operator is in "friends"/],
    ['a token for an OPA that stands in the file', CEDAR, '{engine: opa, url: "https://opa", token: hunter2}', /policies\.token: is a secret/],
    ['no audit sink', '{local: {type: jsonl, path: audit}}', '{}', /audit\.sinks/],
    ['a classifier without a catalogue', 'audit:', `${CLASSIFIER}\naudit:`, /classifier: vocabulary\.intents is empty/],
    ['the secret of a classifier', 'audit:', `${CLASSIFIER.replace('env:CLASSIFIER', SECRET)}\naudit:`, /classifier\.secret: is a secret/],
    ['a classifier over http', 'audit:', `${CLASSIFIER.replace('https', 'http')}\naudit:`, /classifier\.url: must be https/],
    [
      'a classifier that is waited for too long',
      'audit:',
      `${CLASSIFIER.replace('}', ', timeout: 11s}')}\naudit:`,
      /classifier\.timeout: must be between/,
    ],
    [
      'trust that says nothing',
      'audit:',
      `${CLASSIFIER.replace('}', ', trust: [flows]}')}\naudit:`,
      /classifier\.trust: says nothing without "when: always"/,
    ],
    ['a ledger that is no Redis', 'redis: embedded', 'redis: http://x', /ledger\.redis/],
    ['a Cluster without servers', 'redis: embedded', 'redis: {cluster: {nodes: []}}', /ledger\.redis\.cluster\.nodes/],
    ['a server without a port', 'redis: embedded', 'redis: {cluster: {nodes: [redis-0]}}', /ledger\.redis\.cluster\.nodes\.0: must be HOST:PORT/],
    [
      'Sentinels without the name of the primary',
      'redis: embedded',
      'redis: {sentinel: {nodes: ["s:26379"]}}',
      /ledger\.redis\.sentinel\.name: missing/,
    ],
    [
      'both Sentinels and a Cluster',
      'redis: embedded',
      'redis: {sentinel: {name: x, nodes: ["s:1"]}, cluster: {nodes: ["c:1"]}}',
      /either "sentinel" or "cluster"/,
    ],
    [
      'a password of Sentinels',
      'redis: embedded',
      'redis: {sentinel: {name: x, nodes: ["s:1"], sentinel_password: hunter2}}',
      /sentinel_password: is a secret/,
    ],
    ['an instance too long for upstream names', 'prod-eu', 'a-name-of-more-than-twenty', /instance/],
  ])('refuses %s, naming its path', async (_what, from, to, expected) => {
    const text = GOOD.replace(from, to)
    expect(text).not.toBe(GOOD)
    expect(await problems(text)).toMatch(expected)
  })

  it('takes Sentinels or a Cluster for the ledger, as config/mayfly.yaml says it', async () => {
    const example = await readFile(join(ROOT, 'config/mayfly.yaml'), 'utf8')
    const forms = [...example.matchAll(/^ {2}# (redis:).*\n {2}# ( {2}(?:sentinel|cluster): .*)$/gm)].map(
      ([, field, value]) => `{${field} ${value?.trim().replace(/^(.*)$/, '{$1}')}}`,
    )
    const secrets = { REDIS_PASSWORD: 'one', SENTINEL_PASSWORD: 'two' }
    const read = async (ledger = '') => {
      const path = join(folder, 'mayfly.yaml')
      await writeFile(path, GOOD.replace('{redis: embedded}', ledger.replace('file:redis/ca.crt', 'env:KEYS')))
      return (await loadConfig(path, { ...env, ...secrets })).ledger.redis
    }
    expect(await read(forms[0])).toMatchObject({
      sentinel: {
        name: 'mayfly',
        nodes: [{ host: 'sentinel-0', port: 26379 }, { host: 'sentinel-1' }],
        password: 'one',
        sentinelPassword: 'two',
        tls: {},
      },
    })
    expect(await read(forms[1])).toMatchObject({
      cluster: { nodes: [{ host: 'redis-0', port: 6379 }, {}], username: 'mayfly', password: 'one', tls: { ca: env.KEYS } },
    })
  })

  it('never repeats a secret in what it says', async () => {
    expect(await problems(GOOD.replace('url: env:DB', 'url: "postgres://u:hunter2@h/db"'))).not.toContain('hunter2')
  })

  it('documents every option in config/mayfly.yaml, which loads', async () => {
    const all = {
      REDIS_URL: 'redis://localhost',
      WAREHOUSE_URL: env.DB,
      CACHE_URL: 'redis://localhost',
      MAYFLY_SIGNING_KEYS: env.KEYS,
      MAYFLY_SEALING_KEYS: JSON.stringify(generateSealingKeys()),
      SHOP_DB_URL: 'mysql://mayfly:secret@localhost:3306',
      RABBITMQ_API_URL: 'https://mayfly:secret@localhost:15671',
      IDP_SECRET: 'idp-secret',
      CLASSIFIER_SECRET: SECRET,
    }
    const files: Record<string, string> = {
      'tls/tls.crt': 'x'.repeat(2_000),
      'tls/tls.key': 'x'.repeat(2_000),
      'break-glass.jwks': await publicKeys(),
      'export.json': EXPORT,
      'gcs-export.json': GCS_EXPORT,
      ...authorities(),
    }
    const example = (await readFile(join(ROOT, 'config/mayfly.yaml'), 'utf8'))
      .replace(/file:([\w./-]+)/g, (_, name: string) => `env:${name.replace(/\W/g, '_')}`)
      .replaceAll('schema.cedarschema', join(ROOT, 'config/schema.cedarschema'))
      .replace(/policies\//g, `${ROOT}/config/policies/`)
    const path = join(folder, 'example.yaml')
    await writeFile(path, example)
    const named = Object.fromEntries(Object.entries(files).map(([name, text]) => [name.replace(/\W/g, '_'), text]))
    const config = await loadConfig(path, { ...all, ...named })
    expect(config.instance).toBe('prod-eu')
    expect(config.vocabulary.intents).toEqual(['incident-triage', 'deploy', 'data-report'])
    expect(config.classifier?.catalogue[0]).toEqual({ name: 'incident-triage', description: 'find out what is broken and why' })

    // What is said there as an alternative is good for a configuration too.
    const [, commented = ''] = /^# (policies:\n(?:# .*\n)+)/m.exec(example) ?? []
    const opa = commented.replace(/^# /gm, '').replace(/file:opa-ca\.pem|env:opa_ca_pem/, 'env:OPA_CA')
    await writeFile(path, example.replace(/^policies:\n(?: .*\n)+/m, opa))
    expect((await loadConfig(path, { ...all, ...named, OPA_TOKEN: 'secret', OPA_CA: 'x' })).policy).toMatchObject({
      ...{ engine: 'opa', url: 'https://opa.internal:8181', path: 'mayfly/decision', timeoutMs: 1_000, concurrency: 32, token: 'secret', ca: 'x' },
      ...{ allowPrivateAddresses: true, memoSize: 0, known: { groups: ['sre-oncall'] } },
    })
  })

  it('has a JSON Schema for editors that is current', async () => {
    const text = await readFile(join(ROOT, 'config/mayfly.schema.json'), 'utf8')
    expect(JSON.parse(text)).toEqual(JSON.parse(JSON.stringify(configJsonSchema())))
  })
})

const EXPORT = JSON.stringify({
  Version: '2012-10-17',
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the provider's own placeholder
  Statement: [{ Effect: 'Allow', Action: 's3:PutObject', Resource: 'arn:aws:s3:::exports/${scope.prefix}/*' }],
})

const GCS_EXPORT = JSON.stringify({
  accessBoundary: {
    accessBoundaryRules: [
      {
        availableResource: '//storage.googleapis.com/projects/_/buckets/exports',
        availablePermissions: ['inRole:roles/storage.objectViewer'],
        // biome-ignore lint/suspicious/noTemplateCurlyInString: it is the provider's own placeholder
        availabilityCondition: { expression: "resource.name.startsWith('projects/_/buckets/exports/objects/${scope.prefix}/')" },
      },
    ],
  },
})

/** As an operator makes them, with the commands of the providers' pages. */
function authorities(): Record<string, string> {
  const made = (name: string) => readFileSync(join(folder, name), 'utf8')
  const run = (command: string, ...args: string[]) => execFileSync(command, args, { cwd: folder, stdio: 'pipe' })
  run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', 'ssh-ca-keys')
  const subject = ['-subj', '/CN=agents', '-addext', 'keyUsage=critical,keyCertSign,cRLSign']
  run('openssl', 'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', 'ca.key', '-out', 'ca.pem', ...subject)
  run('openssl', 'genrsa', '-out', 'app.pem', '2048')
  return { 'github-app.pem': made('app.pem'), 'ssh-ca-keys': made('ssh-ca-keys'), 'agents-ca.pem': made('ca.pem'), 'agents-ca.key': made('ca.key') }
}

async function publicKeys(): Promise<string> {
  const { keys } = await generateSigningKeys()
  return JSON.stringify({ keys: keys.map(({ d: _, ...key }) => key) })
}
