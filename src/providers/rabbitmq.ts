import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { z } from 'zod'
import { type Deadline, deadline } from './deadline.js'
import { leaseOfName, upstreamName } from './name.js'
import { type Credential, type Provider, type ProviderContext, ProviderError, type ProviderModule } from './provider.js'
import { type Answer, type Api, openApi } from './rabbitmq/api.js'
import { narrow, type Params, params, regexOf } from './rabbitmq/names.js'

const options = z.strictObject({
  /** The management API, with the broker's own user and password. */
  url: z.string().refine(isApi, 'must be a url as https://user:password@rabbit.internal:15671'),
  /** PEM of the authority that signed the management API's certificate, if it is none that the system knows. */
  ca: z.string().includes('-----BEGIN CERTIFICATE-----', { message: 'must be a PEM certificate' }).optional(),
  /** Where agents reach the messages themselves. */
  amqp_url: z.string().refine(isAmqp, 'must be a url as amqps://rabbit.internal:5671, without a user'),
})
type Options = z.infer<typeof options>

const handleShape = z.object({ user: z.string().min(1) })
const named = z.array(z.object({ name: z.string() }))

const PASSWORD_BYTES = 32
const SALT_BYTES = 4
const ATTEMPTS = 3
/** Connections that end take some milliseconds. */
const LOOK_AGAIN_MS = 5
const DOCS = 'see docs/providers/rabbitmq.md'

/** A user with the role's permissions for one lease. `docs/providers/rabbitmq.md`. */
export const rabbitmq: ProviderModule<Options, Params> = {
  type: 'rabbitmq',
  options,
  params,
  secrets: ['url'],
  checkRole: ({ configure, write, read }, scope) => [
    ...(configure.length + write.length + read.length === 0 ? ['params: name what it may configure, write or read; all of it is "*"'] : []),
    ...Object.entries(scope)
      .filter(([key, kind]) => !(key === 'names' && kind !== 'equal') && !(key === 'permissions' && kind === 'set'))
      .map(([key, kind]) => `scope.${key}: ${kind} narrows nothing here; a rabbitmq role may have scope {names: path or set, permissions: set}`),
  ],
  target: ({ url }) => new URL(url).host,

  async open(options, context) {
    const api = () => openApi({ ...options, connections: context.concurrency, timeoutMs: context.timeoutMs })
    // Apart, so that revoking never waits for minting.
    return provider(options, context, await api(), await api())
  },
}

