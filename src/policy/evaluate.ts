import type { Action } from './actions.js'
import { type Cedar, newCedar, type PolicyJson, type Schema, told } from './cedar.js'
import type { EngineCall } from './request.js'

/** What an action is asked against. */
export interface PreparedAction {
  readonly schema: Schema
  /** Texts of the policies that cover it, by id. */
  readonly policies: Readonly<Record<string, string>>
  /** What bounds an allow, turned into permits: all those that apply are in the answer. Absent: nothing does. */
  readonly limits?: Readonly<Record<string, PolicyJson>>
}
/** `policies` are those that decided, sorted: the permits of an allow, the forbids of a deny, none where nothing allows. */
export type Answer = { readonly decision: 'allow' | 'deny'; readonly policies: readonly string[] } | { readonly error: string }

const MAX_ERROR = 300

/**
 * The engine with one policy set for each action, prepared. Prepared sets are never freed within an instance, so each policy version has
 * an instance of its own, and a reload leaves nothing behind. State: the instance, and what is prepared in it.
 */
export class Engine {
  #cedar: Cedar | undefined
  readonly #prepared = new Set<string>()

  constructor(private readonly actions: ReadonlyMap<Action, PreparedAction>) {}

  /** Never throws: whatever is not an answer without errors is an error, and the instance in which something threw is let go. */
  evaluate(call: EngineCall, action: Action, of: 'policies' | 'limits' = 'policies'): Answer {
    try {
      const cedar = this.#ready(action, of)
      const answer = cedar.statefulIsAuthorized({
        ...call,
        preparsedPolicySetId: setOf(action, of),
        preparsedSchemaName: action,
        validateRequest: true,
      })
      if (answer.type !== 'success') return failed(told(answer.errors))
      const { decision, diagnostics } = answer.response
      // A policy that errs is skipped, also a forbid: what remains must not be taken for the answer.
      if (diagnostics.errors.length > 0) return failed(diagnostics.errors.map(({ policyId, error }) => `${policyId}: ${error.message}`).join('; '))
      if (decision !== 'allow' && decision !== 'deny') return failed('an unknown decision')
      return { decision, policies: [...diagnostics.reason].sort() }
    } catch (error) {
      this.discard()
      return failed(`the engine threw: ${error instanceof Error ? error.message : String(error)}`)
    }
  }

  /** Frees everything; a later question starts anew. */
  discard(): void {
    this.#cedar = undefined
    this.#prepared.clear()
  }

  #ready(action: Action, of: 'policies' | 'limits'): Cedar {
    this.#cedar ??= newCedar()
    const id = setOf(action, of)
    if (this.#prepared.has(id)) return this.#cedar
    const { schema, [of]: staticPolicies } = this.actions.get(action) ?? {}
    if (!schema || !staticPolicies) throw new TypeError(`unknown action ${action}`)
    for (const answer of [this.#cedar.preparseSchema(action, schema), this.#cedar.preparsePolicySet(id, { staticPolicies })]) {
      if (answer.type === 'failure') throw new Error(told(answer.errors))
    }
    this.#prepared.add(id)
    return this.#cedar
  }
}

function setOf(action: Action, of: 'policies' | 'limits'): string {
  return of === 'policies' ? action : `${action} limits`
}

/** Texts of the engine may quote the request: bounded, and without control characters. */
function failed(error: string): Answer {
  return {
    error: error
      .replace(/[\p{Cc}\u2028\u2029]/gu, ' ')
      .slice(0, MAX_ERROR)
      .toWellFormed(),
  }
}
