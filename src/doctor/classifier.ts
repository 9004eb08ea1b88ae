import type { Config } from '../config.js'
import { idsOf } from '../identity/index.js'
import { postForJson } from '../identity/outbound.js'
import { ANSWERS, openClassifier, type Verdict } from '../signals/index.js'
import type { Finding } from './finding.js'

/** Puts a question to the classifier that nothing depends on. */
export async function classifierFindings({ classifier, identity }: Config): Promise<Finding[]> {
  if (!classifier) return []
  const { classify } = openClassifier(classifier, {
    ask: ({ url, ...rules }, { headers, body, ...bounds }) => postForJson(url, { headers, body }, { ...rules, ...bounds }),
    now: Date.now,
    onVerdict: () => {},
  })
  const data = { check: true, stated: { intent: 'mayfly doctor asks whether anybody answers' }, agents: [], roles: [] }
  const rules = identity.orchestrators ?? []
  const strangers = classifier.trust.filter((id) => !rules.some((rule) => idsOf(rule).test(id)))
  return [
    findingOf(await classify({ opener: 'doctor', data }), classifier.timeoutMs),
    ...strangers.map((id): Finding => {
      const mend = 'its word does not classify: name the orchestrator as its rule does'
      return { area: 'intents', level: 'warn', what: `classifier.trust names "${id}", and no orchestrator has that id`, mend }
    }),
  ]
}

function findingOf({ outcome, ms }: Verdict, timeoutMs: number): Finding {
  if (ANSWERS.has(outcome))
    return { area: 'intents', level: 'ok', what: `the classifier answers within ${ms} ms, of the ${timeoutMs} ms that it has` }
  const mend = 'until it answers, every task that it is asked about waits for a human: docs/classifier.md says what it has to answer'
  return { area: 'intents', level: 'fail', what: `the classifier gave no answer to a trial question: ${outcome}, after ${ms} ms`, mend }
}
