import type { Access, Agent, Decision, Operator, Orchestrator, Principal, Role, Scope, Task } from '../types.js'

/** What is asked of the policy. Anything unknown arrives as its most restrictive value, never as a hole. */
export type PolicyRequest =
  | {
      readonly action: Access
      readonly principal: Agent
      readonly role: Role & { readonly revocation: 'immediate' | 'deny-policy' | 'at-expiry' }
      readonly task: Task
      readonly context: ObtainContext
    }
  | { readonly action: 'openTask' | 'changeTask' | 'endTask'; readonly principal: Orchestrator | Agent; readonly task: PolicyTask }
  | { readonly action: OperatorAction; readonly principal: Principal; readonly resource: { readonly type: OperatorResource; readonly id: string } }

export type OperatorAction = 'approve' | 'emergencyRevoke' | 'freeze' | 'thaw' | 'inspect' | 'simulate' | 'offboard'
export type OperatorResource = 'Broker' | 'Agent' | 'Task' | 'Role' | 'Provider' | 'Issuer' | 'Human' | 'Orchestrator'
export type PolicyTask = Pick<Task, 'id' | 'intent' | 'classification' | 'environment' | 'openedBy' | 'envelope' | 'human'>

export interface ObtainContext {
  readonly renewal: boolean
  /** The least of request, role and envelope, before any clamp that depends on the clock. */
  readonly ttlSeconds: number
  readonly scope: Scope
  readonly tool?: { readonly name: string; readonly access: Access }
  readonly destination?: string
  /** Whether the destination is outside: unknown is outside. */
  readonly external: boolean
}

/** One function behind which every engine fails closed: a throw inside, an error or an unknown answer is a deny. */
export interface Policy {
  readonly version: string
  decide(request: PolicyRequest): Decision | Promise<Decision>
  /** For the metrics. */
  readonly memo: { readonly hits: number; readonly misses: number }
  close(): void
}

export type { Operator }
