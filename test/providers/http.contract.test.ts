import { z } from 'zod'
import { serveEphemeralKeys } from '../../src/conformance/keys.js'
import { http } from '../../src/providers/http.js'
import type { Credential } from '../../src/providers/provider.js'
import { openSigner } from '../../src/signer.js'
import { contract } from './contract.js'
import type { Harness } from './harness.js'
import { AUDIENCE, sampleOptions, startSampleService } from './http-service.js'

const listing = z.array(z.object({ name: z.string(), expiresAt: z.number() }))
const nested = (depth: number): unknown => (depth === 0 ? 1 : { a: nested(depth - 1) })

async function start(): Promise<Harness> {
  const keys = await serveEphemeralKeys(0)
  const service = await startSampleService(keys)
  const reads = async ({ env }: Credential, region: string): Promise<boolean> => {
    const answer = await fetch(`${service.partner}/orders/${region}`, { headers: { authorization: `Bearer ${env.PARTNER_KEY}` } })
    await answer.arrayBuffer()
    return answer.status === 200
  }
  const listed = async () => listing.parse(await (await fetch(`${service.partner}/keys`)).json())
  const busy = JSON.stringify({ title: 'slow down', kind: 'throttled' })
  return {
    module: http,
    upstream: 'self',
    options: sampleOptions(service.url),
    params: { regions: ['eu', 'us'] },
    signer: await openSigner(keys),
    address: service,
    optionsAt: (port) => ({ ...sampleOptions(`http://127.0.0.1:${port}/mayfly`), audience: AUDIENCE }),
    works: (credential) => reads(credential, 'eu'),
    made: async () => (await listed()).map(({ name }) => name),
    expiry: async (_credential, handle) => (await listed()).find(({ name }) => name === handle.name)?.expiresAt,
    narrowing: {
      scope: { regions: 'eu' },
      allows: (credential) => reads(credential, 'eu'),
      denies: async (credential) => !(await reads(credential, 'us')),
    },
    widening: [
      { regions: 'asia' },
      { regions: ['eu', 'asia'] },
      { regions: [] },
      { regions: '' },
      { regions: '*' },
      { regions: 'eu\n' },
      { regions: ['eu', '\ud800'] },
      { regions: '__proto__' },
      { regions: 'x'.repeat(10_240) },
      { regions: Array.from({ length: 100_000 }, () => 'eu') },
      { tenants: 'acme' },
      { __proto__: null, constructor: 'eu' },
      JSON.parse('{"__proto__": "eu"}'),
    ],
    hostileParams: [
      null,
      'eu',
      ['eu'],
      { 'a b': 1 },
      { 'a\n': 1 },
      { '': 1 },
      { $ref: 'x' },
      JSON.parse('{"__proto__": {"regions": "eu"}}'),
      JSON.parse('{"regions": {"__proto__": {"polluted": true}}}'),
      { ['x'.repeat(65)]: 1 },
      { regions: '\ud800' },
      { regions: [{ '\udfff': 1 }] },
      { regions: Number.NaN },
      { regions: Number.POSITIVE_INFINITY },
      { regions: undefined },
      { regions: 1n },
      { regions: () => 'eu' },
      { regions: new Date() },
      { regions: new Map() },
      { regions: nested(40) },
      { regions: 'x'.repeat(16_384) },
      { regions: Array.from({ length: 10_000 }, () => 'eu') },
    ],
    refusedParams: [
      {},
      { regions: [] },
      { regions: '*' },
      { regions: ['eu', 'asia'] },
      { regions: ['eu', { $ne: null }] },
      { regions: 'eu', admin: true },
      { regions: 'eu"}, "name": "mf-x-0' },
    ],
    secretsOf: ({ env }) => [String(env.PARTNER_KEY)],
    mintSign: 'POST /mayfly/mint',
    halfAnswer: 'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 200\r\n\r\n{"credential": {"fields": {"key": "',
    busyAnswer: `HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\nContent-Length: ${busy.length}\r\n\r\n${busy}`,
    log: () => service.log(),
    async stop() {
      await service.stop()
      await keys.close()
    },
  }
}

contract('http', start, {
  'after its expiry it does not work': 'the sample revokes immediately; what its expiry ends is shown by the conformance suite',
  'what cannot be taken back is not called revoked': 'the sample revokes immediately; a service that cannot is told apart in http.test.ts',
  "the upstream's own expiry is set": 'the sample revokes immediately; that its expiry is the one asked for is shown by the case for renew',
  'a session opened before the revoke is cut': 'the sample has no sessions: a key is looked up at each use of it',
  'list finds exactly what this instance made': 'the wire contract has no listing: a service tells of one name at a time',
  'a handle that only the mint knows is not guessed, and its blind window is told': 'the name is derived from the lease before the mint',
})
