import { z } from 'zod'
import type { Scope, ScopeKind } from '../../types.js'
import { type LeasePlan, ProviderError } from '../provider.js'

/** What a certificate says that its holder is. */
export interface Names {
  readonly commonName: string
  readonly dns: readonly string[]
  readonly uris: readonly string[]
}

/** What may stand for a part of a name: who asks, for what, or what the request names as `path`. */
const PLACEHOLDERS = ['agent', 'task', 'lease', 'role', 'path'] as const
type Placeholder = (typeof PLACEHOLDERS)[number]
const PLACEHOLDER = /\{(?<name>[a-z]+)\}/g

const LABEL = /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/
/** As of a path of a SPIFFE ID: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md §2.2 */
const SEGMENT = /^(?!\.{1,2}$)[A-Za-z0-9._-]+$/
const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/
/** All of a URI that only the role may say. */
const BEFORE_PATH = /^(?:[a-z][a-z0-9+.-]*:\/\/[a-z0-9._:-]+\/|urn:[a-z0-9-]+:)/
const LONGEST_URI = 2048
/** RFC 5280, appendix A: ub-common-name. */
const LONGEST_COMMON_NAME = 64
const COMMON_NAME = /^[A-Za-z0-9][A-Za-z0-9 ._@:/-]*$/

const template = (text: z.ZodString, isName: (filled: string) => boolean, what: string) =>
  text.refine((one) => placeholdersOf(one) !== undefined && isName(one.replaceAll(PLACEHOLDER, 'x')), what)

const commonName = template(
  z.string().max(256),
  (text) => COMMON_NAME.test(text) && text.length <= LONGEST_COMMON_NAME,
  'must be a name of letters, digits, spaces and ._@:/-, which may hold {agent}, {task}, {lease} or {role}',
).refine((text) => !text.includes('{path}') && areApart(text), 'may not hold {path}, nor two placeholders without one of "/: @" between them')
const dnsName = z.string().refine(isDnsName, 'must be a DNS name in lower case, without wildcards')
const uri = template(
  z.string().max(LONGEST_URI),
  isUri,
  'must be a URI as spiffe://domain/path, https://host/path or urn:name:…, of letters, digits and ._~:/@+-, whose path may hold {agent}, {task}, {lease}, {role} or {path}',
).refine(isUnambiguous, 'may hold placeholders in its path alone, with "/" or ":" between two, and {path} at its end')

const MOST_NAMES = 32
export const params = z.strictObject({
  /** Absent: the name of the lease. */
  common_name: commonName.optional(),
  dns: z.array(dnsName).max(MOST_NAMES).refine(isSet, 'names one twice').default([]),
  uris: z.array(uri).max(MOST_NAMES).refine(isSet, 'names one twice').default([]),
})
export type Params = z.infer<typeof params>

const KINDS: Readonly<Record<string, ScopeKind>> = { dns: 'set', uris: 'set', path: 'path' }

export function roleProblems({ common_name, dns, uris }: Params, scope: Readonly<Record<string, ScopeKind>>): string[] {
  const takesPath = uris.some((one) => one.includes('{path}'))
  const spiffe = uris.filter(isSpiffe)
  return [
    ...(common_name === undefined && dns.length + uris.length === 0 ? ['params: name at least one of common_name, dns and uris'] : []),
    ...(takesPath && scope.path !== 'path' ? ['params.uris: {path} is filled by the request: the role needs scope {path: path}'] : []),
    ...(!takesPath && scope.path === 'path' ? ['scope.path: no URI of the role has {path}'] : []),
    ...(spiffe.length > 0 && uris.length > 1 && scope.uris !== 'set'
      ? ['params.uris: a certificate with a SPIFFE ID has no other URI: name one, or let requests choose by scope {uris: set}']
      : []),
    ...Object.entries(scope)
      .filter(([key, kind]) => !Object.hasOwn(KINDS, key) || KINDS[key] !== kind)
      .map(([key, kind]) => `scope.${key}: ${kind} narrows nothing here; an x509-ca role may have scope {dns: set, uris: set, path: path}`),
  ]
}

