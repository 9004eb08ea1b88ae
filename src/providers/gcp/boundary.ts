import { z } from 'zod'
import type { Scope, ScopeKind } from '../../types.js'
import { jsonText } from '../json-text.js'
import { expand, PLACEHOLDER, placeholdersOf } from '../placeholders.js'
import { ProviderError } from '../provider.js'
import { comparisonsOf, fillCondition, readCondition, writeCondition } from './condition.js'

/** `GoogleIdentityStsV1Options.accessBoundary`: rules, and characters of the whole. https://docs.cloud.google.com/iam/docs/reference/sts/rest/v1/TopLevel/token */
const MAX_RULES = 10
export const MAX_BOUNDARY_LENGTH = 2048
const MAX_VALUE_LENGTH = 256
const BUCKETS = '//storage.googleapis.com/projects/_/buckets/'
/** https://docs.cloud.google.com/storage/docs/buckets#naming */
const BUCKET = /^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$/

const rule = z.strictObject({
  availableResource: z
    .string()
    .max(1024)
    .refine(
      (text) => text.startsWith(BUCKETS) && BUCKET.test(text.slice(BUCKETS.length).replace(PLACEHOLDER, 'xxx')),
      `must be ${BUCKETS} and the name of a bucket: access boundaries are for Cloud Storage alone`,
    ),
  availablePermissions: z
    .array(
      z
        .string()
        .regex(/^inRole:((projects|organizations)\/[a-z0-9-]{1,63}\/)?roles\/[A-Za-z0-9._]{1,128}$/, 'must be as inRole:roles/storage.objectViewer'),
    )
    .min(1)
    .max(20),
  availabilityCondition: z
    .strictObject({ expression: z.string().min(1).max(2048), title: z.string().max(100).optional(), description: z.string().max(256).optional() })
    .optional(),
})
const document = z.strictObject({ accessBoundary: z.strictObject({ accessBoundaryRules: z.array(rule).min(1).max(MAX_RULES) }) })
/** A Credential Access Boundary as Google's documentation writes it, as an object or as its JSON text. */
export const accessBoundary = z.union([jsonText.pipe(document), document])
export type AccessBoundary = z.infer<typeof document>
type Rule = z.infer<typeof rule>

/**
 * Those of Google's own roles that hold storage.buckets.setIamPolicy or storage.objects.setIamPolicy; what a role of one's own holds is not
 * to be seen here. https://docs.cloud.google.com/storage/docs/access-control/iam-roles
 */
const LET_OTHERS_IN = ['storage.admin', 'storage.objectAdmin', 'storage.folderAdmin', 'storage.legacyBucketOwner', 'storage.legacyObjectOwner']

/** The roles in a boundary by which access can be given that outlives the token. */
export function lasting(boundary: AccessBoundary | undefined): string[] {
  const permissions = boundary?.accessBoundary.accessBoundaryRules.flatMap((one) => one.availablePermissions) ?? []
  return [...new Set(permissions)].map((one) => one.slice('inRole:'.length)).filter((role) => LET_OTHERS_IN.some((one) => role === `roles/${one}`))
}

/** The boundary of one lease: the role's, with the request's scope in it. Absent: the role has none. */
export function boundaryOf(boundary: AccessBoundary | undefined, scope: Scope): AccessBoundary | undefined {
  const used = placeholdersOf(boundary)
  if (Object.keys(scope).some((key) => !used.has(key))) throw new ProviderError('invalid', 'the scope has a key that the role does not use')
  if (boundary === undefined) return undefined
  const rules = boundary.accessBoundary.accessBoundaryRules.flatMap((one) => fillRule(one, scope))
  const filled = { accessBoundary: { accessBoundaryRules: rules } }
  if (rules.length > MAX_RULES)
    throw new ProviderError('invalid', `the access boundary would have ${rules.length} rules; Google takes ${MAX_RULES}: ask for less scope`)
  const { length } = JSON.stringify(filled.accessBoundary)
  if (length > MAX_BOUNDARY_LENGTH)
    throw new ProviderError('invalid', `the access boundary would have ${length} characters; Google takes ${MAX_BOUNDARY_LENGTH}: ask for less scope`)
  return filled
}

/** What can be known of a role's boundary before any lease. */
export function boundaryProblems(boundary: AccessBoundary | undefined, scope: Readonly<Record<string, ScopeKind>>): string[] {
  const used = placeholdersOf(boundary)
  const problems = [
    ...Object.keys(scope)
      .filter((key) => !used.has(key))
      .map((key) => `scope.${key} narrows nothing: use \${scope.${key}} in the access boundary`),
    ...[...used]
      .filter((key) => !Object.hasOwn(scope, key))
      .map((key) => `the access boundary uses \${scope.${key}}, which the role's scope does not have`),
  ]
  if (problems.length > 0) return problems
  try {
    boundaryOf(boundary, Object.fromEntries([...used].map((key) => [key, 'xxx'])))
    return openEnds(boundary)
  } catch (error) {
    return [error instanceof ProviderError ? error.message : 'the access boundary cannot be filled']
  }
}

function fillRule(rule: Rule, scope: Scope): Rule[] {
  const condition = rule.availabilityCondition
  const templated = condition !== undefined && placeholdersOf(condition.expression).size > 0
  const availabilityCondition = templated
    ? { ...condition, expression: writeCondition(fillCondition(readCondition(condition.expression), (text) => expand(text, scope, checkValue))) }
    : condition
  return expand(rule.availableResource, scope, checkValue).map((availableResource) => {
    if (!BUCKET.test(availableResource.slice(BUCKETS.length))) throw new ProviderError('invalid', 'the scope makes no name of a bucket')
    return { ...rule, availableResource, ...(availabilityCondition && { availabilityCondition }) }
  })
}

/** `startsWith('…/${scope.prefix}')` would let `reports` reach `reports-of-others`. */
function openEnds(boundary: AccessBoundary | undefined): string[] {
  const expressions = boundary?.accessBoundary.accessBoundaryRules.map((one) => one.availabilityCondition?.expression ?? '') ?? []
  return expressions.flatMap((expression, index) => {
    if (placeholdersOf(expression).size === 0) return []
    const open = comparisonsOf(readCondition(expression)).some(({ test, value }) => test === 'startsWith' && /\$\{scope\.[^}]*\}$/.test(value))
    return open
      ? [`accessBoundaryRules[${index}]: a placeholder at the end of startsWith reaches other names that begin alike: write "/" after it`]
      : []
  })
}

/** In CEL as in a name: it can neither end the text that it stands in nor make an empty segment. */
const SAFE_VALUE = /^[^\p{C}\p{Zl}\p{Zp}${}/]([^\p{C}\p{Zl}\p{Zp}${}]*[^\p{C}\p{Zl}\p{Zp}${}/])?$/u

function checkValue(value: string, key: string): void {
  if (value.length > MAX_VALUE_LENGTH || !SAFE_VALUE.test(value))
    throw new ProviderError('invalid', `scope "${key}" must be text without "$", braces and control characters that neither begins nor ends with "/"`)
}
