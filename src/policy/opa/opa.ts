import { LRUCache } from 'lru-cache'
import { type Decision, UNKNOWN_VERSION } from '../../types.js'
import { ACTIONS, familyOf, PRINCIPALS } from '../actions.js'
import { both, notTheirs, refusal } from '../decide.js'
import type { Policy, PolicyRequest } from '../policy.js'
import { typeOf } from '../request.js'
import { NoAnswer, type OpaAnswer } from './answer.js'
import { channelOf, createAsk, type OnAsked, type OpenChannel } from './ask.js'
import type { OpaOptions } from './options.js'
import { least } from './probe.js'
import { type Input, inputsOf } from './question.js'
import { stopAllowed } from './stop.js'

export interface OpaPolicy extends Policy {
  decide(request: PolicyRequest): Promise<Decision>
}
export interface OpaOutside {
  readonly open: OpenChannel
  readonly onAsked?: OnAsked
  /** Other policies decide than did before: it has been asked for that, also where nobody asked it anything. */
  readonly onOtherPolicies?: (version: string) => void
  /** Milliseconds that only grow. */
  readonly now?: () => number
}

/**
 * Policies in an Open Policy Agent -> what decides. Nothing is asked before somebody asks, so an OPA that is away keeps nobody from starting
 * and stopping; as long as it is, nothing is allowed.
 * @throws Error for an address that is never asked
 */
export function openOpa(options: OpaOptions, { open, onAsked, onOtherPolicies, now = () => performance.now() }: OpaOutside): OpaPolicy {
  const channel = channelOf(options, open)
  const ask = createAsk(options, channel, onAsked)
  const remembered = options.memoSize ? new LRUCache<string, { answer: OpaAnswer; until: number }>({ max: options.memoSize }) : undefined
  const memo = { hits: 0, misses: 0 }
  let version = UNKNOWN_VERSION

  const heard = ({ decision: { policyVersion } }: OpaAnswer): void => {
    if (policyVersion === version) return
    // What was said by the old ones is not said again.
    remembered?.clear()
    const isFirst = version === UNKNOWN_VERSION
    version = policyVersion
    if (!isFirst) onOtherPolicies?.(version)
  }
  const answerTo = async (input: Input): Promise<Decision> => {
    const key = remembered && JSON.stringify(input)
    const known = key === undefined ? undefined : remembered?.get(key)
    if (known && known.until > now()) {
      memo.hits++
      return known.answer.decision
    }
    memo.misses++
    const asked = now()
    const answer = await ask(input)
    heard(answer)
    if (key !== undefined && answer.maxAgeSeconds > 0) remembered?.set(key, { answer, until: asked + answer.maxAgeSeconds * 1000 })
    return answer.decision
  }

  const look = () =>
    void Promise.all(inputsOf(least('inspect'), options.vocabulary).map(ask)).then(
      ([answer]) => answer && heard(answer),
      () => undefined,
    )
  const watching = onOtherPolicies && setInterval(look, options.watchMs).unref()

  return {
    get version() {
      return version
    },
    memo,
    state: ask.state,
    async decide(request) {
      const nothing = { version, readsCounts: true }
      try {
        const { action, principal } = request
        if (!ACTIONS.includes(action)) return refusal('unknown action', nothing)
        if (!PRINCIPALS[familyOf(action)].includes(typeOf(principal))) return notTheirs(`${action} is not for ${principal.kind}s`, nothing)
        const isSecond = 'consent' in request && request.consent !== undefined
        const answers = await Promise.all(inputsOf(request, options.vocabulary).map(answerTo))
        return together(answers.map((one) => (isSecond ? withoutAsking(one) : one)))
      } catch (error) {
        const why = error instanceof Error ? error.message : 'the request could not be read'
        const isAway = error instanceof NoAnswer
        return (isAway && stopAllowed(request, options.stop, nothing)) || refusal(why, nothing, isAway && error.unavailable ? true : undefined)
      }
    },
    close() {
      clearInterval(watching)
      remembered?.clear()
      void channel.close()
    },
  }
}

/** With a consent nobody is asked again: what it is not enough for is a no. */
function withoutAsking(decision: Decision): Decision {
  if (decision.outcome !== 'step-up') return decision
  const { policies, reasons, policyVersion, readsCounts, decisionIds } = decision
  return { outcome: 'deny', policies, reasons, policyVersion, readsCounts, decisionIds }
}

function together(decisions: readonly Decision[]): Decision {
  const version = [...new Set(decisions.map(({ policyVersion }) => policyVersion))].join(' ')
  const decisionIds = decisions.flatMap((one) => one.decisionIds ?? [])
  const decided = both(decisions, { version, readsCounts: decisions.some(({ readsCounts }) => readsCounts) })
  return Object.freeze({ ...decided, ...(decisionIds.length > 0 && { decisionIds }) })
}
