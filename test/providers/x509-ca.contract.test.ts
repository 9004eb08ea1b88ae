import type { Credential, Provider } from '../../src/providers/provider.js'
import { x509Ca } from '../../src/providers/x509-ca.js'
import { contract } from './contract.js'
import { type Harness, HOSTILE_TEXTS, INSTANCE, TIMEOUT_MS } from './harness.js'
import { openRegister } from './register.js'
import { newAuthority, startTlsServer } from './tls-server.js'

const JOB = 'spiffe://acme.example/jobs/{path}'
const TASK = 'spiffe://acme.example/tasks/{task}'

async function start(): Promise<Harness> {
  const { register, stop: stopRegister } = await openRegister()
  const authorities = await Promise.all([newAuthority({ name: 'Agents' }), newAuthority({ name: 'Agents, before' })])
  const options = {
    certificates: authorities.map(({ certificate }) => certificate).join(''),
    keys: authorities.map(({ key }) => key).join(''),
    crl_url: 'https://mayfly.example/v1/providers/agents',
  }
  // Another broker, whose documents the relying party fetches: what one broker revoked, all publish.
  const atAnotherBroker = async (...names: string[]) => {
    const context = { name: 'under-test', instance: INSTANCE, timeoutMs: TIMEOUT_MS, concurrency: 4, register }
    const provider: Provider = await x509Ca.open(x509Ca.options.parse(options), context)
    const read = names.map((name) => provider.documents?.find((one) => one.name === name)?.read())
    return (await Promise.all(read)).map(String)
  }
  const trust = async () => {
    const [ca = '', crl = ''] = await atAnotherBroker('ca.pem', 'crl.pem')
    return { ca, crl }
  }
  const server = await startTlsServer(await trust())
  const namesIn = async (credential: Credential) => (await server.greets(credential))?.names
  const scope = { uris: [TASK] }
  return {
    module: x509Ca,
    upstream: 'real',
    options,
    params: { dns: ['one.jobs.example', 'two.jobs.example'], uris: [TASK, JOB] },
    scope,
    register,
    brokerSecret: authorities[0]?.key.split('\n')[1],
    works: async (credential) => (await namesIn(credential)) !== undefined,
    afterResidual: async () => server.reload(await trust()),
    openSession: server.openSession,
    // A relying party knows of no certificate before it is shown one: there is nothing that could be left there.
    made: async () => [],
    narrowing: {
      scope: { uris: [JOB], dns: ['two.jobs.example'], path: 'exports/2026' },
      allows: async (credential) => (await namesIn(credential)) === 'URI:spiffe://acme.example/jobs/exports/2026, DNS:two.jobs.example',
      denies: async (credential) => !/one\.jobs|tasks/.test((await namesIn(credential)) ?? 'one.jobs'),
    },
    widening: [
      {},
      { uris: [TASK, JOB], path: 'a' },
      { ...scope, dns: ['three.jobs.example'] },
      { ...scope, dns: ['*.jobs.example'] },
      { ...scope, dns: [] },
      { ...scope, dns: 'one.jobs.example' },
      { ...scope, dns: ['one.jobs.example', 'one.jobs.example'] },
      { uris: [] },
      { uris: ['spiffe://acme.example/tasks/another'] },
      { uris: ['spiffe://other.example/jobs/{path}'], path: 'a' },
      { ...scope, path: 'a' },
      { uris: [JOB] },
      { uris: [JOB], path: ['a'] },
      ...['', '/', '.', '..', 'a/../b', 'a//b', '/a', 'a/', 'a b', 'a%2Fb', 'a?b', 'a#b', '{task}', 'ä', 'a@b', ...HOSTILE_TEXTS].map((path) => ({
        uris: [JOB],
        path,
      })),
      ...HOSTILE_TEXTS.map((text) => ({ ...scope, dns: [text] })),
      { ...scope, common_name: 'root' },
      { ...scope, ip: ['127.0.0.1'] },
    ],
    hostileParams: [
      {},
      { dns: [] },
      ...[
        '*.jobs.example',
        'Jobs.Example',
        '127.0.0.1',
        'a..b',
        '.a',
        'a.',
        '-a.b',
        'a_b.c',
        'a b',
        'a\0.b',
        'a,DNS:b',
        `${'a'.repeat(64)}.b`,
        '::1',
      ].map((one) => ({ dns: [one] })),
      { dns: ['a.b', 'a.b'] },
      { dns: 'a.b' },
      ...[
        'spiffe://acme.example',
        'spiffe://acme.example/',
        'spiffe://acme.example/a/',
        'spiffe://acme.example//a',
        'spiffe://acme.example/a/../b',
        'spiffe://acme.example/.',
        'spiffe://acme.example/a%20b',
        'spiffe://acme.example/a?b',
        'spiffe://acme.example:80/a',
        'spiffe://user@acme.example/a',
        'spiffe://Acme.Example/a',
        'spiffe:///a',
        'SPIFFE://acme.example/a',
        'spiffe:acme.example/a',
        'spiffe://{agent}/a',
        'spiffe://acme.{task}/a',
        'spiffe://acme.example/{human}',
        'spiffe://acme.example/{agent}{role}',
        'spiffe://acme.example/{agent}-{role}',
        'spiffe://acme.example/{path}/x',
        'spiffe://acme.example/{agent',
        'spiffe://acme.example/{constructor}',
        `spiffe://acme.example/${'a'.repeat(3000)}`,
        'javascript:alert(1)',
        'urn:{agent}:a',
        '{agent}',
        'https://acme.example',
        'https://acme.example/a b',
        'https://user:pw@acme.example/a',
      ].map((one) => ({ uris: [one] })),
      { uris: [TASK, 'https://acme.example/a'] },
      { uris: [JOB] },
      { uris: [TASK], serial: '01' },
      ...['', 'a=b', 'a,b', 'a+b', 'a"b', 'a\nb', 'ä', ' a', 'a'.repeat(65), '{path}', '{agent}{role}', '{x}', '{', '/CN=root'].map(
        (common_name) => ({ common_name }),
      ),
      ...HOSTILE_TEXTS.flatMap((text) => [{ common_name: text }, { dns: [text] }, { uris: [text] }, { uris: [`spiffe://acme.example/${text}`] }]),
    ],
    secretsOf: ({ fields }) => String(fields.private_key).split('\n').slice(1, -2),
    log: () => server.refusals.join('\n'),
    stop: async () => {
      await server.stop()
      await stopRegister()
    },
  }
}

