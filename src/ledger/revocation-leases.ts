import type { RevocationLease, Verified } from '../types.js'
import { keys, partitionOf } from './keys.js'
import type { Ledger } from './ledger.js'
import { leaseOf } from './records.js'
import { fieldsOf, listOf, textOf } from './reply.js'
import { defineScript } from './script.js'
import type { Store } from './store.js'

const rowsScript = defineScript('revocation-rows', 'rows', ['id', 'from', 'size'])

/** Leases of one page: one step of the ledger's, which all others wait for. */
const PAGE = 500

/** What each emergency matched and what became of it: rows that stand in the order in which they were found, partition by partition. */
export function revocationLeaseCalls(store: Store): Pick<Ledger, 'revocationLeases'> {
  const { partitions } = store.options
  return {
    revocationLeases: async (id, from = '0 0') => {
      const [partition = Number.NaN, index = Number.NaN] = from.split(' ').map(Number)
      if (partitionOf(id, 'revocation', partitions) === undefined) return { leases: [] }
      const reply = listOf(await store.run(rowsScript, keys.rows(partition, id), { id, from: index, size: PAGE }))
      const leases: RevocationLease[] = []
      for (let i = 0; i < reply.length; i += 3) leases.push(rowOf(textOf(reply[i]), textOf(reply[i + 1]), reply[i + 2]))
      if (leases.length === PAGE) return { leases, next: `${partition} ${index + PAGE}` }
      return { leases, next: partition + 1 < partitions ? `${partition + 1} 0` : undefined }
    },
  }
}

function rowOf(row: string, outcome: string, record: unknown): RevocationLease {
  const [lease = '', task = '', agent = '', role = '', provider = ''] = JSON.parse(row) as string[]
  const who = { lease, task, agent, role, provider }
  if (outcome !== '') {
    const [state, at, verified] = outcome.split(' ')
    return { ...who, outcome: state === 'r' ? 'revoked' : 'expired', at: Number(at), verified: (verified || undefined) as Verified | undefined }
  }
  // Its record cannot be gone before it is settled; were it, nothing would be known of it.
  if (record === '') return { ...who, outcome: 'pending' }
  const fields = fieldsOf(record)
  const { attempts, lastError, expiryEndsUse, expiresAt, usableUntil } = leaseOf(lease, fields)
  const verified = (fields.vd || undefined) as 'alive' | undefined
  const until = expiryEndsUse ? (usableUntil ?? expiresAt) : undefined
  return { ...who, outcome: fields.aw === undefined ? 'pending' : 'awaits_expiry', usableUntil: until, attempts, lastError, verified }
}
