import { ProviderError } from './provider.js'

const LEASE_ID = /^lease_(?<rest>[0-9]{2}[a-z0-9]{16,32})$/
const INSTANCE = /^[a-z0-9-]{1,20}$/

/**
 * `mf-<instance>-<lease without its "lease_">`: 3 + 20 + 1 + 34 characters at most, within the 63 bytes of PostgreSQL and the 64 of AWS.
 * No lease id holds a dash, so one instance's names are never taken for those of another whose name begins alike.
 */
export function upstreamName(instance: string, lease: string): string {
  if (!INSTANCE.test(instance)) throw new ProviderError('invalid', 'the instance name must be 1 to 20 characters of a-z, 0-9 and -')
  const rest = LEASE_ID.exec(lease)?.groups?.rest
  if (rest === undefined) throw new ProviderError('invalid', 'this is not a lease id')
  return `${namePrefix(instance)}${rest}`
}

export function namePrefix(instance: string): string {
  return `mf-${instance}-`
}

/** The lease id in a name that this instance made; `undefined` for every other name. */
export function leaseOfName(instance: string, name: string): string | undefined {
  const prefix = namePrefix(instance)
  if (!name.startsWith(prefix)) return undefined
  const lease = `lease_${name.slice(prefix.length)}`
  return LEASE_ID.test(lease) ? lease : undefined
}
