import type { Decision } from '../types.js'
import type { Action } from './actions.js'
import type { PolicyOptions } from './options.js'
import type { PolicyRequest } from './policy.js'
import type { SyncPolicy } from './prepare.js'

/** What would have been decided if the observed files were binding too. */
export type OnDifference = (what: { readonly action: Action; readonly decided: Decision['outcome']; readonly observed: Decision['outcome'] }) => void

/** Without the files that are only observed. */
export function binding(options: PolicyOptions): PolicyOptions {
  return observes(options) ? { ...options, files: options.files.filter(({ mode }) => mode !== 'observe') } : options
}

/** As if every file were binding. */
export function unbound(options: PolicyOptions): PolicyOptions {
  return { ...options, files: options.files.map(({ name, text }) => ({ name, text })) }
}

export function observes({ files }: PolicyOptions): boolean {
  return files.some(({ mode }) => mode === 'observe')
}

/**
 * `bound` decides. What `all`, the observed files among them, would have decided is written beside it and changes nothing: also not where
 * it fails.
 */
export function observe(bound: SyncPolicy, all: SyncPolicy, onDifference: OnDifference): SyncPolicy {
  return {
    version: bound.version,
    memo: bound.memo,
    decide(request: PolicyRequest) {
      const decision = bound.decide(request)
      const { outcome, policies, error } = all.decide(request)
      if (outcome !== decision.outcome) onDifference({ action: request.action, decided: decision.outcome, observed: outcome })
      return Object.freeze({ ...decision, observed: Object.freeze({ outcome, policies, error }) })
    },
    close() {
      bound.close()
      all.close()
    },
  }
}
