import type { Credential, Provider } from '../../src/providers/provider.js'
import { sshCa } from '../../src/providers/ssh-ca.js'
import { contract } from './contract.js'
import { type Harness, HOSTILE_TEXTS, INSTANCE, TIMEOUT_MS } from './harness.js'
import { openRegister } from './register.js'
import { newKeys, startSshd } from './sshd.js'

async function start(): Promise<Harness> {
  const { register, stop: stopRegister } = await openRegister()
  const keys = (await newKeys([], [])).join('')
  // Another broker, whose documents the host fetches: what one broker revoked, all publish.
  const atAnotherBroker = async (name: string) => {
    const options = sshCa.options.parse({ keys })
    const provider: Provider = await sshCa.open(options, { name: 'under-test', instance: INSTANCE, timeoutMs: TIMEOUT_MS, concurrency: 4, register })
    const document = await provider.documents?.find((one) => one.name === name)?.read()
    await provider.close()
    return document ?? Buffer.alloc(0)
  }
  const sshd = await startSshd({
    trusted: String(await atAnotherBroker('ca.pub')),
    principals: ['deploy', 'audit'],
    krl: await atAnotherBroker('krl'),
  })
  const works = async (credential: Credential, from?: string) => (await sshd.run(credential, 'echo it works', from)).output === 'it works\n'
  const params = { principals: ['deploy', 'audit', 'nobody-here'], source_addresses: ['127.0.0.0/30'] }
  return {
    module: sshCa,
    upstream: 'real',
    options: { keys },
    params,
    register,
    brokerSecret: keys.split('\n')[2],
    works: (credential) => works(credential),
    afterResidual: async () => sshd.revokedAre(await atAnotherBroker('krl')),
    openSession: sshd.openSession,
    // A host knows of no certificate before it is shown one: there is nothing that could be left there.
    made: async () => [],
    narrowing: {
      scope: { principals: ['audit'], source_addresses: ['127.0.0.2'] },
      allows: (credential) => works(credential, '127.0.0.2'),
      denies: async (credential) =>
        !(await works(credential, '127.0.0.1')) && JSON.stringify(credential.fields.principals) === '["audit"]' && works(credential, '127.0.0.2'),
    },
    widening: [
      { principals: ['root'] },
      { principals: ['deploy', 'root'] },
      { principals: [] },
      { principals: '' },
      { principals: 'deploy' },
      { principals: ['deploy,root'] },
      { principals: ['*'] },
      { principals: ['deploy', 'deploy'] },
      ...HOSTILE_TEXTS.map((text) => ({ principals: [text] })),
      { source_addresses: ['127.0.0.4'] },
      { source_addresses: ['127.0.0.0/29'] },
      { source_addresses: ['0.0.0.0/0'] },
      { source_addresses: ['::/0'] },
      { source_addresses: ['::ffff:127.0.0.1'] },
      { source_addresses: ['127.0.0.1', '10.0.0.1'] },
      { source_addresses: ['127.0.0.1,10.0.0.1'] },
      { source_addresses: ['!10.0.0.1'] },
      { source_addresses: [] },
      { source_addresses: '127.0.0.1' },
      { force_command: 'id' },
      { extensions: ['permit-pty'] },
    ],
    hostileParams: [
      {},
      { principals: [] },
      { principals: 'deploy' },
      { principals: [''] },
      { principals: ['*'] },
      { principals: ['deploy,root'] },
      { principals: ['deploy root'] },
      { principals: ['deploy\nroot'] },
      { principals: ['-deploy'] },
      { principals: ['a', 'a'] },
      { principals: Array.from({ length: 257 }, (_, index) => `p${index}`) },
      ...HOSTILE_TEXTS.map((text) => ({ principals: [text] })),
      ...[
        '10.0.0.1/8',
        '10.0.0.0/33',
        '10.0.0.0/08',
        '10.0.0.0/',
        '10/8',
        '010.0.0.1',
        '0x0a.0.0.1',
        '167772161',
        'fe80::1%eth0',
        '2001:db8::1/32',
        '::ffff:10.0.0.1',
        '::/129',
        '*',
        '!::1',
      ].map((one) => ({ principals: ['deploy'], source_addresses: [one] })),
      { principals: ['deploy'], source_addresses: [] },
      { principals: ['deploy'], source_addresses: '10.0.0.0/8' },
      { principals: ['deploy'], source_addresses: ['10.0.0.0/8,0.0.0.0/0'] },
      { principals: ['deploy'], source_addresses: ['10.0.0.0/8\n'] },
      { principals: ['deploy'], force_command: '' },
      { principals: ['deploy'], force_command: 'id\0' },
      { principals: ['deploy'], force_command: '\ud800' },
      { principals: ['deploy'], force_command: 'a'.repeat(10_240) },
      { principals: ['deploy'], extensions: ['permit-everything'] },
      { principals: ['deploy'], extensions: ['permit-pty', 'permit-pty'] },
      { principals: ['deploy'], extensions: ['force-command'] },
      { principals: ['deploy'], critical_options: { 'verify-required': '' } },
    ],
    secretsOf: ({ fields }) => String(fields.private_key).split('\n').slice(1, -2),
    log: () => sshd.log(),
    stop: async () => {
      await sshd.stop()
      await stopRegister()
    },
  }
}

const NO_ADDRESS = 'certificates are signed in this process: there is no upstream to reach, only hosts that fetch a list'
contract('ssh-ca', start, {
  'after its expiry it does not work': 'revocation is deny-policy; that sshd refuses an expired certificate is shown in ssh-ca.test.ts',
  'what cannot be taken back is not called revoked': 'revocation is deny-policy: every certificate can be put on the list',
  'a session opened before the revoke is cut':
    'sshd looks at a certificate when a session is opened, and the provider says so (cutsSessions is false)',
  "the upstream's own expiry is set": 'revocation is deny-policy; the end that is written into the certificate is read in ssh-ca.test.ts',
  'renew extends it, and revives nothing': 'a signed certificate cannot be extended: renewing mints a successor',
  'a handle that only the mint knows is not guessed, and its blind window is told': 'the key id is derived from the lease before the mint',
  'list finds exactly what this instance made': 'nothing is kept of a certificate that was not revoked',
  'verify tells dead from alive': 'a certificate is known only to who holds it: the broker kept none that it could try',
  'a mint that lost its answer leaves nothing after revoke': NO_ADDRESS,
  'a mint that arrives after its end makes nothing': NO_ADDRESS,
  'an unreachable upstream is an error inside the deadline': NO_ADDRESS,
  'an upstream that takes the connection and says nothing is a timeout inside the deadline': NO_ADDRESS,
  'half an answer is an error inside the deadline': NO_ADDRESS,
  'a throttling upstream is told apart': NO_ADDRESS,
})
