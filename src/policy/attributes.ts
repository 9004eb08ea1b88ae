import type { Agent, Operator, Orchestrator, Sensitivity, Task } from '../types.js'
import type { ApprovalRequest, CallRequest, DelegateRequest, Family, ObtainRequest, TaskRequest } from './actions.js'

/** A value before it is written as Cedar's JSON; what is not known is absent only where the schema says it is optional. */
export type Raw = string | number | boolean | readonly string[] | undefined
export type CedarValue = boolean | number | string | CedarValue[] | { [key: string]: CedarValue }

/** How a value is written. `entity` is the type whose ids it carries; `sample` fits it, to try the schema with. */
export interface Codec {
  readonly entity?: string
  readonly sample: Raw
  encode(raw: Raw): CedarValue
}
export interface Attribute<R> {
  /** As policies write it, after `principal.`, `resource.` or `context.`. */
  readonly name: string
  readonly codec: Codec
  of(source: R): Raw
}

/** What a request is told with besides itself. */
export interface Vocabulary {
  readonly intents: ReadonlySet<string>
  readonly environments: ReadonlySet<string>
}

export const UNCLASSIFIED = 'unclassified'
export const UNKNOWN_ENVIRONMENT = 'unknown'
/** What `context.orchestrator` is when an agent opened the task: no orchestrator has an empty id. */
export const NO_ORCHESTRATOR = ''
const LEVELS: Readonly<Record<Sensitivity, number>> = { public: 0, internal: 1, confidential: 2, restricted: 3 }
const MAX_SCOPE = 64

const flag: Codec = { sample: false, encode: (raw) => raw === true }
const text: Codec = { sample: '', encode: (raw) => string(raw) }
const strings: Codec = { sample: [], encode: (raw) => list(raw) }
const long: Codec = {
  sample: 0,
  encode(raw) {
    // Beyond 2^53 the number that is sent is not the number that was meant.
    if (typeof raw !== 'number' || !Number.isSafeInteger(raw)) throw new TypeError('a whole number was expected')
    return raw
  },
}
const decimal: Codec = { sample: '0.00', encode: (raw) => ({ __extn: { fn: 'decimal', arg: string(raw) } }) }
function entity(type: string, sample = ''): Codec {
  return { entity: type, sample, encode: (raw) => ({ __entity: { type, id: string(raw) } }) }
}
function entities(type: string): Codec {
  return { entity: type, sample: [], encode: (raw) => list(raw).map((id) => ({ __entity: { type, id } })) }
}

const agent: readonly Attribute<Agent>[] = [
  { name: 'issuer', codec: entity('Issuer'), of: (it) => it.issuer },
  { name: 'autonomy', codec: entity('Autonomy', 'autonomous'), of: (it) => it.autonomy },
  { name: 'labels', codec: strings, of: (it) => it.labels },
  { name: 'owner', codec: entity('Human'), of: (it) => it.owner },
  { name: 'risk', codec: long, of: (it) => it.conduct?.risk ?? 0 },
]
const caller: readonly Attribute<Orchestrator | Operator>[] = [
  { name: 'issuer', codec: entity('Issuer'), of: (it) => it.issuer },
  { name: 'labels', codec: strings, of: (it) => it.labels },
]
const role: readonly Attribute<ObtainRequest['role']>[] = [
  { name: 'access', codec: entity('Access', 'write'), of: (it) => it.access },
  { name: 'sensitivity', codec: entity('Sensitivity', 'restricted'), of: (it) => sensitivity(it.sensitivity) },
  { name: 'level', codec: long, of: (it) => level(it.sensitivity) },
  { name: 'revocation', codec: entity('Revocation', 'at-expiry'), of: (it) => it.revocation },
  { name: 'labels', codec: strings, of: (it) => it.labels },
]

const tool: readonly Attribute<CallRequest['tool']>[] = [
  { name: 'access', codec: entity('Access', 'write'), of: (it) => it.access },
  { name: 'sensitivity', codec: entity('Sensitivity', 'restricted'), of: (it) => sensitivity(it.sensitivity) },
  { name: 'level', codec: long, of: (it) => level(it.sensitivity) },
  { name: 'labels', codec: strings, of: (it) => it.labels },
]

