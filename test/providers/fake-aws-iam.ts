import { type Fields, type Model, Refusal, refusal } from './fake-aws-model.js'
import { FakeCannot, Malformed, parsePolicy, type Statement } from './fake-aws-policy.js'

/**
 * Part of a FAKE of AWS: the inline policies of roles. What is written is in force `propagationMs` later and read `readLagMs` later, since
 * IAM is eventually consistent: https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot.html#troubleshoot_general_eventual-consistency
 */
export interface FakeRole {
  /** Identity policy of the role, JSON: a managed one, which counts for no inline limit. */
  readonly policy: string
  readonly maxSessionSeconds?: number
  readonly externalId?: string
  /** Inline policies that are there already, by name. */
  readonly inline?: Readonly<Record<string, string>>
  /** ARN and text of its permissions boundary. */
  readonly boundary?: { readonly arn: string; readonly policy: string }
}
export interface Delays {
  propagationMs: number
  readLagMs: number
}
interface Change {
  readonly at: number
  readonly policies: ReadonlyMap<string, string>
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html */
const MAX_INLINE_CHARACTERS = 10_240
const PAGE = 100

export class InlinePolicies {
  readonly #arn: string
  readonly #changes: Change[]
  readonly #delays: Delays

  constructor(arn: string, { inline = {} }: FakeRole, delays: Delays) {
    this.#arn = arn
    this.#changes = [{ at: Number.NEGATIVE_INFINITY, policies: new Map(Object.entries(inline)) }]
    this.#delays = delays
  }

  /** As everybody will see them at last. */
  get latest(): ReadonlyMap<string, string> {
    return this.#changes.at(-1)?.policies ?? new Map()
  }

  inForce(at: number): Statement[] {
    return [...this.#asOf(at - this.#delays.propagationMs).values()].flatMap(parsePolicy)
  }

  answer(model: Model, action: string, fields: Fields, at: number): string {
    const [role, name, text] = [String(fields.RoleName), String(fields.PolicyName), String(fields.PolicyDocument)]
    const seen = this.#asOf(at - this.#delays.readLagMs)
    const absent = () => refusal(model, action, 'NoSuchEntity', `The role policy with name ${name} cannot be found.`)
    if (action === 'ListRolePolicies') return listed([...seen.keys()], fields)
    if (action === 'GetRolePolicy') {
      const document = seen.get(name)
      if (document === undefined) throw absent()
      return `${element('RoleName', role)}${element('PolicyName', name)}${element('PolicyDocument', encoded(document))}`
    }
    if (this.#arn.includes(':role/aws-service-role/'))
      throw refusal(model, action, 'UnmodifiableEntity', `Cannot perform the operation on the protected role '${role}'`)
    const policies = new Map(this.latest)
    if (action === 'DeleteRolePolicy') {
      if (!policies.delete(name)) throw absent()
    } else {
      try {
        parsePolicy(text)
      } catch (error) {
        if (!(error instanceof Malformed)) throw error
        throw refusal(model, action, 'MalformedPolicyDocument', error.message)
      }
      policies.set(name, text)
      const size = [...policies.values()].reduce((sum, one) => sum + one.replace(/\s/g, '').length, 0)
      if (size > MAX_INLINE_CHARACTERS)
        throw refusal(model, action, 'LimitExceeded', `Maximum policy size of ${MAX_INLINE_CHARACTERS} bytes exceeded for role ${role}`)
    }
    this.#changes.push({ at, policies })
    return ''
  }

  #asOf(at: number): ReadonlyMap<string, string> {
    return this.#changes.findLast((one) => one.at <= at)?.policies ?? new Map()
  }
}

export function roleOf(roles: ReadonlyMap<string, InlinePolicies>, model: Model, action: string, fields: Fields): [string, InlinePolicies] {
  const found = [...roles].find(([arn]) => arn.slice(arn.lastIndexOf('/') + 1) === fields.RoleName)
  if (found === undefined) throw refusal(model, action, 'NoSuchEntity', `The role with name ${fields.RoleName} cannot be found.`)
  return found
}

/** What this fake cannot evaluate is its own trouble, and not to be taken for an answer of AWS. */
export function asRefusal(error: unknown): Refusal {
  if (error instanceof Refusal) return error
  if (error instanceof FakeCannot) return new Refusal('FakeCannot', error.message, 501)
  throw error
}

function listed(names: readonly string[], { Marker = '0', MaxItems = PAGE }: Fields): string {
  const from = Number(Marker)
  const to = from + Number(MaxItems)
  const isTruncated = to < names.length
  const members = names.slice(from, to).map((name) => element('member', name))
  return `<PolicyNames>${members.join('')}</PolicyNames>${element('IsTruncated', String(isTruncated))}${isTruncated ? element('Marker', String(to)) : ''}`
}

/** RFC 3986. */
function encoded(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
}

export function element(name: string, value: string): string {
  const escaped = value.replace(/[<>&'"]/g, (character) => `&#${character.charCodeAt(0)};`)
  return `<${name}>${escaped}</${name}>`
}
