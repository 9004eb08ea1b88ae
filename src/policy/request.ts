import type { Principal, Task } from '../types.js'
import { type Action, type Family, familyOf, isApproval, isCall, isDelegate, isObtain, isTask, PRINCIPALS } from './actions.js'
import type { Attribute, Attributes, CedarValue, Codec, Raw } from './attributes.js'
import type { StatefulAuthorizationCall } from './cedar.js'
import type { PolicyRequest } from './policy.js'
import type { Projection } from './projection.js'

/**
 * All that the answer to a request depends on, and nothing else: plain values that are at once the memo's key and, where it misses,
 * what the engine is asked with. So what is remembered cannot differ from what would be answered.
 */
export interface Question {
  readonly principal: Subject
  readonly resource: Subject
  readonly context: readonly Raw[]
  /** The human on whose behalf it is asked, who must be allowed too. */
  readonly human?: Subject
}
interface Subject {
  readonly type: string
  /** Empty when no policy can tell one member of the type from another. */
  readonly id: string
  /** All ancestors, however far above. */
  readonly in: readonly string[]
  /** A human is in groups besides. */
  readonly inGroups?: readonly string[]
  readonly attributes: readonly Raw[]
}

/** What is asked about one action, prepared once. */
export interface Form {
  readonly action: Action
  ask(request: PolicyRequest): Question
  /** The engine's call, for `who`. @throws TypeError for what must not reach the engine */
  write(question: Question, who: Subject, groups: readonly string[]): EngineCall
  /** One question for each type of principal, with a value of the right type everywhere. */
  samples(): Question[]
}
export type EngineCall = Pick<StatefulAuthorizationCall, 'principal' | 'action' | 'resource' | 'context' | 'entities'>
export type Ancestors = (kind: 'teams' | 'groups', names: readonly string[]) => readonly string[]

const PARENT: Readonly<Record<string, string>> = { Agent: 'Team', Orchestrator: 'Team', Operator: 'Group', Human: 'Team', Role: 'Provider' }
const TYPES: Readonly<Record<Principal['kind'], string>> = { agent: 'Agent', orchestrator: 'Orchestrator', operator: 'Operator', gateway: 'Gateway' }
/** What is asked for; of operator actions one of many, of which the engine is told no more than of this. */
const RESOURCE: Readonly<Record<Family, string>> = {
  obtain: 'Role',
  call: 'Tool',
  task: 'Task',
  delegate: 'Task',
  approval: 'Approval',
  operator: 'Task',
}
const NONE: readonly never[] = []

export function typeOf(principal: Principal): string {
  return TYPES[principal.kind]
}