/** Everything that the broker knows, and so everything that a policy may read. */
export function attributes({ intents, environments }: Vocabulary) {
  // Whoever has no say can put any word there, also one of the catalogue.
  const intent = (it: { readonly intent: string; readonly classified: boolean }) =>
    it.classified && intents.has(it.intent) ? it.intent : UNCLASSIFIED
  const environment = (it: string) => (environments.has(it) ? it : UNKNOWN_ENVIRONMENT)
  /** What is known of the task, and of who asks, whatever is asked for it. */
  const ofTask: readonly Attribute<{ readonly task: Task; readonly principal: Agent }>[] = [
    { name: 'intent', codec: entity('Intent', UNCLASSIFIED), of: (it) => intent(it.task) },
    { name: 'classified', codec: flag, of: (it) => intent(it.task) !== UNCLASSIFIED },
    { name: 'confidence', codec: decimal, of: (it) => confidence(it.task.confidence) },
    { name: 'level', codec: long, of: (it) => level(it.task.classification) },
    { name: 'environment', codec: entity('Environment', UNKNOWN_ENVIRONMENT), of: (it) => environment(it.task.environment) },
    { name: 'depth', codec: long, of: (it) => it.task.depth },
    { name: 'selfOpened', codec: flag, of: (it) => orchestratorOf(it.task) === NO_ORCHESTRATOR },
    { name: 'orchestrator', codec: entity('Orchestrator'), of: (it) => orchestratorOf(it.task) },
    { name: 'human', codec: entity('Human'), of: (it) => it.task.human },
    { name: 'humanProven', codec: flag, of: (it) => it.task.human !== undefined && it.task.humanProof !== undefined },
    { name: 'accumulated.obtained', codec: strings, of: (it) => it.task.obtained },
    { name: 'accumulated.reads', codec: long, of: (it) => it.task.counts.read },
    { name: 'accumulated.writes', codec: long, of: (it) => it.task.counts.write },
    { name: 'accumulated.escalations', codec: long, of: (it) => it.task.counts.escalate },
    { name: 'recent.reads', codec: long, of: (it) => steps(it.principal.conduct?.recent.read) },
    { name: 'recent.writes', codec: long, of: (it) => steps(it.principal.conduct?.recent.write) },
    { name: 'recent.escalations', codec: long, of: (it) => steps(it.principal.conduct?.recent.escalate) },
  ]
  const obtain: readonly Attribute<ObtainRequest>[] = [
    { name: 'renewal', codec: flag, of: (it) => it.context.renewal },
    { name: 'ttl', codec: long, of: (it) => it.context.ttlSeconds },
    { name: 'scope', codec: strings, of: (it) => scope(it.context.scope) },
    { name: 'tool', codec: entity('Tool'), of: (it) => it.context.tool?.name },
    { name: 'destination', codec: text, of: (it) => it.context.destination },
    { name: 'external', codec: flag, of: (it) => it.context.external },
    ...ofTask,
  ]
  const call: readonly Attribute<CallRequest>[] = [
    { name: 'call', codec: text, of: (it) => it.call.action },
    { name: 'target', codec: text, of: (it) => it.call.target },
    { name: 'destination', codec: text, of: (it) => it.call.destination },
    { name: 'external', codec: flag, of: (it) => it.tool.external },
    { name: 'enforced', codec: flag, of: (it) => it.call.enforced },
    ...ofTask,
  ]
  const task: readonly Attribute<TaskRequest['task']>[] = [
    { name: 'intent', codec: entity('Intent', UNCLASSIFIED), of: (it) => intent(it) },
    { name: 'level', codec: long, of: (it) => level(it.classification) },
    { name: 'environment', codec: entity('Environment', UNKNOWN_ENVIRONMENT), of: (it) => environment(it.environment) },
    { name: 'roles', codec: entities('Role'), of: (it) => it.envelope.map((entry) => entry.role) },
    { name: 'human', codec: entity('Human'), of: (it) => it.human },
  ]
  const taskContext: readonly Attribute<TaskRequest>[] = [{ name: 'own', codec: flag, of: own }]
  const delegate: readonly Attribute<DelegateRequest>[] = [
    { name: 'to', codec: entity('Agent'), of: (it) => it.delegation.to },
    { name: 'toTeams', codec: entities('Team'), of: (it) => it.delegation.toTeams },
    { name: 'toAutonomy', codec: entity('Autonomy', 'autonomous'), of: (it) => it.delegation.toAutonomy },
    { name: 'sameTeam', codec: flag, of: isSameTeam },
    { name: 'depth', codec: long, of: (it) => it.delegation.depth },
    { name: 'ttl', codec: long, of: (it) => it.delegation.ttlSeconds },
    { name: 'chain', codec: entities('Agent'), of: (it) => it.delegation.chain },
  ]
  const approval: readonly Attribute<ApprovalRequest>[] = [
    { name: 'agent', codec: entity('Agent'), of: (it) => it.approval.agent },
    { name: 'role', codec: entity('Role'), of: (it) => it.approval.role },
    { name: 'groups', codec: entities('Group'), of: (it) => it.approval.groups },
  ]
  return { agent, caller, role, tool, task, approval, context: { obtain, call, task: taskContext, delegate } }
}
export type Attributes = ReturnType<typeof attributes>

