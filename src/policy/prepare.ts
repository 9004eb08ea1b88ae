import type { Decision } from '../types.js'
import { ACTIONS, type Action, familyOf, PRINCIPALS } from './actions.js'
import { type Attributes, attributes, UNCLASSIFIED, UNKNOWN_ENVIRONMENT } from './attributes.js'
import { type Cedar, newCedar, told } from './cedar.js'
import { decide, decideWith, notTheirs, type Rules, refusal } from './decide.js'
import { Engine, type PreparedAction } from './evaluate.js'
import { ancestorsIn } from './hierarchy.js'
import { type Loaded, loadPolicies, textsOf } from './load.js'
import { Memo } from './memo.js'
import { binding } from './observe.js'
import { DEFAULT_MEMO_SIZE, type PolicyOptions } from './options.js'
import type { Policy, PolicyRequest } from './policy.js'
import { PolicyProblems } from './problems.js'
import { projectionOf } from './projection.js'
import { type Ancestors, type Form, formOf, keyOf, typeOf } from './request.js'
import { projectSchema, whole } from './schema.js'

/** A policy whose answers need no waiting. */
export interface SyncPolicy extends Policy {
  decide(request: PolicyRequest): Decision
}

interface Prepared extends PreparedAction {
  readonly form: Form
  readonly rules: Rules
}

/**
 * Policies as text -> what decides, without what is only observed. Parses in this thread: a hostile text must have passed
 * `checkCandidate` before.
 * @throws PolicyProblems with all that is wrong
 */
export function preparePolicy(given: PolicyOptions): SyncPolicy {
  const options = binding(given)
  const cedar = newCedar()
  const loaded = loadPolicies(cedar, options)
  const { intents, environments } = options.vocabulary
  const table = attributes({ intents: new Set([...intents, UNCLASSIFIED]), environments: new Set([...environments, UNKNOWN_ENVIRONMENT]) })
  const ancestors = ancestorsIn(options)
  const actions = new Map(ACTIONS.map((action) => [action, prepareAction(cedar, loaded, action, table, ancestors)]))
  const engine = new Engine(actions)
  tryOut(engine, actions)
  const memo = new Memo(options.memoSize ?? DEFAULT_MEMO_SIZE)
  const nothing = { version: loaded.version, readsCounts: false }

  return {
    version: loaded.version,
    memo,
    decide(request) {
      try {
        const { action, principal } = request
        const prepared = actions.get(action)
        if (!prepared) return refusal('unknown action', nothing)
        const { form, rules } = prepared
        if (!PRINCIPALS[familyOf(action)].includes(typeOf(principal))) return notTheirs(`${action} is not for ${principal.kind}s`, rules)
        const question = form.ask(request)
        const consent = 'consent' in request ? request.consent : undefined
        const key = consent ? `${consent.join(' ')} ${keyOf(action, question)}` : keyOf(action, question)
        const known = memo.get(key)
        if (known) return known
        const who = question.human ? [question.principal, question.human] : [question.principal]
        const asks = who.map((one) => {
          const ask = (groups: readonly string[]) => engine.evaluate(form.write(question, one, groups), action)
          return Object.assign(ask, { limits: prepared.limits && (() => engine.evaluate(form.write(question, one, []), action, 'limits')) })
        })
        const decision = consent ? decideWith(asks, consent, rules) : decide(asks, rules)
        memo.set(key, decision)
        return decision
      } catch (error) {
        return refusal(error instanceof Error ? error.message : 'the request could not be read', nothing)
      }
    },
    close() {
      memo.clear()
      engine.discard()
    },
  }
}

/** The policies that cover an action, and as much of the schema as they read: the less the engine is given, the faster it answers. */
function prepareAction(cedar: Cedar, loaded: Loaded, action: Action, table: Attributes, ancestors: Ancestors): Prepared {
  const covering = [...loaded.policies.values()].filter(({ actions }) => actions.has(action))
  const projection = projectionOf(action, covering, table)
  const schema = whole(projectSchema(loaded.schema, action, projection.reads))
  // The proof that they read nothing else: they are valid where there is nothing else.
  const answer = cedar.validate({ schema, policies: { staticPolicies: textsOf(covering) } })
  const wrong = answer.type === 'failure' ? answer.errors : answer.validationErrors.map(({ error }) => error)
  if (wrong.length > 0) throw new PolicyProblems([{ path: `policies for ${action}`, message: told(wrong) }])
  const rules = { policies: loaded.policies, version: loaded.version, readsCounts: projection.readsCounts }
  const limits = covering.filter(({ isLimit }) => isLimit)
  return {
    schema,
    policies: textsOf(covering.filter(({ isLimit }) => !isLimit)),
    limits: limits.length === 0 ? undefined : Object.fromEntries(limits.map(({ id, json }) => [id, { ...json, effect: 'permit' as const }])),
    rules,
    form: formOf(action, projection, table, ancestors),
  }
}

/** A schema that does not fit what the broker sends would turn each request into an error; better told now. */
function tryOut(engine: Engine, actions: ReadonlyMap<Action, Prepared>): void {
  const problems = [...actions].flatMap(([action, { form, limits }]) =>
    form.samples().flatMap((sample) =>
      (['policies', 'limits'] as const).flatMap((of) => {
        if (of === 'limits' && !limits) return []
        const answer = engine.evaluate(form.write(sample, sample.principal, []), action, of)
        return 'error' in answer ? { path: `${action} by ${sample.principal.type}`, message: answer.error } : []
      }),
    ),
  )
  if (problems.length > 0) throw new PolicyProblems(problems)
}