/** What is left of the role's names under the lease's scope, filled in. @throws ProviderError `invalid` */
export function namesOf(role: Params, lease: LeasePlan, leaseName: string): Names {
  const { dns, uris, path, ...others } = lease.scope
  if (Object.keys(others).length > 0) throw new ProviderError('invalid', 'an x509-ca role is narrowed by "dns", "uris" and "path" alone')
  const templates = uris === undefined ? role.uris : chosen('uris', role.uris, uris)
  if (path !== undefined && !templates.some((one) => one.includes('{path}')))
    throw new ProviderError('invalid', 'scope.path: none of the URIs of this certificate has a {path}')
  const values: Record<Placeholder, Scope[string] | undefined> = { agent: lease.agent, task: lease.task, lease: leaseName, role: lease.role, path }
  const names = {
    commonName: filled(role.common_name ?? '{lease}', values),
    dns: dns === undefined ? role.dns : chosen('dns', role.dns, dns),
    uris: templates.map((one) => filled(one, values)),
  }
  if (names.commonName.length > LONGEST_COMMON_NAME) throw new ProviderError('invalid', 'the common name is longer than 64 characters')
  if (names.uris.some((one) => one.length > LONGEST_URI)) throw new ProviderError('invalid', `a URI is longer than ${LONGEST_URI} characters`)
  // SPIFFE X509-SVID §2: exactly one URI.
  if (names.uris.length > 1 && names.uris.some(isSpiffe))
    throw new ProviderError('invalid', 'a certificate with a SPIFFE ID has no other URI: name one as scope.uris')
  return names
}

function chosen(key: string, allowed: readonly string[], asked: string | readonly string[]): readonly string[] {
  if (typeof asked === 'string' || asked.length === 0 || !isSet(asked) || asked.some((one) => !allowed.includes(one)))
    throw new ProviderError('invalid', `scope.${key} must be a list of some of those that the role names, as they are written there`)
  return asked
}

/**
 * The template with its placeholders filled. Several segments may stand at its end alone: elsewhere two different agents could come to the same
 * name, each with a path of its choice.
 */
function filled(template: string, values: Readonly<Record<Placeholder, Scope[string] | undefined>>): string {
  return template.replaceAll(PLACEHOLDER, (whole: string, name: Placeholder, at: number) => {
    const value = values[name]
    const segments = typeof value === 'string' && value.length <= LONGEST_URI ? value.split('/') : []
    const isLast = at + whole.length === template.length
    if (segments.length === 0 || (segments.length > 1 && !isLast) || !segments.every((segment) => SEGMENT.test(segment)))
      throw new ProviderError(
        'invalid',
        `{${name}} must be of letters, digits and ._-, ${isLast ? 'with "/" between them' : 'without "/" where it is not at the end'}`,
      )
    return segments.join('/')
  })
}

function placeholdersOf(text: string): string[] | undefined {
  const names = [...text.matchAll(PLACEHOLDER)].map(([, name = '']) => name)
  const isKnown = names.every((name) => PLACEHOLDERS.some((one) => one === name))
  return isKnown && !/[{}]/.test(text.replaceAll(PLACEHOLDER, '')) ? names : undefined
}

function isUri(text: string): boolean {
  if (!/^[A-Za-z0-9._~:/@+-]+$/.test(text) || !BEFORE_PATH.test(text) || !URL.canParse(text)) return false
  if (!isSpiffe(text)) return true
  const { domain = '', path = '' } = /^spiffe:\/\/(?<domain>[^/]*)\/(?<path>.*)$/.exec(text)?.groups ?? {}
  return TRUST_DOMAIN.test(domain) && path.split('/').every((segment) => SEGMENT.test(segment))
}

/** No two fillings are the same name: between placeholders is what no value holds, and what may hold "/" is at the end. */
function isUnambiguous(template: string): boolean {
  const path = BEFORE_PATH.exec(template)?.[0].length ?? Number.POSITIVE_INFINITY
  const places = [...template.matchAll(PLACEHOLDER)]
  return (
    areApart(template) &&
    path < Number.POSITIVE_INFINITY &&
    places.every(({ index, 0: whole }) => index >= path && (whole !== '{path}' || template.endsWith(whole)))
  )
}

function areApart(template: string): boolean {
  return !/\}[^/: @]*\{/.test(template)
}

function isSpiffe(text: string): boolean {
  return text.startsWith('spiffe:')
}

function isDnsName(text: string): boolean {
  const labels = text.split('.')
  return text.length <= 253 && labels.every((label) => LABEL.test(label)) && !/^\d+$/.test(labels.at(-1) ?? '')
}

function isSet(list: readonly string[]): boolean {
  return new Set(list).size === list.length
}