export function formOf(action: Action, projection: Projection, table: Attributes, ancestors: Ancestors): Form {
  const { reads, ancestorsOf } = projection
  const family = familyOf(action)
  const kept = <R>(of: string, list: readonly Attribute<R>[]) => list.filter(({ name }) => reads.has(`${of}.${name}`))
  const agent = kept('principal', table.agent)
  const caller = kept('principal', table.caller)
  const role = kept('resource', table.role)
  const tool = kept('resource', table.tool)
  const task = kept('resource', table.task)
  const approval = kept('resource', table.approval)
  const obtainContext = kept('context', table.context.obtain)
  const callContext = kept('context', table.context.call)
  const taskContext = kept('context', table.context.task)
  const delegateContext = kept('context', table.context.delegate)
  const contexts: Readonly<Partial<Record<typeof family, readonly Named[]>>> = {
    obtain: obtainContext,
    call: callContext,
    task: taskContext,
    delegate: delegateContext,
  }
  const context = contexts[family] ?? []
  const operates = family === 'operator' || family === 'approval'
  const attributesOf: Readonly<Record<string, readonly Named[]>> = {
    Agent: operates ? [] : agent,
    Orchestrator: operates ? [] : caller,
    Operator: caller,
    Role: family === 'obtain' ? role : [],
    Tool: family === 'call' ? tool : [],
    Task: family === 'task' || family === 'delegate' ? task : [],
    Approval: family === 'approval' ? approval : [],
  }
  // Ids of a type can matter only where a policy names one, or where a value of that type is there to be compared with.
  const compared = new Set([...projection.names, ...[agent, caller, role, tool, task, approval, context].flat().map(({ codec }) => codec.entity)])
  const idOf = (type: string, id: string) => (compared.has(type) || type === 'Broker' ? id : '')
  const principalIn = ancestorsOf.has('principal')
  const resourceIn = ancestorsOf.has('resource')

  const asking = (principal: Principal): Subject => {
    const type = typeOf(principal)
    const id = idOf(type, principal.id)
    if (principal.kind === 'operator')
      return { type, id, in: principalIn ? ancestors('groups', principal.groups) : NONE, attributes: caller.map((it) => it.of(principal)) }
    const above = principalIn && principal.team !== undefined ? ancestors('teams', [principal.team]) : NONE
    if (principal.kind === 'agent') return { type, id, in: above, attributes: agent.map((it) => it.of(principal)) }
    if (principal.kind === 'orchestrator') return { type, id, in: above, attributes: caller.map((it) => it.of(principal)) }
    return { type, id, in: NONE, attributes: NONE }
  }

  /** Whom somebody only named is in nothing. */
  const behalf = ({ human, humanProof }: Task): Subject | undefined => {
    if (human === undefined) return undefined
    const { team, groups = NONE } = humanProof ?? {}
    return {
      type: 'Human',
      id: idOf('Human', human),
      in: principalIn && team !== undefined ? ancestors('teams', [team]) : NONE,
      inGroups: principalIn && groups.length > 0 ? ancestors('groups', groups) : NONE,
      attributes: NONE,
    }
  }

  const withApproval = reads.has('context.approval.groups')
  return {
    action,
    ask(request) {
      if (isObtain(request)) {
        if (request.action !== request.role.access) throw new TypeError(`the role is for ${request.role.access}, not for ${request.action}`)
        return {
          principal: asking(request.principal),
          resource: {
            type: 'Role',
            id: idOf('Role', request.role.name),
            in: resourceIn ? [request.role.provider] : NONE,
            attributes: role.map((it) => it.of(request.role)),
          },
          context: obtainContext.map((it) => it.of(request)),
          human: behalf(request.task),
        }
      }
      if (isCall(request)) {
        const resource = { type: 'Tool', id: idOf('Tool', request.tool.name), in: NONE, attributes: tool.map((it) => it.of(request.tool)) }
        return { principal: asking(request.principal), resource, context: callContext.map((it) => it.of(request)), human: behalf(request.task) }
      }
      if (isDelegate(request)) {
        const resource = { type: 'Task', id: idOf('Task', request.task.id), in: NONE, attributes: task.map((it) => it.of(request.task)) }
        return { principal: asking(request.principal), resource, context: delegateContext.map((it) => it.of(request)) }
      }
      if (isTask(request)) {
        const attributes = task.map((it) => it.of(request.task))
        const resource = { type: 'Task', id: idOf('Task', request.task.id), in: NONE, attributes }
        return { principal: asking(request.principal), resource, context: taskContext.map((it) => it.of(request)) }
      }
      if (isApproval(request)) {
        const attributes = approval.map((it) => it.of(request))
        const resource = { type: 'Approval', id: idOf('Approval', request.approval.id), in: NONE, attributes }
        return { principal: asking(request.principal), resource, context: NONE }
      }
      const { type, id } = request.resource
      return { principal: asking(request.principal), resource: { type, id: idOf(type, id), in: NONE, attributes: NONE }, context: NONE }
    },
    write(question, who, groups) {
      const written: Record<string, CedarValue> = record(context, question.context)
      if (withApproval) written.approval = { groups: groups.map((id) => ({ __entity: { type: 'Group', id } })) }
      return {
        action: { type: 'Action', id: action },
        principal: { type: who.type, id: wellFormed(who.id) },
        resource: { type: question.resource.type, id: wellFormed(question.resource.id) },
        context: written,
        entities: [entity(who, attributesOf), entity(question.resource, attributesOf)].flat(),
      }
    },
    samples() {
      const subject = (type: string): Subject => {
        const attributes = (attributesOf[type] ?? []).map(({ codec }) => codec.sample)
        return type === 'Human' && principalIn ? { type, id: '', in: [''], inGroups: [''], attributes } : { type, id: '', in: NONE, attributes }
      }
      const resource = subject(RESOURCE[family])
      return PRINCIPALS[family].map((type) => ({ principal: subject(type), resource, context: context.map(({ codec }) => codec.sample) }))
    },
  }
}

interface Named {
  readonly name: string
  readonly codec: Codec
}

/** One string, and no two questions have the same one. */
export function keyOf(action: Action, { principal, resource, context, human }: Question): string {
  return JSON.stringify([
    action,
    principal.type,
    principal.id,
    principal.in,
    principal.attributes,
    resource.type,
    resource.id,
    resource.in,
    resource.attributes,
    context,
    human?.id,
    human?.in,
    human?.inGroups,
  ])
}

/** Nothing is sent of an entity of which nothing but its id is known: to the engine that is the same. */
function entity({ type, id, in: above, inGroups = NONE, attributes }: Subject, attributesOf: Readonly<Record<string, readonly Named[]>>) {
  const parents = above.map((parent) => ({ type: PARENT[type] ?? '', id: wellFormed(parent) }))
  for (const group of inGroups) parents.push({ type: 'Group', id: wellFormed(group) })
  const attrs = record(attributesOf[type] ?? [], attributes)
  return parents.length === 0 && Object.keys(attrs).length === 0 ? [] : [{ uid: { type, id }, attrs, parents }]
}

function record(names: readonly Named[], values: readonly Raw[]): Record<string, CedarValue> {
  const written: Record<string, CedarValue> = {}
  const nested: Record<string, Record<string, CedarValue>> = {}
  for (const [index, { name, codec }] of names.entries()) {
    const raw = values[index]
    if (raw === undefined) continue
    const [first = name, second] = name.split('.')
    if (second === undefined) written[first] = codec.encode(raw)
    else nested[first] = { ...nested[first], [second]: codec.encode(raw) }
  }
  return { ...written, ...nested }
}

/** A lone surrogate makes the engine throw, and each throw leaks until the instance dies. */
function wellFormed(text: string): string {
  if (!text.isWellFormed()) throw new TypeError('an id is not well-formed Unicode')
  return text
}
