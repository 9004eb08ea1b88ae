import { randomUUID } from 'node:crypto'
import type { Redis } from 'ioredis'
import { MayflyError } from '../errors.js'
import { META, MOST_PARTITIONS } from './keys.js'
import { numberOf } from './reply.js'
import { defineScript } from './script.js'

const initScript = defineScript('init', 'meta', ['schema', 'instance', 'partitions', 'ledger', 'quarantine'])

/** Changes when a ledger written before can no longer be read. */
const SCHEMA = 1

export interface MetaOptions {
  /** Name of this installation: part of every name made upstream. */
  readonly instance: string
  /** 1 to 100, fixed for the life of the ledger. */
  readonly partitions: number
}

/** `afterLoss`: the record of the quarantine that it begins in. @returns whether there was none before; either way it is this installation's now, or this throws. */
export async function writeMeta(redis: Redis, { instance, partitions }: MetaOptions, afterLoss?: string): Promise<boolean> {
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > MOST_PARTITIONS)
    throw unusable(`the number of partitions must be 1 to ${MOST_PARTITIONS}`, 'correct it in the configuration of the ledger')
  const created =
    numberOf(await initScript.run(redis, META, { schema: SCHEMA, instance, partitions, ledger: randomUUID(), quarantine: afterLoss ?? '' })) === 1
  await checkMeta(redis, { instance, partitions })
  return created
}

/** Throws unless this Redis holds the ledger of this installation. */
export async function checkMeta(redis: Redis, { instance, partitions }: MetaOptions): Promise<void> {
  const meta = await redis.hgetall(META)
  if (meta.schema === undefined)
    throw unusable(
      'this Redis holds no ledger (mf:meta is missing)',
      'for a first start run `mayfly ledger init`; if there was a ledger, restore it, or where there is nothing to restore run `mayfly ledger init --after-loss`',
    )
  if (meta.schema !== String(SCHEMA))
    throw unusable(`the ledger has schema ${meta.schema}, this version reads ${SCHEMA}`, 'run the version of Mayfly that wrote it')
  if (meta.instance !== instance)
    throw unusable(`the ledger is that of instance "${meta.instance}", the configuration names "${instance}"`, 'correct `instance`, or the address')
  if (meta.partitions !== String(partitions))
    throw unusable(`the ledger has ${meta.partitions} partitions, the configuration says ${partitions}`, 'they are fixed: correct the configuration')
}

function unusable(message: string, next: string): MayflyError {
  return new MayflyError('ledger_unavailable', message, { next })
}
