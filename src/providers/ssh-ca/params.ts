import ipaddr from 'ipaddr.js'
import { z } from 'zod'
import type { Scope, ScopeKind } from '../../types.js'
import { ProviderError } from '../provider.js'

/** No comma and no white space: files of principals, and tools that print them, would take one for two. */
const principal = z
  .string()
  .regex(/^[A-Za-z0-9_][A-Za-z0-9_.@:/+-]{0,127}$/, 'must be a name of letters, digits and _.@:/+-, not longer than 128 characters')
const network = z
  .string()
  .max(64)
  .refine((text) => networkOf(text) !== undefined, 'must be an address or a network as 10.0.0.0/8 or 2001:db8::/32, with no bits beyond its prefix')

/** https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.certkeys */
const EXTENSIONS = ['permit-X11-forwarding', 'permit-agent-forwarding', 'permit-port-forwarding', 'permit-pty', 'permit-user-rc'] as const

/** sshd reads no more than 256 principals: SSHKEY_CERT_MAX_PRINCIPALS. */
const MOST_PRINCIPALS = 256
const MOST_NETWORKS = 64

export const params = z.strictObject({
  /** Never empty: OpenSSH took a certificate that names nobody for one that is good for everybody. */
  principals: z.array(principal).min(1).max(MOST_PRINCIPALS).refine(isSet, 'names one twice'),
  source_addresses: z.array(network).min(1).max(MOST_NETWORKS).refine(isSet, 'names one twice').optional(),
  /** Run in place of whatever is asked for, by the user's shell. */
  force_command: z
    .string()
    .min(1)
    .max(4096)
    .refine((text) => text.isWellFormed() && !text.includes('\0'), 'must be text without NUL')
    .optional(),
  extensions: z.array(z.enum(EXTENSIONS)).refine(isSet, 'names one twice').default([]),
})
export type Params = z.infer<typeof params>

export function roleProblems(scope: Readonly<Record<string, ScopeKind>>): string[] {
  return Object.entries(scope)
    .filter(([key, kind]) => !['principals', 'source_addresses'].includes(key) || kind !== 'set')
    .map(([key, kind]) => `scope.${key}: ${kind} narrows nothing here; an ssh-ca role may have scope {principals: set, source_addresses: set}`)
}

/** What is left of the role under this scope. @throws ProviderError `invalid` */
export function narrow(role: Params, { principals, source_addresses: addresses, ...others }: Scope): Params {
  const [unknown] = Object.keys(others)
  if (unknown !== undefined) throw new ProviderError('invalid', 'an ssh-ca role is narrowed by "principals" and "source_addresses" alone')
  return {
    ...role,
    ...(principals !== undefined && { principals: narrowedPrincipals(role.principals, principals) }),
    ...(addresses !== undefined && { source_addresses: narrowedNetworks(role.source_addresses, addresses) }),
  }
}

function narrowedPrincipals(allowed: readonly string[], asked: string | readonly string[]): string[] {
  const list = params.shape.principals.safeParse(asked)
  if (!list.success || list.data.some((one) => !allowed.includes(one)))
    throw new ProviderError('invalid', 'scope.principals must be a list of some of the principals that the role names')
  return list.data
}

/** Each within one of the role's; a role that names none may be used from everywhere, so that any narrows. */
function narrowedNetworks(allowed: readonly string[] | undefined, asked: string | readonly string[]): string[] {
  const list = params.shape.source_addresses.unwrap().safeParse(asked)
  if (!list.success || list.data.some((one) => allowed?.some((outer) => contains(outer, one)) === false))
    throw new ProviderError('invalid', 'scope.source_addresses must be a list of networks inside those of the role')
  return list.data
}

type Network = readonly [ipaddr.IPv4 | ipaddr.IPv6, number]

/** Only what sshd takes, and means the same to it: it refuses bits beyond the prefix, and knows no zones, no octal and no short forms. */
function networkOf(text: string): Network | undefined {
  const [address = '', prefix, more] = text.split('/')
  const isAddress =
    ipaddr.IPv4.isValidFourPartDecimal(address) || (address.includes(':') && /^[0-9a-fA-F:]+$/.test(address) && ipaddr.isValid(address))
  if (!isAddress || more !== undefined || /(^|\.)0\d/.test(address)) return undefined
  const parsed = ipaddr.parse(address)
  const bits = parsed.kind() === 'ipv4' ? 32 : 128
  if (prefix === undefined) return [parsed, bits]
  if (!/^(0|[1-9]\d{0,2})$/.test(prefix) || Number(prefix) > bits) return undefined
  const first = parsed.kind() === 'ipv4' ? ipaddr.IPv4.networkAddressFromCIDR(text) : ipaddr.IPv6.networkAddressFromCIDR(text)
  return first.toString() === parsed.toString() ? [parsed, Number(prefix)] : undefined
}

function contains(outer: string, inner: string): boolean {
  const [a, b] = [networkOf(outer), networkOf(inner)]
  if (a === undefined || b === undefined || a[0].kind() !== b[0].kind()) return false
  return b[1] >= a[1] && b[0].match(a[0], a[1])
}

function isSet(list: readonly string[]): boolean {
  return new Set(list).size === list.length
}
