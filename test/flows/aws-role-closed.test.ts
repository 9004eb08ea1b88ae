import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { BUCKET, ROLE, startAws } from '../providers/aws-upstream.js'
import type { FakeAws } from '../providers/fake-aws.js'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { startRedis, type TestRedis } from '../support/redis.js'
import { waitFor } from '../support/wait.js'

/** An upstream that can only withdraw one together with others: an AWS role (a fake) whose policy has no room for another revocation. */
let aws: FakeAws
let redis: TestRedis
let test: TestBroker
let agent: string

beforeAll(async () => {
  ;[aws, redis] = await Promise.all([startAws(), startRedis()])
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    providers: `  cloud: {type: aws-sts, region: eu-central-1, endpoint: "${aws.endpoint}", iam_endpoint: "${aws.endpoint}", early_revocation: true, policy_budget: 1000}`,
    roles: `  s3-read: {provider: cloud, access: read, sensitivity: internal, max_ttl: 15m, params: {role_arn: "${ROLE}"}}`,
  })
  agent = await test.token('triage')
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await Promise.all([redis?.stop(), aws?.stop()])
})

const obtain = async () => {
  const task = await test.openTask({ envelope: [{ role: 's3-read' }] })
  const { status, body } = await test.call('POST', '/v1/leases', agent, { task, role: 's3-read' })
  if (status !== 201) throw new Error(JSON.stringify(body))
  const { access_key_id: accessKeyId, secret_access_key: secretAccessKey, session_token: sessionToken } = body.credential
  const usable = () => aws.authorize({ accessKeyId, secretAccessKey, sessionToken }, 's3:GetObject', `${BUCKET}/a`)
  return { task, lease: String(body.lease.id), usable }
}
type Held = Awaited<ReturnType<typeof obtain>>
const release = async ({ lease }: Held) => test.call('DELETE', `/v1/leases/${lease}?wait=20`, agent)
const stateOf = async ({ lease }: Held) => (await test.call('GET', `/v1/leases/${lease}`, agent)).body.lease.state

describe('an AWS role that had to be closed as a whole', () => {
  it('leaves no lease called active whose session is denied, and goes on for those who come again', async () => {
    const bystander = await obtain()
    const held: Held[] = []
    for (let n = 0; n < 45; n++) held.push(await obtain())
    expect(bystander.usable()).toBe(true)
    await Promise.all(held.map(release))
    expect(held.filter(({ usable }) => usable())).toEqual([])
    expect(bystander.usable()).toBe(false)
    await waitFor('the lease that was denied with the others to be revoked', async () => (await stateOf(bystander)) === 'revoked', 20_000)
    await waitFor('it to be told', () => {
      const events = readFileSync(join(test.folder, 'audit/events.jsonl'), 'utf8')
      return events.includes('"provider.told"') && events.includes('aws_role_closed')
    })

    const next = await obtain()
    expect(next.usable()).toBe(true)
    await release(next)
    expect(next.usable()).toBe(false)
  }, 60_000)
})
