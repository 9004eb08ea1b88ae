import { PROVIDER_OF } from '../installation.js'

export type Selector = Readonly<Record<string, readonly string[]>>

/** Whether a stop is about what this agent has, or asks for: every dimension that it names has to match. `tasks`: its own, and those above it. */
export function covers(selector: Selector, { agent, role, tasks }: { agent?: string; role?: string; tasks: readonly string[] }): boolean {
  const facts: Readonly<Record<string, readonly (string | undefined)[]>> = {
    ...{ agent: [agent], role: [role], provider: [role === undefined ? undefined : PROVIDER_OF[role]] },
    // A task that is named alone is ended with all below it.
    task: Object.keys(selector).length > 1 ? tasks.slice(0, 1) : tasks,
  }
  return Object.entries(selector).every(([dimension, values]) => facts[dimension]?.some((fact) => fact !== undefined && values.includes(fact)))
}
