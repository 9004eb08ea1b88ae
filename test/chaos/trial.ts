import { Redis } from 'ioredis'
import { createLocalJWKSet, jwtVerify } from 'jose'
import pg from 'pg'
import { type History, now, type Trial } from './history.js'
import type { Credential } from './holdings.js'
import type { Stage } from './stage.js'

const PATIENCE_MS = 5_000
/** https://www.postgresql.org/docs/current/errcodes-appendix.html: no such login, or not with this password. */
const PG_REFUSALS = ['28P01', '28000']

/** Tries credentials as whoever holds them would: at the upstream itself, past every proxy. */
export async function tryOut(stage: Stage, history: History, credential: Credential, phase?: Trial['phase']): Promise<Trial> {
  const from = now()
  const result = await RESULTS[credential.provider](stage, credential.env).catch(() => 'unknown' as const)
  const trial = { lease: credential.lease, from, until: now(), result, phase }
  history.tried(trial)
  return trial
}

type Look = (stage: Stage, env: Readonly<Record<string, string>>) => Promise<Trial['result']>

const RESULTS: Readonly<Record<Credential['provider'], Look>> = {
  async warehouse({ postgres }, { PGUSER: user, PGPASSWORD: password, PGDATABASE: database }) {
    const client = new pg.Client({ host: postgres.host, port: postgres.port, user, password, database, connectionTimeoutMillis: PATIENCE_MS })
    client.on('error', () => undefined)
    try {
      await client.connect()
      await client.query('SELECT 1')
      return 'works'
    } catch (error) {
      return error instanceof Error && 'code' in error && PG_REFUSALS.includes(String(error.code)) ? 'refused' : 'unknown'
    } finally {
      await client.end().catch(() => undefined)
    }
  },

  async cache({ cache }, { REDIS_USERNAME: username, REDIS_PASSWORD: password }) {
    const client = new Redis({
      ...{ path: cache.socketPath, username, password, protocol: 2 as const, lazyConnect: true, connectTimeout: PATIENCE_MS },
      ...{ enableReadyCheck: false, disableClientInfo: true, maxRetriesPerRequest: 0, retryStrategy: () => null, commandTimeout: PATIENCE_MS },
    })
    let said = ''
    client.on('error', (error) => {
      said = error.message
    })
    try {
      await client.connect()
      await client.get('reports:none')
      return 'works'
    } catch (error) {
      return /WRONGPASS|NOAUTH/.test(`${said} ${error instanceof Error ? error.message : ''}`) ? 'refused' : 'unknown'
    } finally {
      client.disconnect()
    }
  },

  async tokens(stage, { MAYFLY_JWT: token = '' }) {
    const bearer = await stage.token('reports-api')
    const urls = stage.brokers.filter((broker) => !broker.isPaused()).flatMap((broker) => broker.url() ?? [])
    for (const url of urls) {
      const answer = await fetch(`${url}/oauth2/introspect`, {
        method: 'POST',
        headers: { authorization: `Bearer ${bearer}`, 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ token }).toString(),
        signal: AbortSignal.timeout(PATIENCE_MS),
      }).catch(() => undefined)
      if (answer?.status !== 200) continue
      const said: unknown = await answer.json()
      return typeof said === 'object' && said !== null && 'active' in said && said.active === true ? 'works' : 'refused'
    }
    return 'unknown'
  },

  async signed({ signing }, { MAYFLY_JWT: token = '' }) {
    const keys = JSON.parse(signing) as { keys: Record<string, unknown>[] }
    const shown = { keys: keys.keys.map(({ d, ...key }) => key) } as Parameters<typeof createLocalJWKSet>[0]
    return jwtVerify(token, createLocalJWKSet(shown)).then(
      () => 'works',
      () => 'refused',
    )
  },
}
