import type { Access, Agent, Autonomy, Decision, Operator, Orchestrator, Principal, Role, Scope, Task, Tool } from '../types.js'

/** What is asked of the policy. Anything unknown arrives as its most restrictive value, never as a hole. */
export type PolicyRequest =
  | {
      readonly action: Access
      readonly principal: Agent
      readonly role: Role & { readonly revocation: 'immediate' | 'deny-policy' | 'at-expiry' }
      readonly task: Task
      readonly context: ObtainContext
      /** Groups whose consent a human gave to this very request. Present: asked as the second question after `step-up`, answered with allow or deny. */
      readonly consent?: readonly string[]
    }
  | { readonly action: 'callTool'; readonly principal: Agent; readonly tool: Tool; readonly task: Task; readonly call: PolicyCall }
  | { readonly action: 'openTask' | 'changeTask' | 'endTask'; readonly principal: Orchestrator | Agent; readonly task: PolicyTask }
  | { readonly action: 'delegate'; readonly principal: Principal; readonly task: PolicyTask; readonly delegation: Delegation }
  | { readonly action: 'approve'; readonly principal: Principal; readonly approval: PolicyApproval }
  | {
      readonly action: OperatorAction
      readonly principal: Principal
      readonly resource: { readonly type: OperatorResource; readonly id: string }
      /** As with a role: groups of which others agreed. */
      readonly consent?: readonly string[]
    }

export type OperatorAction = 'emergencyRevoke' | 'freeze' | 'thaw' | 'inspect' | 'simulate' | 'offboard' | 'drill' | 'reconcile' | 'liftQuarantine'
export type OperatorResource = 'Broker' | 'Agent' | 'Task' | 'Role' | 'Provider' | 'Issuer' | 'Human' | 'Orchestrator'
export type PolicyTask = Pick<Task, 'id' | 'intent' | 'classified' | 'classification' | 'environment' | 'openedBy' | 'envelope' | 'human'> & {
  /** Who opened the root of its tree, where that is another task. */
  readonly rootOpenedBy?: Task['openedBy']
}

/** What a tool is called for, in the words of whoever asks. */
export interface PolicyCall {
  readonly action: string
  readonly target: string
  readonly destination?: string
  /** Whoever stands in front of the tool asks, and the answer binds; false: the agent does, and it is advice. */
  readonly enforced: boolean
}

/** To whom a part of a task is handed on: the task asked about is the child. */
export interface Delegation {
  readonly to: string
  /** Its team by the configuration; none where that is not known, or not one. */
  readonly toTeams: readonly string[]
  /** The most that the configuration says of it; `autonomous` where it says nothing. */
  readonly toAutonomy: Autonomy
  /** Of the child: 1 below a root. */
  readonly depth: number
  readonly ttlSeconds: number
  /** The agents through which the child is delegated, who asks being the last. */
  readonly chain: readonly string[]
}

/** What a human is asked to agree to: whose request, for which role, and the groups whose consent it needs. */
export interface PolicyApproval {
  readonly id: string
  readonly agent: string
  readonly role: string
  readonly groups: readonly string[]
}

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
  /** Names what decides; of an engine elsewhere, what decided last. */
  readonly version: string
  /** Of the circuit before an engine elsewhere; absent: it is in this process. */
  state?(): 'closed' | 'open' | 'half-open'
  decide(request: PolicyRequest): Decision | Promise<Decision>
  /** For the metrics. */
  readonly memo: { readonly hits: number; readonly misses: number }
  close(): void
}

export type { Operator }