const NO_ADDRESS = 'certificates are signed in this process: there is no upstream to reach, only relying parties that fetch a list'
contract('x509-ca', start, {
  'after its expiry it does not work': 'revocation is deny-policy; that an expired certificate is refused is shown in x509-ca.test.ts',
  'what cannot be taken back is not called revoked': 'revocation is deny-policy: every certificate can be put on the list',
  'a session opened before the revoke is cut':
    'a certificate is looked at when a connection is made, and the provider says so (cutsSessions is false)',
  "the upstream's own expiry is set": 'revocation is deny-policy; the end that is written into the certificate is read in x509-ca.test.ts',
  'renew extends it, and revives nothing': 'a signed certificate cannot be extended: renewing mints a successor',
  'a handle that only the mint knows is not guessed, and its blind window is told': 'the serial number is derived from the lease before the mint',
  'list finds exactly what this instance made': 'nothing is kept of a certificate that was not revoked',
  'verify tells dead from alive': 'a certificate is known only to who holds it: the broker kept none that it could try',
  'a mint that lost its answer leaves nothing after revoke': NO_ADDRESS,
  'a mint that arrives after its end makes nothing': NO_ADDRESS,
  'an unreachable upstream is an error inside the deadline': NO_ADDRESS,
  'an upstream that takes the connection and says nothing is a timeout inside the deadline': NO_ADDRESS,
  'half an answer is an error inside the deadline': NO_ADDRESS,
  'a throttling upstream is told apart': NO_ADDRESS,
})
