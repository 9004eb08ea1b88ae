import type { ConfigFile } from './config-schema.js'
import type { ClassifierOptions } from './signals/classifier.js'
import type { Receiver, WebhookOptions } from './signals/webhooks.js'

/** Services of the operator's that are told, or asked: each with its address and a key of its own. */
export interface ApprovalsConfig {
  readonly ttlSeconds: number
  readonly grantedSeconds: number
  readonly openPerTask: number
  readonly openPerAgent: number
  readonly webhooks: readonly WebhookOptions[]
}
/** Asked what tasks are about. */
export interface ClassifierConfig extends ClassifierOptions {
  readonly when: 'unclassified' | 'always'
  /** Orchestrators whose word classifies where it would have been asked always. */
  readonly trust: readonly string[]
}

export function approvalsOf({ approvals }: ConfigFile, problems: string[]): ApprovalsConfig {
  const webhooks = approvals.webhooks.map((hook, index) => receiverOf(hook, `approvals.webhooks.${index}`, problems))
  const { ttl: ttlSeconds, granted_ttl: grantedSeconds, open_per_task: openPerTask, open_per_agent: openPerAgent } = approvals
  return { ttlSeconds, grantedSeconds, openPerTask, openPerAgent, webhooks }
}

export function classifierOf({ classifier, vocabulary }: ConfigFile, problems: string[]): ClassifierConfig | undefined {
  if (!classifier) return undefined
  const { timeout, concurrency, min_confidence, when, trust } = classifier
  if (vocabulary.intents.length === 0) problems.push('classifier: vocabulary.intents is empty, so that there is nothing to classify as')
  if (trust && when !== 'always') problems.push('classifier.trust: says nothing without "when: always": the word of every orchestrator classifies')
  const receiver = receiverOf(classifier, 'classifier', problems)
  const catalogue = vocabulary.intents
  return { ...receiver, timeoutMs: timeout, concurrency, minConfidence: min_confidence, when, trust: trust ?? [], catalogue }
}

function receiverOf(
  { url, secret, ca, allow_http_loopback, allow_private_addresses }: ConfigFile['approvals']['webhooks'][number],
  path: string,
  problems: string[],
): Receiver {
  if (!url.startsWith('https:') && !allow_http_loopback) problems.push(`${path}.url: must be https`)
  return { url, secret, ca, allowHttpLoopback: allow_http_loopback, allowPrivateAddresses: allow_private_addresses }
}
