/**
 * The baseline of `bench issue`: the least that any broker of this design must do. Express parses the same body, one Redis script writes
 * the same bytes, the same signer signs a token of the same claims. No identity, no policy, no validation, no metrics, no logs.
 */
import express from 'express'
import { Redis } from 'ioredis'
import { openSigner, signingKeys } from '../src/signer.js'

const [socketPath = '', keys = '{}', leaseBytes = '0', eventBytes = '0'] = process.argv.slice(2)
const redis = new Redis(socketPath, { enableAutoPipelining: false })
redis.defineCommand('write', {
  numberOfKeys: 1,
  lua: `redis.call('HSET', KEYS[1], 'lease', ARGV[2])
    redis.call('ZADD', '{bare}:due', ARGV[1], KEYS[1])
    redis.call('SADD', '{bare}:live', KEYS[1])
    redis.call('XADD', '{bare}:events', 'MAXLEN', '~', 10000, '*', 'event', ARGV[3])
    return ARGV[1]`,
})
const write = (redis as unknown as { write(key: string, at: number, lease: string, event: string): Promise<string> }).write.bind(redis)
const signer = await openSigner({ issuer: 'https://mayfly.example', keys: signingKeys.parse(JSON.parse(keys)) })
const lease = 'x'.repeat(Number(leaseBytes))
const event = 'x'.repeat(Number(eventBytes))
let made = 0

const app = express()
app.disable('x-powered-by')
app.disable('etag')
app.use(express.json())
app.post('/v1/leases', async (request, response) => {
  const id = `lease_bare_${made++}`
  const iat = Math.floor(Date.now() / 1000)
  await write(`{bare}:lease:${id}`, Date.now() + 300_000, lease, event)
  const claims = {
    sub: 'agent',
    aud: 'https://reports.example',
    iat,
    nbf: iat,
    exp: iat + 300,
    jti: id,
    client_id: 'agent',
    task: request.body.task,
    role: request.body.role,
  }
  const token = await signer.sign(claims, { typ: 'at+jwt' })
  response.status(201).json({ lease: { id, task: request.body.task, role: request.body.role, state: 'active' }, credential: { type: 'jwt', token } })
})
process.once('SIGTERM', () => process.exit(0))
const server = app.listen(0, '127.0.0.1', () => {
  const address = server.address()
  process.stdout.write(`${JSON.stringify({ port: typeof address === 'object' ? address?.port : 0 })}\n`)
})
