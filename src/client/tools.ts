import type { ToolCall, ToolCallAnswer, ToolCallRequest, ToolCallsAnswer } from '../api.js'
import type { CallOptions, Transport } from './transport.js'

/** For gateways: in whose stead they ask, by the agent's name or by a token signed by Mayfly that it showed. */
export type InStead = Pick<ToolCallRequest, 'agent' | 'issuer' | 'instance' | 'token'>
/** What was decided of each of several calls, in their order. */
export type DecidedCall = Extract<ToolCallsAnswer, { calls: unknown }>['calls'][number]

/** Whether tools may be called. Asking makes no call, and is recorded: it is never sent twice. */
export interface Tools {
  /** @throws MayflyApiError where it may not be: `tool_unknown`, `outside_tools`, `outside_plan`, `denied`, `task_ended`, … */
  check(task: string, call: ToolCall & InStead, options?: CallOptions): Promise<ToolCallAnswer>
  /** Up to 64, decided in this order; a denial is an answer here, and keeps nothing that comes after it from being decided. */
  checkAll(task: string, calls: readonly ToolCall[], options?: CallOptions & InStead): Promise<DecidedCall[]>
}

export function tools(send: Transport): Tools {
  const ask = <Answer>(task: string, body: object, { signal }: CallOptions) =>
    send<Answer>({ method: 'POST', path: `v1/tasks/${encodeURIComponent(task)}/tool-calls`, body, repeatable: false, signal })
  return {
    check: (task, call, options = {}) => ask(task, call, options),
    checkAll: async (task, calls, { agent, issuer, instance, token, ...options } = {}) => {
      const { calls: decided } = await ask<{ calls: DecidedCall[] }>(task, { calls, agent, issuer, instance, token }, options)
      return decided
    },
  }
}
