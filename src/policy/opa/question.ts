import { isCall, isObtain } from '../actions.js'
import { confidence, UNCLASSIFIED, UNKNOWN_ENVIRONMENT } from '../attributes.js'
import { documentOf } from '../document.js'
import type { PolicyOptions } from '../options.js'
import type { PolicyRequest } from '../policy.js'

/** `input`: the request in the form of cases, with everything said; and for whom it is asked. */
export type Input = ReturnType<typeof documentOf> & { readonly principal: Asker }
export type Asker = PolicyRequest['principal']['kind'] | 'human'

/**
 * What an OPA is asked: once, and on behalf of a human once more for the human. What is in no vocabulary is told as unknown, as Cedar's schema
 * would have it.
 * @throws TypeError for what would not arrive as it is meant
 */
export function inputsOf(request: PolicyRequest, vocabulary: PolicyOptions['vocabulary']): Input[] {
  if (isObtain(request) && request.action !== request.role.access)
    throw new TypeError(`the role is for ${request.role.access}, not for ${request.action}`)
  const document = documentOf(withConduct(withinVocabulary(request, vocabulary)))
  allPlain(document)
  const onBehalf = (isObtain(request) || isCall(request)) && request.task.human !== undefined
  const askers: Asker[] = onBehalf ? ['agent', 'human'] : [request.principal.kind]
  return askers.map((principal) => ({ ...document, principal }))
}

function withinVocabulary(request: PolicyRequest, { intents, environments }: PolicyOptions['vocabulary']): PolicyRequest {
  if (!('task' in request)) return request
  // Whoever has no say can put any word there, also one of the catalogue.
  const intent = request.task.classified && intents.includes(request.task.intent) ? request.task.intent : UNCLASSIFIED
  const environment = environments.includes(request.task.environment) ? request.task.environment : UNKNOWN_ENVIRONMENT
  const classified = intent !== UNCLASSIFIED
  if (!isObtain(request) && !isCall(request)) return { ...request, task: { ...request.task, intent, classified, environment } } as PolicyRequest
  const sure = Number(confidence(request.task.confidence))
  return { ...request, task: { ...request.task, intent, environment, classified, confidence: sure } }
}

/** Where nothing is counted, nothing happened: a policy that reads it need not ask whether it is there. */
function withConduct(request: PolicyRequest): PolicyRequest {
  const { principal } = request
  if (principal.kind !== 'agent' || principal.conduct) return request
  return { ...request, principal: { ...principal, conduct: { risk: 0, recent: { read: 0, write: 0, escalate: 0 } } } } as PolicyRequest
}

/** A lone surrogate becomes another character on the way, a number that is none becomes `null`, which is less than any: neither is what was meant. */
function allPlain(value: unknown): void {
  if (typeof value === 'string' && !value.isWellFormed()) throw new TypeError('a string is not well-formed Unicode')
  if (typeof value === 'number' && !(Math.abs(value) <= Number.MAX_SAFE_INTEGER)) throw new TypeError('a number was expected')
  if (typeof value !== 'object' || value === null) return
  for (const [key, inner] of Object.entries(value)) {
    allPlain(key)
    allPlain(inner)
  }
}
