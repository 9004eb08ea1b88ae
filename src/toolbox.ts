import { isPlainSegment } from './envelope.js'
import { MayflyError } from './errors.js'
import type { House } from './house.js'
import type { EnvelopeEntry, PlanStep, Task, ToolCheck, ToolEntry } from './types.js'

/** What a task is opened with besides its envelope. */
export interface Declared {
  readonly tools?: readonly ToolEntry[]
  readonly check?: ToolCheck
  readonly plan?: readonly PlanStep[]
}

/** Each tool once, of those that there are; and no step of a plan that could never be taken. */
export function checkDeclared({ tools: catalogue }: House, { tools = [], plan = [] }: Declared, envelope: readonly EnvelopeEntry[]): void {
  const seen = new Set<string>()
  for (const [index, { tool }] of tools.entries()) {
    if (!catalogue.has(tool)) throw invalid(`tools.${index}.tool`, `there is no tool "${tool}"`)
    if (seen.has(tool)) throw invalid(`tools.${index}.tool`, `tool "${tool}" is named twice`)
    seen.add(tool)
  }
  for (const [index, { tool, role }] of plan.entries()) {
    if (tool !== undefined && !seen.has(tool)) throw invalid(`plan.${index}.tool`, `tool "${tool}" is not among the tools of the task`)
    if (role !== undefined && !envelope.some((entry) => entry.role === role))
      throw invalid(`plan.${index}.role`, `role "${role}" is not in the envelope of the task`)
  }
}

/** Why a child would have more than its parent was opened with, or undefined. */
export function declaredOutside(parent: Task, { tools = [], check, plan }: Declared): string | undefined {
  if (check === 'sensitive_only' && parent.check !== check) return 'each call of the parent is checked, and so are those of its children'
  return toolsOutside(parent.tools ?? [], tools) ?? (parent.plan && plan && planOutside(parent.plan, plan))
}

/**
 * A task has the tools that it is given, which may be none; how they are checked, and the plan, are its parent's where nothing stricter is said.
 * To check every call is what it means to say nothing.
 */
export function declaredOf(parent: Declared, { tools, check = parent.check, plan = parent.plan }: Declared): Declared {
  return { tools, check: check === 'every_call' ? undefined : check, plan }
}

/** What is said of one call, as far as lists of tools and plans know of it. */
export interface Step {
  readonly tool: string
  readonly action: string
  readonly target: string
}

/** Why a task's tools do not cover a call, or the line that does. */
export function entryOf(tools: readonly ToolEntry[], { tool, action, target }: Step): ToolEntry | { outside: string } {
  const entry = tools.find((one) => one.tool === tool)
  if (!entry) return { outside: `tool "${tool}" is not among the tools of the task` }
  if (entry.actions && !entry.actions.includes(action)) return { outside: `the task lets tool "${tool}" do other actions than "${action}"` }
  if (entry.targets && !entry.targets.some((one) => covers(one, target))) return { outside: `the task lets tool "${tool}" touch other targets` }
  return entry
}

/** Whether every line of `inner` is within the line of `outer` for the same tool; with the reason when not. What `outer` limits, `inner` must limit too. */
export function toolsOutside(outer: readonly ToolEntry[], inner: readonly ToolEntry[]): string | undefined {
  for (const { tool, actions, targets, maxCalls } of inner) {
    const bound = outer.find((one) => one.tool === tool)
    if (!bound) return `tool "${tool}" is not among the tools there`
    if (bound.actions && !actions?.every((action) => bound.actions?.includes(action))) return `tool "${tool}" may only do some of the actions there`
    if (bound.targets && !targets?.every((target) => bound.targets?.some((one) => covers(one, target))))
      return `tool "${tool}" may only touch some of the targets there`
    if (bound.maxCalls !== undefined && (maxCalls ?? Number.POSITIVE_INFINITY) > bound.maxCalls)
      return `tool "${tool}" may be called at most ${bound.maxCalls} times`
  }
  return undefined
}

/** Whether a plan has a step for this. Without a plan, everything is a step. */
export function isPlanned({ plan }: Pick<Task, 'plan'>, what: Step | { readonly role: string }): boolean {
  return plan === undefined || plan.some((step) => isStep(step, what))
}

/** Whether every step of `inner` is one of `outer`; with the reason when not. */
export function planOutside(outer: readonly PlanStep[], inner: readonly PlanStep[]): string | undefined {
  const wider = inner.findIndex((step) => !outer.some((one) => isWithin(one, step)))
  return wider < 0 ? undefined : `step ${wider + 1} is no step of the plan there`
}

/** A lease is a step too: of the plan, and for a tool of the task where one is named. Why it is none, or undefined. */
export function leaseOutside(task: Task, { role, tool }: { readonly role: string; readonly tool?: string }): MayflyError | undefined {
  if (tool !== undefined && task.tools && !task.tools.some((entry) => entry.tool === tool))
    return outside(task, `tool "${tool}" is not among the tools of the task`)
  return isPlanned(task, { role }) ? undefined : unplanned(`obtaining the role "${role}"`)
}

/** A call that the tools of its task do not cover. */
export function outside({ tools }: Task, message: string): MayflyError {
  if (tools !== undefined) return new MayflyError('outside_tools', message)
  const next = 'have the task opened with the `tools` that it needs: one that lists none may call none'
  return new MayflyError('outside_tools', 'the task was opened without tools, so it calls none', { next })
}

export function unplanned(what: string): MayflyError {
  return new MayflyError('outside_plan', `${what} is no step of the plan that the task was opened with`)
}

function isStep(step: PlanStep, what: Step | { readonly role: string }): boolean {
  if ('role' in what) return step.role === what.role
  if (step.tool !== what.tool || (step.action !== undefined && step.action !== what.action)) return false
  return step.target === undefined || covers(step.target, what.target)
}

function isWithin(outer: PlanStep, inner: PlanStep): boolean {
  if (outer.role !== undefined || inner.role !== undefined) return outer.role === inner.role
  if (outer.tool !== inner.tool || (outer.action !== undefined && outer.action !== inner.action)) return false
  return outer.target === undefined || (inner.target !== undefined && covers(outer.target, inner.target))
}

const BELOW = '/*'

/**
 * Whether a target, or all that a pattern of targets stands for, is within a pattern. `a/*` is whatever is below `a`, never `a` itself; nothing
 * with an empty, `.` or `..` segment, however it is encoded, is below anything: whoever is called might read it as something above.
 */
export function covers(pattern: string, target: string): boolean {
  if (pattern === target) return true
  if (!pattern.endsWith(BELOW)) return false
  const above = pattern.slice(0, -1)
  if (!target.startsWith(above)) return false
  return target.slice(above.length).replace(/\/$/, '').split('/').every(isPlainSegment)
}

function invalid(path: string, message: string): MayflyError {
  return new MayflyError('request_invalid', `${path}: ${message}`, { issues: [{ path, message }] })
}
