import { z } from 'zod'
import type { Scope, ScopeKind } from '../../types.js'
import { jsonText } from '../json-text.js'
import { expand, placeholdersOf } from '../placeholders.js'
import { ProviderError } from '../provider.js'

/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html: `Policy`, plain text. */
export const MAX_POLICY_LENGTH = 2048
/** `*` and `?` are wildcards of IAM, `${…}` its policy variables. */
const UNSAFE_VALUE = /[*?${}\p{C}]/u
const MAX_VALUE_LENGTH = 256
/** Length of an expiry as it will stand in the policy. */
const SOME_TIME = 0

const statement = z.looseObject({
  Effect: z.enum(['Allow', 'Deny']),
  Principal: z.never('a session policy has no Principal').optional(),
  NotPrincipal: z.never('a session policy has no NotPrincipal').optional(),
})
const document = z.strictObject({
  Version: z.literal('2012-10-17'),
  Id: z.string().optional(),
  Statement: z.union([statement.transform((one) => [one]), z.array(statement).min(1)]),
})
/** A policy document, as an object or as its JSON text. */
export const policyDocument = z.union([jsonText.pipe(document), document])
export type PolicyDocument = z.infer<typeof document>

export interface Narrowing {
  /** Absent: whatever the role itself allows. */
  readonly policy?: PolicyDocument
  readonly allowIam: boolean
}
/** Both in ms, and taken down to the second. */
export interface Times {
  readonly expiresAt: number
  /** A session that AWS issues at this time or later may do nothing: STS takes no deadline. */
  readonly mintUntil?: number
}

/**
 * The session policy of one lease, as text: what the role's policy allows for this scope, until `expiresAt`. Sessions of one hour or the
 * 900 seconds that STS gives at least are cut to the lease by the date alone, so nothing needs to be revoked when it has passed.
 */
export function sessionPolicy({ policy, allowIam }: Narrowing, scope: Scope, times: Times): string {
  const allowed = policy?.Statement ?? [{ Effect: 'Allow', Action: '*', Resource: '*' }]
  const unused = Object.keys(scope).filter((key) => !placeholdersOf(policy).has(key))
  if (unused.length > 0) throw new ProviderError('invalid', 'the scope has a key that the role does not use')
  const text = ascii(
    JSON.stringify({
      Version: '2012-10-17',
      Statement: [...allowed.map((one) => fill(one, scope)), ...limits(times, allowIam)],
    }),
  )
  if (text.length > MAX_POLICY_LENGTH)
    throw new ProviderError('invalid', `the session policy would have ${text.length} characters; AWS takes ${MAX_POLICY_LENGTH}: ask for less scope`)
  return text
}

/** What can be known of a role's policy before any lease; `hasMintEnd`: session policies will say until when they may be issued. */
export function policyProblems(narrowing: Narrowing, scope: Readonly<Record<string, ScopeKind>>, hasMintEnd: boolean): string[] {
  const { policy } = narrowing
  const used = placeholdersOf(policy)
  const shortest = Object.fromEntries([...used].map((key) => [key, 'x']))
  const problems = [
    ...Object.keys(scope)
      .filter((key) => !used.has(key))
      .map((key) => `scope.${key} narrows nothing: use \${scope.${key}} in the policy`),
    ...[...used].filter((key) => !Object.hasOwn(scope, key)).map((key) => `the policy uses \${scope.${key}}, which the role's scope does not have`),
    ...misplaced(policy),
  ]
  if (problems.length > 0) return problems
  try {
    sessionPolicy(narrowing, shortest, { expiresAt: SOME_TIME, ...(hasMintEnd ? { mintUntil: SOME_TIME } : {}) })
    return []
  } catch (error) {
    return [error instanceof ProviderError ? error.message : 'the policy cannot be filled']
  }
}

function limits({ expiresAt, mintUntil }: Times, allowIam: boolean): object[] {
  const deny = (Condition: object) => ({ Effect: 'Deny', Action: '*', Resource: '*', Condition })
  return [
    deny({ DateGreaterThan: { 'aws:CurrentTime': timeOf(expiresAt) } }),
    ...(mintUntil === undefined ? [] : [deny({ DateGreaterThanEquals: { 'aws:TokenIssueTime': timeOf(mintUntil) } })]),
    // A session or token that is asked for with this one would not carry this policy, and what iam:* makes would outlive it.
    ...(allowIam ? [] : [{ Effect: 'Deny', Action: ['iam:*', 'sts:AssumeRo*', 'sts:Get*Token'], Resource: '*' }]),
  ]
}

function timeOf(ms: number): string {
  return new Date(Math.floor(ms / 1000) * 1000).toISOString().replace('.000Z', 'Z')
}

/** Filled in parsed strings, never in text: a value cannot end the string that it stands in. A list value in a list becomes several. */
function fill(value: unknown, scope: Scope): unknown {
  if (typeof value === 'string') {
    const filled = expand(value, scope, checkValue)
    return filled.length === 1 ? filled[0] : filled
  }
  if (Array.isArray(value)) return value.flatMap((one) => (typeof one === 'string' ? expand(one, scope, checkValue) : [fill(one, scope)]))
  if (typeof value === 'object' && value !== null) return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, fill(one, scope)]))
  return value
}

function checkValue(value: string, key: string): void {
  if (value === '' || value.length > MAX_VALUE_LENGTH || UNSAFE_VALUE.test(value))
    throw new ProviderError('invalid', `scope "${key}" must be text without wildcards, "$", braces or control characters`)
}

/** Where a narrower value would allow more. */
function misplaced(policy: PolicyDocument | undefined): string[] {
  const uses = (value: unknown) => placeholdersOf(value).size > 0
  return (policy?.Statement ?? []).flatMap((one, index) => {
    const place = `policy.Statement[${index}]`
    if (one.Effect === 'Deny' && uses(one)) return [`${place}: a placeholder in a Deny would allow more where the scope is narrower`]
    const { NotAction, NotResource, Action, Condition } = one
    if (uses(NotAction) || uses(NotResource))
      return [`${place}: a placeholder in NotAction or NotResource would allow more where the scope is narrower`]
    if (uses(Action)) return [`${place}.Action: a placeholder stands in Resource or in a Condition: what is done is the role's to say`]
    if (OPEN_END.test(JSON.stringify(one)))
      return [`${place}: a placeholder right before a wildcard reaches other names that begin alike: write "/" between them`]
    const elsewhere = Object.entries(Object(Condition)).some(([operator, value]) => !COMPARES_TEXT.test(operator) && uses(value))
    const asKey = Object.values(Object(Condition)).some((value) => uses(Object.keys(Object(value))))
    return elsewhere || asKey
      ? [`${place}.Condition: a placeholder stands in a value that a positive String or Arn operator compares, or nowhere`]
      : []
  })
}
/** `…/${scope.prefix}*` would let `reports` reach `reports-of-others`. */
const OPEN_END = /\$\{scope\.[A-Za-z][A-Za-z0-9_-]*\}[*?]/
/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html */
const COMPARES_TEXT = /^(ForAnyValue:)?(StringEquals|StringEqualsIgnoreCase|StringLike|ArnEquals|ArnLike)(IfExists)?$/i

/** AWS takes U+0020 to U+00FF; the escapes of JSON say the rest. */
function ascii(json: string): string {
  return json.replace(/[\u007f-\uffff]/g, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
