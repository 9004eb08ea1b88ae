import { z } from 'zod'
import type { Scope } from '../../types.js'
import { ProviderError } from '../provider.js'

/** Names of queues and exchanges, in which "*" stands for anything; 255 bytes at most, as in AMQP. */
const pattern = z
  .string()
  .regex(/^[^\s\p{C}]{1,255}$/u, 'must be the name of a queue or an exchange, in which "*" stands for anything')
  .refine((text) => Buffer.byteLength(text) <= 255, 'must be 255 bytes at most')
const patterns = z.array(pattern).max(64).default([])

export const params = z.strictObject({
  vhost: z
    .string()
    .regex(/^[^\p{C}]{1,255}$/u, 'must be the name of a virtual host')
    // Part of an address, and there these two mean something else, however they are encoded.
    .refine((text) => text !== '.' && text !== '..', 'must be the name of a virtual host')
    .default('/'),
  /** What the holder may declare and delete, write to, and read from: https://www.rabbitmq.com/docs/access-control#authorisation */
  configure: patterns,
  write: patterns,
  read: patterns,
  max_connections: z.int().min(1).max(1000).default(10),
  /** What stands for the "/" of a scope's path in names. */
  separator: z
    .string()
    .regex(/^[.:/|#_-]$/, 'must be one of . : / | # _ -')
    .default('.'),
})
export type Params = z.infer<typeof params>

const OPERATIONS = ['configure', 'write', 'read'] as const
export type Permissions = Readonly<Record<(typeof OPERATIONS)[number], readonly string[]>>

/**
 * A regular expression that matches these names and no other. RabbitMQ looks for a match anywhere in a name, and its "$" also matches
 * before a last line feed: hence \A and \z, around all alternatives.
 */
export function regexOf(names: readonly string[]): string {
  if (names.length === 0) return '^$'
  return `\\A(?:${names.map((name) => name.split('*').map(literal).join('.*')).join('|')})\\z`
}

/** A backslash before what is neither letter, digit nor beyond ASCII makes it stand for itself. */
function literal(text: string): string {
  return text.replace(/[\0-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]/g, '\\$&')
}

/**
 * What a scope leaves of the role's permissions. `names` is a path, which stands for the name that it spells and all names below it, or a
 * list of names and patterns; each must lie within the role's. `permissions` picks among configure, write and read.
 */
export function narrow(params: Params, scope: Scope): Permissions {
  const { names, permissions, ...unknown } = scope
  if (Object.keys(unknown).length > 0) throw new ProviderError('invalid', 'a rabbitmq role can be narrowed by "names" and "permissions" only')
  if (typeof permissions === 'string') throw new ProviderError('invalid', 'scope "permissions" must be a list')
  if (permissions?.some((one) => !OPERATIONS.some((operation) => operation === one && params[operation].length > 0)))
    throw new ProviderError('invalid', 'scope "permissions" names one that the role does not have')
  const wanted = names === undefined ? undefined : typeof names === 'string' ? belowPath(names, params.separator) : names
  const left = (operation: keyof Permissions): readonly string[] => {
    if (permissions !== undefined && !permissions.includes(operation)) return []
    return wanted === undefined ? params[operation] : wanted.filter((name) => params[operation].some((whole) => covers(whole, name)))
  }
  const result = { configure: left('configure'), write: left('write'), read: left('read') }
  const all = OPERATIONS.flatMap((operation) => result[operation])
  const inside = (name: string) =>
    pattern.safeParse(name).success && OPERATIONS.some((operation) => params[operation].some((whole) => covers(whole, name)))
  // Of a path, the name itself may lie outside where all that is below it lies within.
  if (all.length === 0 || (typeof names !== 'string' && wanted?.some((name) => !inside(name))))
    throw new ProviderError('invalid', 'the scope lies outside the names of the role, or leaves none of its permissions')
  return result
}

function belowPath(path: string, separator: string): string[] {
  const name = path.replace(/\/+$/, '').replaceAll('/', separator)
  if (name.includes('*') || !pattern.safeParse(name).success)
    throw new ProviderError('invalid', 'scope "names" must be a path without wildcards or blanks')
  return [name, `${name}${separator}*`]
}

/** True only where it is certain: for equal ones, or a whole with a single "*" at its end. */
function covers(whole: string, part: string): boolean {
  if (whole === part) return true
  const prefix = whole.slice(0, -1)
  return whole.endsWith('*') && !prefix.includes('*') && part.startsWith(prefix)
}
