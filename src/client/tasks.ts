import type { EndAnswer, HeartbeatAnswer, Task, TaskDetailAnswer, TaskRequest } from '../api.js'
import type { CallOptions, Transport } from './transport.js'

/** `wait`: seconds to wait for the upstreams, at most 60; the answer then has the outcome of each lease. */
export type EndOptions = CallOptions & { readonly reason?: string; readonly wait?: number }

/** What an orchestrator does, and an agent for itself. */
export interface Tasks {
  /** Safe against a lost answer only with an `external_id`. */
  open(ask: TaskRequest, options?: CallOptions): Promise<Task>
  get(id: string, options?: CallOptions): Promise<TaskDetailAnswer>
  heartbeat(id: string, options?: CallOptions): Promise<HeartbeatAnswer>
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
    open: async (ask, options) => {
      const repeatable = ask.external_id !== undefined
      const { task } = await send<{ task: Task }>({ method: 'POST', path: 'v1/tasks', body: ask, repeatable, ...options })
      return task
    },
    get: (id, options) => send({ method: 'GET', path: at(id), repeatable: true, ...options }),
    heartbeat: (id, options) => send({ method: 'POST', path: at(id, '/heartbeat'), body: {}, repeatable: true, ...options }),
    complete: end('complete'),
    fail: end('fail'),
    cancel: end('cancel'),
  }
}
