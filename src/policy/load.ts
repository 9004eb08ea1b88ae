import { createHash } from 'node:crypto'
import { ACTIONS, type Action } from './actions.js'
import { type Cedar, lineOf, type PolicyJson, told } from './cedar.js'
import { lint, lintId } from './lint.js'
import { type Obligations, obligationsOf } from './obligations.js'
import type { PolicyFile, PolicyOptions } from './options.js'
import { PolicyProblems, type Problem } from './problems.js'
import { type CedarSchema, readSchema, whole, withGroups } from './schema.js'

/** One policy, ready to be asked. */
export interface LoadedPolicy {
  readonly id: string
  readonly file: string
  /** Of the file, where its text begins. */
  readonly line: number
  readonly text: string
  readonly json: PolicyJson
  /** Actions that its scope covers. */
  readonly actions: ReadonlySet<Action>
  readonly obligations: Obligations
  /** A forbid that refuses nothing: where it applies, its @maxTtl and @maxLive do. */
  readonly isLimit: boolean
}
export interface Loaded {
  readonly version: string
  readonly schema: CedarSchema
  readonly policies: ReadonlyMap<string, LoadedPolicy>
}

/**
 * Reads, validates and lints.
 * @throws PolicyProblems with all that is wrong
 */
export function loadPolicies(cedar: Cedar, options: PolicyOptions): Loaded {
  const malformed = illFormed(options)
  if (malformed.length > 0) throw new PolicyProblems(malformed)
  const schema = readSchema(cedar, options)
  const problems: Problem[] = []
  const policies = new Map<string, LoadedPolicy>()
  for (const file of options.files) {
    for (const { text, json, line } of split(cedar, file, problems)) {
      const id = json.annotations?.id ?? ''
      const path = id ? `${file.name}: ${id}` : file.name
      const wrong = lintId(id, policies.get(id)?.file)
      if (wrong) {
        problems.push({ path, line, message: wrong })
        continue
      }
      const actions = actionsOf(schema, json)
      problems.push(...lint(json, actions, options).map((message) => ({ path, line, message })))
      const obligations = quietly(json)
      const isLimit = json.effect === 'forbid' && (obligations.maxTtlSeconds ?? obligations.maxLive) !== undefined
      policies.set(id, { id, file: file.name, line, text, json, actions, obligations, isLimit })
    }
  }
  problems.push(...validate(cedar, schema, policies))
  if (problems.length > 0) throw new PolicyProblems(problems)
  return { version: versionOf(cedar, schema, options), schema, policies }
}

/** The texts of policies by the ids that answers will name them by. */
export function textsOf(policies: Iterable<LoadedPolicy>): Record<string, string> {
  return Object.fromEntries([...policies].map(({ id, text }) => [id, text]))
}

function split(cedar: Cedar, { name, text }: PolicyFile, problems: Problem[]): { text: string; json: PolicyJson; line: number }[] {
  const parts = cedar.policySetTextToParts(text)
  if (parts.type === 'failure') {
    problems.push(...parts.errors.map((error) => ({ path: name, line: lineOf([error], text), message: told([error]) })))
    return []
  }
  const lines = linesOf(text)
  if (parts.policy_templates.length > 0)
    problems.push({ path: name, message: 'templates are not supported: write the policy out for each principal' })
  return parts.policies.flatMap((part) => {
    const read = cedar.policyToJson(part)
    const line = lines(part)
    if (read.type === 'success') return [{ text: part, json: read.json, line }]
    problems.push({ path: name, line, message: told(read.errors) })
    return []
  })
}

/** The line at which a part of the text begins; of equal parts one after the other. Parts are as they were written. */
function linesOf(text: string): (part: string) => number {
  const after = new Map<string, number>()
  return (part) => {
    const at = text.indexOf(part, after.get(part) ?? 0)
    if (at < 0) return 1
    after.set(part, at + part.length)
    return text.slice(0, at).split('\n').length
  }
}

function actionsOf(schema: CedarSchema, { action }: PolicyJson): Set<Action> {
  if (action.op === 'All') return new Set(ACTIONS)
  const named = 'entities' in action ? action.entities : 'entity' in action ? [action.entity] : []
  const ids = named.map((uid) => ('__entity' in uid ? uid.__entity.id : uid.id))
  return new Set(ACTIONS.filter((one) => (action.op === '==' ? ids.includes(one) : ids.some((id) => withGroups(schema, one).has(id)))))
}

/** `validate` answers "success" with errors inside, and says of a forbid that can never fire no more than a warning. */
function validate(cedar: Cedar, schema: CedarSchema, policies: ReadonlyMap<string, LoadedPolicy>): Problem[] {
  const answer = cedar.validate({ schema: whole(schema), policies: { staticPolicies: textsOf(policies.values()) } })
  if (answer.type === 'failure') return [{ path: 'policies', message: told([...answer.errors, ...answer.warnings]) }]
  const about = [...answer.validationErrors, ...answer.validationWarnings].map(({ policyId, error }) => {
    const { file = 'policies', line, text = '' } = policies.get(policyId) ?? {}
    const below = lineOf([error], text)
    return { path: `${file}: ${policyId}`, line: line === undefined || below === undefined ? line : line + below - 1, message: told([error]) }
  })
  return [...about, ...answer.otherWarnings.map((warning) => ({ path: 'policies', message: told([warning]) }))]
}

/** `lint` has told what is wrong with them. */
function quietly(json: PolicyJson): Obligations {
  try {
    return obligationsOf(json.annotations ?? {})
  } catch {
    return {}
  }
}

/** The engine throws at a lone surrogate. */
function illFormed({ schema, files, vocabulary, known, inside }: PolicyOptions): Problem[] {
  const parts = [...Object.entries({ schema, vocabulary, known, inside }), ...files.map((file) => [file.name.toWellFormed(), file] as const)]
  const wrong = parts.filter(([, it]) => !allWellFormed(it))
  return wrong.map(([path]) => ({ path, message: 'is not well-formed Unicode' }))
}

function allWellFormed(it: unknown): boolean {
  if (typeof it === 'string') return it.isWellFormed()
  return typeof it !== 'object' || it === null || Object.entries(it).every(([key, value]) => key.isWellFormed() && allWellFormed(value))
}

/** Names exactly what decides: two brokers with the same version answer alike. */
function versionOf(cedar: Cedar, schema: CedarSchema, { files, inside }: PolicyOptions): string {
  const texts = files.map(({ name, text }) => [name, text]).sort()
  const what = JSON.stringify([cedar.getCedarVersion(), schema, texts, inside ?? {}])
  return createHash('sha256').update(what).digest('base64url').slice(0, 16)
}
