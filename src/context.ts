import { notAllowed } from './authorize.js'
import { isAsStrict, twoDigits } from './classify.js'
import { MayflyError } from './errors.js'
import { event } from './event.js'
import type { House } from './house.js'
import type { TaskChange } from './ledger/ledger.js'
import { type Reread, reread } from './reclassify.js'
import { refusal } from './refusals.js'
import { type Reviewed, reviewTree } from './review.js'
import { refuseOperation, taskOfCaller } from './task.js'
import type { Agent, Orchestrator, RequestContext, Sensitivity, Task } from './types.js'

/** What decisions depend on, as a caller may change it. */
export interface ContextAsk {
  readonly intent?: string
  readonly confidence?: number
  readonly classification?: Sensitivity
  readonly environment?: string
  readonly labels?: Readonly<Record<string, string>>
}

const MOST_DECISIONS = 3

/**
 * Changes what decisions about a task, and all below it, depend on; then every live lease of theirs is decided anew, and closed when it is
 * not allowed any more. Who opened the task may, or the root of its tree; an agent only to make it stricter.
 */
export async function changeContext(
  house: House,
  principal: Orchestrator | Agent,
  id: string,
  ask: ContextAsk,
  context: RequestContext,
): Promise<{ task: Task; reviewed: Reviewed }> {
  let read: Reread | undefined
  for (let round = 1; ; round++) {
    const task = await taskOfCaller(house, principal, id, 'opener')
    const no = (error: MayflyError) => refuseOperation(house, principal, context, error)
    if (task.state !== 'active') throw await no(refusal('ended', task.state))
    // Both as it is and as it would be: who may not open a task in production may not move one there.
    const permit = async (one: Task) => {
      const decision = await house.policy.decide({ action: 'changeTask', principal, task: one })
      if (decision.outcome !== 'allow') throw await no(notAllowed(decision))
    }
    const word = changeOf(house, task, ask)
    await permit(task)
    read = await reread(house, principal, task, ask, read)
    const change = read ? { ...word, ...read.change } : word
    const narrows = isStricter(task, change)
    if (principal.kind === 'agent' && !(narrows && staysWhereItIs(task, change))) throw await no(wider())
    await permit({ ...task, ...change })
    const told = event('task.changed', context, principal, { task: id, chain: task.chain, detail: { changed: change, ...read?.detail } })
    const changed = await house.ledger.changeTask(id, change, told, { contextVersion: task.contextVersion, narrows })
    if (changed.ok) return { task: changed.task, reviewed: await reviewTree(house, changed.live, principal, context) }
    if (changed.refused === 'stale' && round < MOST_DECISIONS) continue
    throw await no(refusal(changed.refused))
  }
}

/** As when a task is opened: only a name of the catalogue classifies, and what is not known is the strictest. */
function changeOf(house: House, task: Task, ask: ContextAsk): TaskChange {
  const { intents, environments } = house.vocabulary
  if (Object.values(ask).every((value) => value === undefined)) throw invalid('intent', 'name at least one field to change')
  const isChild = task.parent !== undefined
  if (isChild && ask.intent !== undefined) throw invalid('intent', 'a child task has the intent of its parent: change it there')
  const environment = ask.environment === undefined ? undefined : environments.has(ask.environment) ? ask.environment : 'unknown'
  if (isChild && environment !== undefined && environment !== 'unknown' && environment !== task.environment)
    throw invalid('environment', 'a child task is where its parent is: change it there, or say "unknown"')
  const classified =
    ask.intent === undefined ? undefined : intents.has(ask.intent) && ask.intent !== 'unclassified' && task.openedBy.kind === 'orchestrator'
  const isClassified = classified ?? task.classified
  const change = {
    intent: ask.intent,
    classified,
    // What was said of another intent says nothing of this one.
    confidence: confidenceOf(isClassified, ask.confidence ?? (ask.intent === undefined ? undefined : 0)),
    classification: ask.classification,
    environment,
    labels: ask.labels,
  }
  return Object.fromEntries(Object.entries(change).filter(([, value]) => value !== undefined))
}

function confidenceOf(isClassified: boolean, asked: number | undefined): number | undefined {
  if (asked === undefined) return undefined
  return isClassified ? twoDigits(asked) : 0
}

/** Whether no decision can become more favourable by it. Labels decide nothing. */
function isStricter(task: Task, change: TaskChange): boolean {
  const { intent = task.intent, confidence = task.confidence, classification = task.classification, environment = task.environment } = change
  if (intent !== task.intent && intent !== 'unclassified') return false
  if (change.classified === true && !task.classified) return false
  if (environment !== task.environment && environment !== 'unknown') return false
  return confidence <= task.confidence && isAsStrict(classification, task.classification)
}

/**
 * Intent and environment are names, and "unknown" is no stricter than "production" to a forbid that says `== Environment::"production"`: an
 * agent must not talk its task out of what restrains it.
 */
function staysWhereItIs(task: Task, { intent = task.intent, environment = task.environment }: TaskChange): boolean {
  return intent === task.intent && environment === task.environment
}

function wider(): MayflyError {
  const next = 'have the orchestrator change it; an agent may raise the classification and lower the confidence'
  return new MayflyError('denied', 'an agent may only make the context of its task stricter', { next })
}

function invalid(path: string, message: string): MayflyError {
  return new MayflyError('request_invalid', `${path}: ${message}`, { issues: [{ path, message }] })
}
