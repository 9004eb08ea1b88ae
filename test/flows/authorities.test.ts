import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Credential } from '../../src/providers/provider.js'
import { newKeys, type Sshd, startSshd } from '../providers/sshd.js'
import { newAuthority, startTlsServer, type TlsServer } from '../providers/tls-server.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

let redis: TestRedis
let test: TestBroker
let sshd: Sshd
let relying: TlsServer
beforeAll(async () => {
  redis = await startRedis()
  const [keys = ''] = await newKeys([])
  const { certificate, key } = await newAuthority()
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    env: { SSH_KEYS: keys, CA_CERTIFICATES: certificate, CA_KEYS: key },
    providers: `
  hosts: {type: ssh-ca, keys: env:SSH_KEYS, refresh: 1s}
  agents: {type: x509-ca, certificates: env:CA_CERTIFICATES, keys: env:CA_KEYS, refresh: 1s}`,
    roles: `
  web-deploy: {provider: hosts, access: read, sensitivity: internal, max_ttl: 5m, scope: {principals: set}, params: {principals: [deploy, audit]}}
  exports: {provider: agents, access: read, sensitivity: internal, max_ttl: 5m, scope: {path: path}, params: {uris: ["spiffe://acme.example/{agent}/{path}"]}}`,
  })
  sshd = await startSshd({ trusted: String(await fetched('hosts/ca.pub')), principals: ['deploy', 'audit'], krl: await fetched('hosts/krl') })
  relying = await startTlsServer({ ca: String(await fetched('agents/ca.pem')), crl: String(await fetched('agents/crl.pem')) })
})
afterAll(async () => {
  await relying?.stop()
  await sshd?.stop()
  await test?.stop()
  await redis?.stop()
})

/** As a host or a relying party does: without a token. */
async function fetched(document: string): Promise<Buffer> {
  const answer = await fetch(`${test.url}/v1/providers/${document}`)
  expect(answer.status).toBe(200)
  return Buffer.from(await answer.arrayBuffer())
}
async function obtain(task: string, role: string, scope: object): Promise<Credential> {
  const { status, body } = await test.call('POST', '/v1/leases', await test.token('triage'), { task, role, scope })
  expect({ status, body: status === 201 ? undefined : body }).toEqual({ status: 201, body: undefined })
  return body.credential
}

describe('certificates of a task', () => {
  it('work until it ends; then hosts and relying parties that fetch the lists refuse them, and take those of another task', async () => {
    const envelope = [{ role: 'web-deploy' }, { role: 'exports' }]
    const [ends, goesOn] = [await test.openTask({ envelope }), await test.openTask({ envelope })]
    const obtained = async (task: string) => ({
      ssh: await obtain(task, 'web-deploy', { principals: ['audit'] }),
      tls: await obtain(task, 'exports', { path: 'daily' }),
    })
    const [gone, stays] = [await obtained(ends), await obtained(goesOn)]
    const works = async ({ ssh, tls }: { ssh: Credential; tls: Credential }) => [
      (await sshd.run(ssh, 'true')).code === 0,
      (await relying.greets(tls))?.names,
    ]
    expect([await works(gone), await works(stays)]).toEqual(Array(2).fill([true, 'URI:spiffe://acme.example/triage/daily']))

    const { status } = await test.call('POST', `/v1/tasks/${ends}/complete?wait=10`, await test.token('flows'), {})
    expect(status).toBe(200)
    await waitFor('both lists', async () => {
      await sshd.revokedAre(await fetched('hosts/krl'))
      relying.reload({ ca: String(await fetched('agents/ca.pem')), crl: String(await fetched('agents/crl.pem')) })
      return (await works(gone)).every((one) => !one)
    })
    expect(await works(stays)).toEqual([true, 'URI:spiffe://acme.example/triage/daily'])
    expect(relying.refusals.at(-1)).toContain('CERT_REVOKED')
    expect(sshd.log()).toContain(`revoked by file ${sshd.krlFile}`)
    for (const secret of [gone.ssh.env.SSH_PRIVATE_KEY, gone.tls.env.TLS_CLIENT_KEY])
      for (const line of String(secret ?? '')
        .split('\n')
        .slice(2, -2))
        expect(test.logs.join('\n')).not.toContain(line)
  })
})
