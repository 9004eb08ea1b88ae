import type { ChildRequest, ContextAnswer, ContextRequest, IssuedAnswer, LeaseRequest, Task, TaskRequest, ToolCall, ToolCallAnswer } from '../api.js'
import type { Leases, WaitOptions } from './leases.js'
import type { Tasks } from './tasks.js'
import type { Tools } from './tools.js'
import type { CallOptions, OnBehalfOf } from './transport.js'

/** A task while its block runs. */
export interface OpenTask {
  readonly id: string
  readonly task: Task
  /** Aborted when the task has ended without the block (deadline, heartbeat, an operator's stop), or the caller's own signal was. */
  readonly signal: AbortSignal
  /** `wait`: seconds that humans have to agree, where policy asks for one; else `MayflyApprovalPending` is thrown. */
  obtain(role: string, ask?: Omit<LeaseRequest, 'task' | 'role'>, options?: Pick<WaitOptions, 'wait' | 'onBehalfOf'>): Promise<IssuedAnswer>
  /** Whether a tool may be called now, for this task. @throws MayflyApiError where it may not */
  checkTool(tool: string, ask: Omit<ToolCall, 'tool'>): Promise<ToolCallAnswer>
  /** Makes a call only where it may be: `make` is not run otherwise. Its own errors are thrown on. @throws MayflyApiError where it may not */
  call<T>(tool: string, ask: Omit<ToolCall, 'tool'>, make: (allowed: ToolCallAnswer) => Promise<T>): Promise<T>
  /** A child task for other agents; it ends with this one at the latest. */
  delegate(ask: ChildRequest): Promise<Task>
  /** What decisions depend on; an agent may only make it stricter. */
  changeContext(change: ContextRequest): Promise<ContextAnswer>
}

/** A heartbeat may be lost twice before the task is given up. */
const BEATS_PER_PERIOD = 3

/**
 * Opens a task, runs `block` and completes it; fails it when the block throws. Either way every lease of the task is revoked. Sends
 * heartbeats where the task asks for them. What the block threw is thrown on, and never sent: it could hold a secret.
 */
export async function runTask<T>(
  calls: { leases: Leases; tasks: Tasks; tools: Tools },
  ask: TaskRequest,
  block: (task: OpenTask) => Promise<T>,
  options: CallOptions & OnBehalfOf = {},
): Promise<T> {
  const task = await calls.tasks.open(ask, options)
  const over = new AbortController()
  const signal = options.signal ? AbortSignal.any([options.signal, over.signal]) : over.signal
  const stopBeating = beat(calls.tasks, task, over)
  const delegate: OpenTask['delegate'] = (ask) => calls.tasks.delegate(task.id, ask, { signal })
  const changeContext: OpenTask['changeContext'] = (change) => calls.tasks.changeContext(task.id, change, { signal })
  const obtain: OpenTask['obtain'] = (role, more = {}, { wait, onBehalfOf } = {}) =>
    calls.leases.obtain({ ...more, task: task.id, role }, { wait, onBehalfOf, signal })
  const checkTool: OpenTask['checkTool'] = (tool, more) => calls.tools.check(task.id, { ...more, tool }, { signal })
  const call: OpenTask['call'] = async (tool, more, make) => make(await checkTool(tool, more))
  let result: T
  try {
    result = await block({ id: task.id, task, signal, obtain, checkTool, call, delegate, changeContext })
  } catch (error) {
    stopBeating()
    // The end that cannot be told comes by itself, with the deadline or the missed heartbeat: the block's own error matters more.
    await calls.tasks.fail(task.id, { reason: 'the block threw' }).catch(() => {})
    throw error
  }
  stopBeating()
  await calls.tasks.complete(task.id)
  return result
}

function beat(tasks: Tasks, task: Task, over: AbortController): () => void {
  if (task.heartbeat_seconds === undefined) return () => {}
  const timer = setInterval(
    () => {
      tasks.heartbeat(task.id).then(
        ({ state }) => {
          if (state !== 'active') over.abort(new Error(`task ${task.id} is ${state}`))
        },
        () => {}, // the next one may get through
      )
    },
    (task.heartbeat_seconds * 1000) / BEATS_PER_PERIOD,
  )
  return () => clearInterval(timer)
}
