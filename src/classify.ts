import type { House } from './house.js'
import type { NewTask } from './ledger/ledger.js'
import type { Question, Verdict } from './signals/classifier.js'
import type { Agent, Orchestrator, Sensitivity, Task } from './types.js'

/** What decisions read of what a task is about. */
export type Reading = Pick<Task, 'intent' | 'classified' | 'confidence' | 'classification' | 'classifiedBy' | 'statedIntent'>
/** What is said of it, by whoever opens or changes the task. */
export interface Said {
  readonly intent: string
  readonly confidence?: number
  readonly classification?: Sensitivity
  readonly environment?: string
  readonly labels?: Readonly<Record<string, string>>
}
/** Who says so, and for whom. */
type About = Pick<NewTask, 'openedBy' | 'assignees' | 'envelope'>

const STRICTNESS: Readonly<Record<Sensitivity, number>> = { public: 0, internal: 1, confidential: 2, restricted: 3 }

/** Whether `one` is at least as strict as `other`. */
export function isAsStrict(one: Sensitivity, other: Sensitivity): boolean {
  return STRICTNESS[one] >= STRICTNESS[other]
}

/** Two digits, truncated: 0.599 is 0.59, and 0.29 stays what it is. */
export function twoDigits(confidence: number): number {
  const rounded = Math.round(confidence * 100)
  return (rounded / 100 > confidence ? rounded - 1 : rounded) / 100
}

/** An orchestrator's word classifies, if it names an intent of the catalogue; an agent's never does. */
export function ownWord(
  { vocabulary }: House,
  opener: Orchestrator | Agent,
  { intent, confidence = 0, classification = 'restricted' }: Said,
): Reading {
  const classified = opener.kind === 'orchestrator' && intent !== 'unclassified' && vocabulary.intents.has(intent)
  if (opener.kind === 'agent') return { intent, classified, confidence: 0, classification: 'restricted' }
  return {
    intent,
    classified,
    confidence: classified ? twoDigits(confidence) : 0,
    classification,
    classifiedBy: classified ? opener.kind : undefined,
  }
}

/** Whether this one's own word is enough, or the classifier has to be asked. */
export function isEnough({ classifier }: House, opener: Orchestrator | Agent, word: Pick<Reading, 'classified'>): boolean {
  return classifier === undefined || (word.classified && isTrusted(classifier, opener))
}

export function isTrusted(classifier: House['classifier'], opener: Orchestrator | Agent): boolean {
  return opener.kind === 'orchestrator' && (classifier?.trusts(opener) ?? true)
}

/**
 * What the classifier makes of it. Where it gives no answer in time, or none that can be taken for one, the task is unclassified: nothing is
 * lost, and a human decides.
 */
export async function classify(
  house: House,
  opener: Orchestrator | Agent,
  said: Said,
  about: About,
): Promise<{ reading: Reading; verdict: Verdict }> {
  const question = questionOf(house, opener, said, about)
  const verdict: Verdict = (await house.classifier?.classify(question)) ?? { outcome: 'unreachable', confidence: 0, ms: 0 }
  return { reading: readingOf(said, verdict, isTrusted(house.classifier, opener)), verdict }
}

/** How an event tells of it. */
export function toldOf(
  { classifiedBy, statedIntent }: Pick<Reading, 'classifiedBy' | 'statedIntent'>,
  verdict?: Verdict,
): Readonly<Record<string, unknown>> {
  return { classified_by: classifiedBy ?? 'nobody', stated_intent: statedIntent, classifier: verdict }
}

function readingOf({ intent: stated, classification }: Said, verdict: Verdict, trusted: boolean): Reading {
  const known = trusted && classification !== undefined ? classification : 'restricted'
  if (verdict.outcome !== 'classified' || verdict.intent === undefined)
    return { intent: stated, classified: false, confidence: 0, classification: known }
  return {
    intent: verdict.intent,
    classified: true,
    confidence: twoDigits(verdict.confidence),
    classification: verdict.classification === undefined ? known : strictest(classification, verdict.classification),
    classifiedBy: 'classifier',
    statedIntent: verdict.intent === stated ? undefined : stated,
  }
}

/** Whoever has no say about the sensitivity of its data is believed where it says that it is more sensitive, not that it is less. */
function strictest(said: Sensitivity | undefined, found: Sensitivity): Sensitivity {
  return said !== undefined && isAsStrict(said, found) ? said : found
}

function questionOf({ roles }: House, opener: Orchestrator | Agent, said: Said, { openedBy, assignees, envelope }: About): Question {
  const { intent, classification, environment, labels } = said
  const words = { intent, classification, environment, labels }
  return {
    opener: `${opener.kind}:${opener.issuer}:${opener.id}`,
    data: {
      opened_by: { kind: openedBy.kind, id: openedBy.id, issuer: openedBy.issuer },
      // An agent's words are what it would like to be believed.
      ...(opener.kind === 'agent' ? { claimed: words } : { stated: words }),
      agents: [...new Set(assignees.map(({ agent }) => agent))],
      roles: envelope.flatMap(({ role }) => {
        const known = roles.get(role)
        return known ? [{ name: role, access: known.access, sensitivity: known.sensitivity }] : []
      }),
    },
  }
}
