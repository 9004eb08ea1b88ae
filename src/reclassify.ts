import { classify, isAsStrict, isTrusted, type Said, toldOf, twoDigits } from './classify.js'
import type { House } from './house.js'
import type { TaskChange } from './ledger/ledger.js'
import type { Agent, Orchestrator, Task } from './types.js'

/** A change as the classifier sees it, which takes the place of what was said. */
export interface Reread {
  readonly change: TaskChange
  /** For the event. */
  readonly detail?: Readonly<Record<string, unknown>>
  /** What was asked, so that it is not asked again when only the decision is made anew. */
  readonly question?: string
}

/**
 * What the classifier makes of a task whose context is changed: asked where something that it was told is another now, and the word of who
 * changes it is not enough. An agent only makes things stricter, and a child has what its parent has: nobody is asked for them.
 */
export async function reread(
  house: House,
  principal: Orchestrator | Agent,
  task: Task,
  ask: Partial<Said>,
  before: Reread | undefined,
): Promise<Reread | undefined> {
  if (!house.classifier || principal.kind === 'agent' || task.parent !== undefined) return undefined
  const trusted = isTrusted(house.classifier, principal)
  if (!hasToAsk(house, trusted, task, ask)) {
    if (trusted || ask.confidence === undefined) return undefined
    // Whose word does not classify may doubt, and no more.
    return { change: { confidence: Math.min(task.confidence, twoDigits(ask.confidence)) } }
  }
  const said: Said = {
    intent: ask.intent ?? task.statedIntent ?? task.intent,
    classification: ask.classification ?? (trusted ? task.classification : undefined),
    environment: ask.environment ?? task.environment,
    labels: ask.labels ?? task.labels,
  }
  const question = JSON.stringify(said)
  if (before?.question === question) return before
  const { reading, verdict } = await classify(house, principal, said, task)
  return { change: reading, detail: toldOf(reading, verdict), question }
}

function hasToAsk({ vocabulary }: House, trusted: boolean, task: Task, { intent, labels, environment, classification }: Partial<Said>): boolean {
  if (intent !== undefined) return !trusted || intent === 'unclassified' || !vocabulary.intents.has(intent)
  if (labels !== undefined || environment !== undefined) return !trusted || task.classifiedBy !== 'orchestrator'
  return !trusted && classification !== undefined && !isAsStrict(classification, task.classification)
}
