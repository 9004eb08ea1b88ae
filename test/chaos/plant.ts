import pg from 'pg'
import type { Credential } from './holdings.js'
import { INSTANCE } from './installation.js'
import type { Stage } from './stage.js'
import { tryOut } from './trial.js'
import type { World } from './workload.js'

export const PLANTS = ['live', 'orphan', 'lost', 'falsely_reported'] as const
export type Plant = (typeof PLANTS)[number]

/** Breaks a promise on purpose, on what really runs, once everything has settled: the checker has to find it. */
export async function plant(kind: Plant, world: Pick<World, 'stage' | 'history' | 'holdings'>): Promise<void> {
  const { stage, history, holdings } = world
  const held = holdings.credentials.find(({ provider }) => provider === 'warehouse')
  if (!held) throw new Error('nobody received a credential to plant with')
  switch (kind) {
    case 'live':
      // Its lease waits, so that it is no orphan; and it works.
      await stage.redis.client.hset(keyOf(held.lease), 's', 'c')
      await stage.redis.client.zadd(`${prefixOf(held.lease)}due:warehouse`, Date.now() + 3_600_000, held.lease)
      return makeRole(stage, held)
    case 'orphan':
      return void (await stage.postgres.query(`CREATE ROLE "mf-${INSTANCE}-00${'a'.repeat(26)}" LOGIN`))
    case 'lost':
      // Gone with its index entries, as if a failover had taken it back.
      return void (await stage.redis.client.del(keyOf(held.lease)))
    case 'falsely_reported': {
      // The revocation is told as of before the credential was last seen to work.
      await makeRole(stage, held)
      await tryOut(stage, history, held)
      await stage.postgres.query(`DROP ROLE ${pg.escapeIdentifier(held.env.PGUSER ?? '')}`)
    }
  }
}

function makeRole({ postgres }: Stage, { env }: Credential): Promise<void> {
  const role = pg.escapeIdentifier(env.PGUSER ?? '')
  return postgres.query(`CREATE ROLE ${role} LOGIN PASSWORD ${pg.escapeLiteral(env.PGPASSWORD ?? '')}`).then(() => undefined)
}

function prefixOf(lease: string): string {
  return `mf:{p${lease.slice('lease_'.length, 'lease_'.length + 2)}}:`
}

function keyOf(lease: string): string {
  return `${prefixOf(lease)}lease:${lease}`
}
