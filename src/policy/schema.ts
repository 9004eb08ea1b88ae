import { ACTIONS, type Action } from './actions.js'
import { UNCLASSIFIED, UNKNOWN_ENVIRONMENT } from './attributes.js'
import { type Cedar, lineOf, type Schema, told } from './cedar.js'
import type { PolicyOptions } from './options.js'
import { PolicyProblems } from './problems.js'

/** Cedar's JSON schema format, only what is touched here: https://docs.cedarpolicy.com/schema/json-schema.html */
export interface CedarSchema {
  readonly entityTypes: Readonly<Record<string, EntityType>>
  readonly actions: Readonly<Record<string, ActionType>>
  readonly commonTypes: Readonly<Record<string, TypeJson>>
}
interface EntityType {
  readonly memberOfTypes?: readonly string[]
  readonly shape?: TypeJson
  readonly enum?: readonly string[]
}
interface ActionType {
  readonly appliesTo?: { readonly principalTypes: readonly string[]; readonly resourceTypes: readonly string[]; readonly context?: TypeJson }
  readonly memberOf?: readonly { readonly id: string }[]
}
interface TypeJson {
  readonly type?: string
  readonly attributes?: Readonly<Record<string, TypeJson>>
}

/** The schema as text -> with the configured vocabulary in it. */
export function readSchema(cedar: Cedar, { schema, vocabulary }: Pick<PolicyOptions, 'schema' | 'vocabulary'>): CedarSchema {
  const answer = cedar.schemaToJsonWithResolvedTypes(schema)
  if (answer.type === 'failure') throw schemaProblem(told(answer.errors), lineOf(answer.errors, schema))
  if (answer.warnings.length > 0) throw schemaProblem(told(answer.warnings), lineOf(answer.warnings, schema))
  const namespaces = Object.keys(answer.json)
  if (namespaces.some((name) => name !== '')) throw schemaProblem('namespaces are not supported: declare everything outside of one')
  const read = answer.json[''] as Partial<CedarSchema> | undefined
  const { entityTypes = {}, actions = {}, commonTypes = {} } = read ?? {}
  for (const type of ['Intent', 'Environment']) {
    if (!entityTypes[type]?.enum) throw schemaProblem(`entity ${type} must be declared with enum: its members come from the configuration`)
  }
  for (const action of ACTIONS) if (!actions[action]?.appliesTo) throw schemaProblem(`action ${action} is missing`)
  return {
    commonTypes,
    actions,
    entityTypes: {
      ...entityTypes,
      Intent: { enum: members(vocabulary.intents, UNCLASSIFIED) },
      Environment: { enum: members(vocabulary.environments, UNKNOWN_ENVIRONMENT) },
    },
  }
}

/** As the library takes it. */
export function whole(schema: CedarSchema): Schema {
  return { '': schema } as Schema
}

/** The action itself and every group that it is in. */
export function withGroups(schema: CedarSchema, action: string, seen = new Set<string>()): Set<string> {
  if (seen.has(action)) return seen
  seen.add(action)
  for (const { id } of schema.actions[action]?.memberOf ?? []) withGroups(schema, id, seen)
  return seen
}

/** What is left of the schema when only one action is asked and only these paths are read. The other actions keep their names alone. */
export function projectSchema(schema: CedarSchema, action: Action, reads: ReadonlySet<string>): CedarSchema {
  const { principalTypes = [], resourceTypes = [], context } = schema.actions[action]?.appliesTo ?? {}
  const entityTypes = Object.entries(schema.entityTypes).map(([name, type]) => {
    const from = [principalTypes.includes(name) ? 'principal' : '', resourceTypes.includes(name) ? 'resource' : ''].filter(Boolean)
    const shape = type.shape && { ...type.shape, attributes: pick(type.shape, from, reads) }
    return [name, shape ? { ...type, shape } : type] as const
  })
  const commonTypes = Object.entries(schema.commonTypes).map(([name, type]) => {
    const from = Object.entries(context?.attributes ?? {}).flatMap(([attr, { type: of }]) => (of === name ? [`context.${attr}`] : []))
    return [name, type.attributes ? { ...type, attributes: pick(type, from, reads) } : type] as const
  })
  const asked = { principalTypes, resourceTypes, context: { ...context, type: 'Record', attributes: pick(context, ['context'], reads) } }
  const actions = Object.entries(schema.actions).map(([name, { memberOf }]) => {
    return [name, name === action ? { memberOf, appliesTo: asked } : { memberOf }] as const
  })
  return {
    entityTypes: Object.fromEntries(entityTypes),
    commonTypes: Object.fromEntries(commonTypes),
    actions: Object.fromEntries(actions),
  }
}

function pick(type: TypeJson | undefined, from: readonly string[], reads: ReadonlySet<string>): Record<string, TypeJson> {
  const kept = Object.entries(type?.attributes ?? {}).filter(([name]) => from.some((path) => reads.has(`${path}.${name}`)))
  return Object.fromEntries(kept)
}

function members(configured: readonly string[], always: string): string[] {
  return [...new Set([...configured, always])]
}

function schemaProblem(message: string, line?: number): PolicyProblems {
  return new PolicyProblems([{ path: 'schema', line, message }])
}
