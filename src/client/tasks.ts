import type { ChildRequest, ContextAnswer, ContextRequest, EndAnswer, HeartbeatAnswer, Task, TaskDetailAnswer, TaskRequest } from '../api.js'
import { type CallOptions, type OnBehalfOf, type Transport, withHuman } from './transport.js'

/** `wait`: seconds to wait for the upstreams, at most 60; the answer then has the outcome of each lease. */
export type EndOptions = CallOptions & { readonly reason?: string; readonly wait?: number }

/** What an orchestrator does, and an agent for itself. */
export interface Tasks {
  /** Safe against a lost answer only with an `external_id`. */
  open(ask: TaskRequest, options?: CallOptions & OnBehalfOf): Promise<Task>
  get(id: string, options?: CallOptions): Promise<TaskDetailAnswer>
  heartbeat(id: string, options?: CallOptions): Promise<HeartbeatAnswer>
  /** What decisions depend on. Live leases that are no longer allowed are revoked: the answer tells which; with `wait`, what became of them. */
  changeContext(id: string, change: ContextRequest, options?: CallOptions & { wait?: number }): Promise<ContextAnswer>
  /** Hands a part of a task on to other agents, within its envelope and time. Not safe against a lost answer. */
  delegate(id: string, ask: ChildRequest, options?: CallOptions): Promise<Task>
  complete(id: string, options?: EndOptions): Promise<EndAnswer>
  fail(id: string, options?: EndOptions): Promise<EndAnswer>
  cancel(id: string, options?: EndOptions): Promise<EndAnswer>
}

export function tasks(send: Transport): Tasks {
  const at = (id: string, what = '') => `v1/tasks/${encodeURIComponent(id)}${what}`
  const end =
    (how: 'complete' | 'fail' | 'cancel') =>
    (id: string, { reason, wait, signal }: EndOptions = {}): Promise<EndAnswer> =>
      send({ method: 'POST', path: at(id, `/${how}`), query: { wait }, body: { reason }, waitSeconds: wait, repeatable: true, signal })
  return {
    open: async (ask, { signal, onBehalfOf } = {}) => {
      const repeatable = ask.external_id !== undefined
      const { task } = await send<{ task: Task }>({ method: 'POST', path: 'v1/tasks', body: withHuman(ask, onBehalfOf), repeatable, signal })
      return task
    },
    get: (id, options) => send({ method: 'GET', path: at(id), repeatable: true, ...options }),
    heartbeat: (id, options) => send({ method: 'POST', path: at(id, '/heartbeat'), body: {}, repeatable: true, ...options }),
    changeContext: (id, change, { wait, signal } = {}) =>
      send({ method: 'PATCH', path: at(id, '/context'), query: { wait }, body: change, waitSeconds: wait, repeatable: true, signal }),
    delegate: async (id, ask, options) => {
      const { task } = await send<{ task: Task }>({ method: 'POST', path: at(id, '/children'), body: ask, repeatable: false, ...options })
      return task
    },
    complete: end('complete'),
    fail: end('fail'),
    cancel: end('cancel'),
  }
}
