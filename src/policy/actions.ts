import type { PolicyRequest } from './policy.js'

export const OBTAIN_ACTIONS = ['read', 'write', 'escalate'] as const
export const TOOL_ACTIONS = ['callTool'] as const
export const TASK_ACTIONS = ['openTask', 'changeTask', 'endTask'] as const
export const DELEGATE_ACTIONS = ['delegate'] as const
export const APPROVAL_ACTIONS = ['approve'] as const
export const OPERATOR_ACTIONS = [
  'emergencyRevoke',
  'freeze',
  'thaw',
  'inspect',
  'simulate',
  'offboard',
  'drill',
  'reconcile',
  'liftQuarantine',
] as const
export const ACTIONS = [...OBTAIN_ACTIONS, ...TOOL_ACTIONS, ...TASK_ACTIONS, ...DELEGATE_ACTIONS, ...APPROVAL_ACTIONS, ...OPERATOR_ACTIONS] as const

export type Action = PolicyRequest['action']
export type ObtainRequest = Extract<PolicyRequest, { role: unknown }>
export type CallRequest = Extract<PolicyRequest, { call: unknown }>
export type TaskRequest = Exclude<Extract<PolicyRequest, { task: unknown }>, { role: unknown } | { call: unknown } | { delegation: unknown }>
export type DelegateRequest = Extract<PolicyRequest, { delegation: unknown }>
export type ApprovalRequest = Extract<PolicyRequest, { approval: unknown }>
/** Actions that are asked in the same way. */
export type Family = 'obtain' | 'call' | 'task' | 'delegate' | 'approval' | 'operator'

export function isObtain(request: PolicyRequest): request is ObtainRequest {
  return OBTAIN_ACTIONS.some((action) => action === request.action)
}
export function isCall(request: PolicyRequest): request is CallRequest {
  return TOOL_ACTIONS.some((action) => action === request.action)
}
export function isTask(request: PolicyRequest): request is TaskRequest {
  return TASK_ACTIONS.some((action) => action === request.action)
}
export function isDelegate(request: PolicyRequest): request is DelegateRequest {
  return DELEGATE_ACTIONS.some((action) => action === request.action)
}
export function isApproval(request: PolicyRequest): request is ApprovalRequest {
  return APPROVAL_ACTIONS.some((action) => action === request.action)
}
export function familyOf(action: Action): Family {
  if (OBTAIN_ACTIONS.some((one) => one === action)) return 'obtain'
  if (TOOL_ACTIONS.some((one) => one === action)) return 'call'
  if (DELEGATE_ACTIONS.some((one) => one === action)) return 'delegate'
  if (APPROVAL_ACTIONS.some((one) => one === action)) return 'approval'
  return TASK_ACTIONS.some((one) => one === action) ? 'task' : 'operator'
}

/** Entity types that may ask; anyone else is refused without asking the engine. */
export const PRINCIPALS: Readonly<Record<Family, readonly string[]>> = {
  obtain: ['Agent', 'Human'],
  call: ['Agent', 'Human'],
  task: ['Orchestrator', 'Agent'],
  delegate: ['Agent'],
  approval: ['Operator'],
  operator: ['Operator'],
}
export const OPERATOR_RESOURCES = ['Broker', 'Agent', 'Task', 'Role', 'Provider', 'Issuer', 'Human', 'Orchestrator'] as const
