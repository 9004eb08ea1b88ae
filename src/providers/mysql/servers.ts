import { createHash } from 'node:crypto'
import { z } from 'zod'
import { leaseOfName, namePrefix, upstreamName } from '../name.js'
import { cachingSha2Hash, nativeHash } from './password.js'

/** Where the two servers differ. */
export interface Server {
  /** As it is called in messages. */
  readonly title: string
  readonly oldest: string
  /** From what `VERSION()` says. */
  is(version: string): boolean
  readonly plugin: string
  /** SQL modes of the broker's sessions. */
  readonly sqlMode: string
  readonly privileges: readonly string[]
  /** Columns of `mysql.user` that `list` reads. */
  readonly columns: readonly string[]
  hash(password: string): string
  userOf(instance: string, lease: string): string
  /** What each name of the instance begins with. */
  prefixOf(instance: string): string
  /** JSON that is kept with the account, where the server can. */
  noteOf(note: Readonly<Record<string, unknown>>): string | undefined
  /** The lease of an account that this instance made. */
  leaseOf(instance: string, row: Readonly<Record<string, unknown>>): string | undefined
}

const mariadb: Server = {
  title: 'MariaDB',
  // CONNECTION ADMIN: https://mariadb.com/kb/en/grant/#connection-admin
  oldest: '10.5.2',
  is: (version) => version.includes('MariaDB'),
  plugin: 'mysql_native_password',
  // Otherwise a GRANT to a user that is not there would make one, without a password.
  sqlMode: 'STRICT_ALL_TABLES,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION',
  privileges: ['CREATE USER', 'CONNECTION ADMIN', 'PROCESS'],
  columns: ['User', 'Host'],
  hash: nativeHash,
  // 80 characters and more.
  userOf: upstreamName,
  prefixOf: namePrefix,
  noteOf: () => undefined,
  leaseOf: (instance, { User }) => leaseOfName(instance, String(User)),
}

const NAME_LENGTH = 32
const PREFIX = 'mf-'
const noteShape = z.object({ metadata: z.object({ mayfly: z.string(), lease: z.string() }) })

const mysql: Server = {
  title: 'MySQL',
  // ATTRIBUTE: https://dev.mysql.com/doc/refman/8.4/en/create-user.html
  oldest: '8.0.21',
  is: (version) => !version.includes('MariaDB'),
  plugin: 'caching_sha2_password',
  sqlMode: 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION',
  privileges: ['CREATE USER', 'CONNECTION_ADMIN', 'PROCESS'],
  columns: ['User', 'Host', 'User_attributes'],
  hash: cachingSha2Hash,
  // A user name has 32 characters at most, and a lease id alone has 28: the name is a hash of what it stands for, 145 bits of it, and the
  // account's attribute says which lease that is.
  userOf(instance, lease) {
    const digest = createHash('sha256').update(upstreamName(instance, lease)).digest()
    return `${PREFIX}${base32(digest)}`.slice(0, NAME_LENGTH)
  },
  prefixOf: () => PREFIX,
  noteOf: (note) => JSON.stringify(note),
  leaseOf(instance, { User, User_attributes }) {
    const { data } = noteShape.safeParse(User_attributes)
    if (data === undefined || data.metadata.mayfly !== instance) return undefined
    const lease = leaseOfName(instance, `${namePrefix(instance)}${data.metadata.lease.replace(/^lease_/, '')}`)
    // Only what the broker itself named: an attribute alone proves nothing.
    return lease !== undefined && mysql.userOf(instance, lease) === User ? lease : undefined
  },
}

export const SERVERS = { mariadb, mysql } as const

function base32(bytes: Buffer): string {
  const bits = [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('')
  return (bits.match(/.{5}/g) ?? []).map((five) => '0123456789abcdefghijklmnopqrstuv'[Number.parseInt(five, 2)]).join('')
}