/** Counts that `reserve` must compare when a policy read them. */
export const COUNTS = ['context.accumulated.reads', 'context.accumulated.writes', 'context.accumulated.escalations']

/** Paths that policies of a family may read; `context.approval.groups` is the engine's own. */
export function knownPaths(known: Attributes, family: Family): readonly string[] {
  const names = (of: string, list: readonly { readonly name: string }[]) => list.map(({ name }) => `${of}.${name}`)
  if (family === 'obtain')
    return [...names('principal', known.agent), ...names('resource', known.role), ...names('context', known.context.obtain), APPROVAL]
  if (family === 'call')
    return [...names('principal', known.agent), ...names('resource', known.tool), ...names('context', known.context.call), APPROVAL]
  if (family === 'delegate')
    return [...names('principal', known.agent), ...names('resource', known.task), ...names('context', known.context.delegate), APPROVAL]
  if (family === 'approval') return [...names('principal', known.caller), ...names('resource', known.approval)]
  if (family === 'operator') return [...names('principal', known.caller), APPROVAL]
  const callers = new Set([...names('principal', known.caller), ...names('principal', known.agent)])
  return [...callers, ...names('resource', known.task), ...names('context', known.context.task)]
}
export const APPROVAL = 'context.approval.groups'

/** Whether the caller opened this task, or the one at the root of its tree, or is about to. */
function isSameTeam({ principal, delegation }: DelegateRequest): boolean {
  return principal.kind === 'agent' && principal.team !== undefined && delegation.toTeams.includes(principal.team)
}

export function own({ principal, task }: TaskRequest): boolean {
  return [task.openedBy, task.rootOpenedBy].some((by) => by?.kind === principal.kind && by.id === principal.id && by.issuer === principal.issuer)
}

/** Handing a task on does not change whose word it rests on: of a child, the one of its root. */
function orchestratorOf({ orchestrator, openedBy }: Task): string {
  return orchestrator ?? (openedBy.kind === 'orchestrator' ? openedBy.id : NO_ORCHESTRATOR)
}

/** The strictest for anything that is not one of the four. */
function sensitivity(it: string): Sensitivity {
  return it === 'public' || it === 'internal' || it === 'confidential' ? it : 'restricted'
}
function level(it: string): number {
  return LEVELS[sensitivity(it)]
}

/** Two digits, truncated: 0.599 is "0.59". Anything that is not between 0 and 1 is not known, and so "0.00". */
export function confidence(it: number): string {
  if (!(it >= 0 && it <= 1)) return '0.00'
  const rounded = Math.round(it * 100)
  return ((rounded / 100 > it ? rounded - 1 : rounded) / 100).toFixed(2)
}

/** Up to ten as it is, then in steps of ten: a budget holds exactly, and not every request of a busy agent is a new question. */
function steps(it = 0): number {
  return it <= 10 ? it : it - (it % 10)
}

function scope(it: ObtainRequest['context']['scope']): readonly string[] {
  const pairs = Object.entries(it).flatMap(([key, value]) => {
    // "a=b=c" could be read in two ways.
    if (key.includes('=')) throw new TypeError('a key of the scope has "="')
    return typeof value === 'string' ? [`${key}=${value}`] : value.map((member) => `${key}=${member}`)
  })
  if (pairs.length > MAX_SCOPE) throw new RangeError(`the scope has more than ${MAX_SCOPE} members`)
  return pairs
}

function string(raw: Raw): string {
  if (typeof raw !== 'string') throw new TypeError('a string was expected')
  // A lone surrogate makes the engine throw, and each throw leaks until the instance dies.
  if (!raw.isWellFormed()) throw new TypeError('a string is not well-formed Unicode')
  return raw
}
function list(raw: Raw): string[] {
  if (!Array.isArray(raw)) throw new TypeError('a list was expected')
  return raw.map(string)
}