function provider(options: Options, { instance, timeoutMs, now = Date.now }: ProviderContext, minting: Api, revoking: Api): Provider<Params> {
  return {
    type: 'rabbitmq',
    revocation: 'immediate',
    residualSeconds: 0,
    inProcess: false,
    handle: 'planned',
    cutsSessions: true,
    sensitiveHandle: false,
    // Users of RabbitMQ have no expiry.
    expiryEndsUse: false,

    plan: (lease) => ({ user: upstreamName(instance, lease.id) }),

    async mint({ handle, params, lease, until, deadlineMs }) {
      const time = deadline(deadlineMs)
      const { user } = handleShape.parse(handle)
      const { configure, write, read } = narrow(params, lease.scope)
      const password = randomBytes(PASSWORD_BYTES).toString('base64url')
      const put = (path: readonly string[], body: unknown) => {
        if (now() >= until) throw new ProviderError('timeout', 'the time for this mint was over before it was done')
        return minting.ask(time, 'PUT', path, body)
      }
      // In this order nothing late can be used: a user without permissions may do nothing, and RabbitMQ gives none to a user that is gone.
      await put(['users', user], { password_hash: hashOf(password), hashing_algorithm: HASHING, tags: '' })
      try {
        await put(['user-limits', user, 'max-connections'], { value: params.max_connections })
        const permissions = { configure: regexOf(configure), write: regexOf(write), read: regexOf(read) }
        await put(['permissions', params.vhost, user], permissions)
      } catch (error) {
        // What cannot be taken back here is by the revoke.
        await minting.ask(time, 'DELETE', ['users', user]).catch(() => undefined)
        throw error
      }
      return { credential: credentialOf(options, { username: user, password, vhost: params.vhost }) }
    },

    async revoke(handle, deadlineMs) {
      const time = deadline(deadlineMs)
      const { user } = handleShape.parse(handle)
      const found = await deleteUser(time, user)
      // RabbitMQ closes the connections of a user that is deleted, in order; what is asked to close once more is closed by force.
      while ((await connectionsOf(time, user)).length > 0) {
        // It answers 500 when one of them ends by itself meanwhile; what counts is that none is left.
        await revoking.ask(time, 'DELETE', ['connections', 'username', user]).catch((error: unknown) => {
          if (!isBroken(error)) throw error
        })
        await pause(LOOK_AGAIN_MS)
      }
      return found ? 'revoked' : 'absent'
    },

    async verify(handle, deadlineMs) {
      const time = deadline(deadlineMs)
      const { user } = handleShape.parse(handle)
      const { found } = await revoking.ask(time, 'GET', ['users', user])
      return found || (await connectionsOf(time, user)).length > 0 ? 'alive' : 'dead'
    },

    async *list() {
      const users = namesIn(await revoking.ask(deadline(timeoutMs), 'GET', ['users']))
      for (const user of users) {
        const lease = leaseOfName(instance, user)
        if (lease !== undefined) yield { lease, handle: { user } }
      }
    },

    async check(roles = []) {
      const time = deadline(timeoutMs)
      const { body } = await revoking.ask(time, 'GET', ['whoami'])
      const who = whoShape.safeParse(body).data
      if (who === undefined) throw notTheApi()
      const tags = [who.tags].flat().flatMap((tag) => tag.split(','))
      const wrong = tags.includes('administrator') ? [] : ["the broker's user lacks the tag administrator: rabbitmqctl set_user_tags"]
      if (wrong.length === 0) await connectionsOf(time, `mf-${instance}-check`)
      for (const { name, params } of wrong.length === 0 ? roles : [])
        if (!(await revoking.ask(time, 'GET', ['vhosts', params.vhost])).found)
          wrong.push(`role "${name}": there is no virtual host ${JSON.stringify(params.vhost)}`)
      if (wrong.length > 0) throw new ProviderError('refused', `${wrong.join('; ')}; ${DOCS}`)
    },

    async close() {
      await Promise.all([minting.close(), revoking.close()])
    },
  }

  /** RabbitMQ answers 500 to the slower of two who delete a user at once. */
  async function deleteUser(time: Deadline, user: string): Promise<boolean> {
    for (let attempt = 1; ; attempt++) {
      try {
        return (await revoking.ask(time, 'DELETE', ['users', user])).found
      } catch (error) {
        if (!isBroken(error) || attempt === ATTEMPTS) throw error
        if (!(await revoking.ask(time, 'GET', ['users', user])).found) return false
      }
    }
  }

  /** From the broker's own tracking of connections, which knows them at once; not from its statistics. */
  async function connectionsOf(time: Deadline, user: string): Promise<string[]> {
    const answer = await revoking.ask(time, 'GET', ['connections', 'username', user])
    // An older one does not know the question, which must not be taken for "none".
    if (!answer.found) throw new ProviderError('refused', `this RabbitMQ cannot tell the connections of a user: a later one is needed, ${DOCS}`)
    return namesIn(answer)
  }
}

const whoShape = z.object({ tags: z.union([z.string(), z.array(z.string())]) })

function namesIn({ body }: Answer): string[] {
  const { data } = named.safeParse(body)
  if (data === undefined) throw notTheApi()
  return data.map(({ name }) => name)
}

function isBroken(error: unknown): boolean {
  return error instanceof ProviderError && error.kind === 'broken'
}

function notTheApi(): ProviderError {
  return new ProviderError('broken', "this did not answer as RabbitMQ's management API does: check the url")
}

const HASHING = 'rabbit_password_hashing_sha256'
/** https://www.rabbitmq.com/docs/passwords#computing-password-hash: the password itself is never sent to the management API. */
function hashOf(password: string): string {
  const salt = randomBytes(SALT_BYTES)
  return Buffer.concat([salt, createHash('sha256').update(salt).update(password).digest()]).toString('base64')
}

function credentialOf({ amqp_url }: Options, login: { username: string; password: string; vhost: string }): Credential {
  const { protocol, hostname, port: given } = new URL(amqp_url)
  const tls = protocol === 'amqps:'
  const host = hostname.replace(/^\[|\]$/g, '')
  const port = Number(given || (tls ? 5671 : 5672))
  const { username, password, vhost } = login
  const url = `${protocol}//${username}:${password}@${hostname}:${port}/${encodeURIComponent(vhost)}`
  return {
    type: 'rabbitmq',
    fields: { host, port, tls, vhost, username, password, url },
    env: {
      AMQP_URL: url,
      RABBITMQ_HOST: host,
      RABBITMQ_PORT: String(port),
      RABBITMQ_VHOST: vhost,
      RABBITMQ_USERNAME: username,
      RABBITMQ_PASSWORD: password,
    },
  }
}

function isApi(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, username, search, hash } = new URL(text)
  return /^https?:$/.test(protocol) && hostname !== '' && username !== '' && search === '' && hash === ''
}

function isAmqp(text: string): boolean {
  if (!URL.canParse(text)) return false
  const { protocol, hostname, username, password, pathname, search, hash } = new URL(text)
  return /^amqps?:$/.test(protocol) && hostname !== '' && username + password + search + hash === '' && pathname.length <= 1
}
