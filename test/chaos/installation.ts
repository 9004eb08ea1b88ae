/** What every broker of a run is configured with, and what those who work with it know of it. */
export const INSTANCE = 'chaos'
export const PARTITIONS = 8
export const WORKERS = 12
export const ROLES = ['warehouse-read', 'cache-read', 'api-token', 'api-signed'] as const
export const PROVIDER_OF: Readonly<Record<string, string>> = {
  'warehouse-read': 'warehouse',
  'cache-read': 'cache',
  'api-token': 'tokens',
  'api-signed': 'signed',
}
