import { z } from 'zod'
import type { Scope } from '../../types.js'
import { ProviderError } from '../provider.js'

/** A glob of Redis, without the `~` or `&` that ACL rules put before it, and without what could end a rule. */
const pattern = z
  .string()
  .regex(/^(?![~&%])[^\s\p{C}]{1,256}$/u, 'must be one pattern, without "~" or "&" before it, blanks or control characters')
  .refine((text) => !/^(all(keys|channels)|reset.*)$/i.test(text), 'must be a pattern of names; for all of them write "*"')

/**
 * Commands that reach past any key pattern: other users, other clients, the server itself. Whole categories lose them silently; naming
 * one is a mistake. https://redis.io/docs/latest/operate/oss_and_stack/management/security/acl/#command-categories
 */
const NEVER = new Set(
  'acl config debug module replicaof slaveof replconf failover cluster shutdown monitor sync psync save bgsave bgrewriteaof flushall flushdb swapdb client function script migrate latency slowlog pfdebug pfselftest'.split(
    ' ',
  ),
)
const rule = z
  .string()
  .regex(/^[+-](@[a-z]+|[a-z][a-z0-9.-]{0,63}(\|[a-z0-9-]{1,64})?)$/, 'must be a rule as "+@read", "+get", "-set" or "+client|setname"')
  .refine((text) => !['+@all', '+@admin', '+@dangerous'].includes(text), 'would allow more than data: name the commands')
  .refine((text) => text.startsWith('-') || text.includes('|') || !NEVER.has(text.slice(1)), 'reaches past the key patterns')
  .refine((text) => !/^\+(acl|config|debug|module|cluster|function|script)\|/.test(text), 'reaches past the key patterns')

export const params = z.strictObject({
  keys: z.array(pattern).max(64).default([]),
  channels: z.array(pattern).max(64).default([]),
  commands: z.array(rule).min(1).max(128),
  /** What stands for the "/" of a scope's path in key names. */
  separator: z
    .string()
    .regex(/^[:/.|#-]$/, 'must be one of : / . | # -')
    .default(':'),
})
export type Params = z.infer<typeof params>

/**
 * The rules of one user, in the order in which Redis applies them. Categories first, then what a category would let through beside the
 * patterns is taken away, then commands by name; administration is taken away last.
 */
export function rulesOf({ commands, keys, channels }: Pick<Params, 'commands' | 'keys' | 'channels'>, passwordHash: string): string[] {
  const isCategory = (text: string) => text[1] === '@'
  return [
    'reset',
    `#${passwordHash}`,
    ...keys.map((glob) => `~${glob}`),
    ...channels.map((glob) => `&${glob}`),
    ...commands.filter(isCategory),
    '-@dangerous',
    // They answer with the names of all keys, whatever the patterns, or take other users' scripts away.
    ...['-scan', '-randomkey', '-script', '-function'],
    ...commands.filter((text) => !isCategory(text)),
    '-@admin',
    'on',
  ]
}

/**
 * What a scope leaves of the role's patterns. A list picks some of them as they are written; a string is a path, and stands for the key of
 * that name and all keys below it, as far as the role's patterns that end in one `*` cover them.
 */
export function narrow({ keys, channels, commands, separator }: Params, scope: Scope): Pick<Params, 'commands' | 'keys' | 'channels'> {
  const { keys: wantedKeys, channels: wantedChannels, ...unknown } = scope
  if (Object.keys(unknown).length > 0) throw new ProviderError('invalid', 'a redis role can be narrowed by "keys" and "channels" only')
  const keysLeft = typeof wantedKeys === 'string' ? below(keys, wantedKeys, separator) : some('keys', keys, wantedKeys)
  if (typeof wantedChannels === 'string') throw new ProviderError('invalid', 'scope "channels" must be a list')
  return { keys: keysLeft, channels: some('channels', channels, wantedChannels), commands }
}

function some(what: string, patterns: readonly string[], wanted: readonly string[] | undefined): string[] {
  if (wanted === undefined) return [...patterns]
  if (wanted.length === 0 || wanted.some((one) => !patterns.includes(one)))
    throw new ProviderError('invalid', `scope "${what}" names a pattern that the role does not have, or none`)
  return patterns.filter((one) => wanted.includes(one))
}

function below(patterns: readonly string[], path: string, separator: string): string[] {
  if (!/^[^\s\p{C}*?[\]\\^]{1,256}$/u.test(path)) throw new ProviderError('invalid', 'scope "keys" must be a path without wildcards or blanks')
  const key = path.replace(/\/+$/, '').replaceAll('/', separator)
  const left = [key, `${key}${separator}*`].filter((one) => patterns.some((whole) => covers(whole, one)))
  if (left.length === 0) throw new ProviderError('invalid', 'scope "keys" lies outside the patterns of the role')
  return left
}

/** True only where it is certain: for patterns without wildcards, or with a single `*` at their end. */
function covers(whole: string, part: string): boolean {
  if (whole === part) return true
  const prefix = whole.slice(0, -1)
  return whole.endsWith('*') && !/[*?[\]\\^]/.test(prefix) && part.startsWith(prefix)
}
