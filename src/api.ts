/**
 * The wire: every request and answer as a zod schema. `http` validates with them, `client` and `cli` take their types, and OpenAPI 3.1
 * is generated from them. snake_case; times are RFC 3339 UTC; durations are whole seconds. Imports nothing of ours.
 */
import { z } from 'zod'

// --- parts

/** A string that Cedar, Redis and the logs can all carry: well-formed Unicode, no control characters. */
const hasControl = (s: string): boolean => /[\p{Cc}\p{Zl}\p{Zp}]/u.test(s)
const text = (max: number) =>
  z
    .string()
    .max(max)
    .refine((s) => s.isWellFormed() && !hasControl(s), 'must be well-formed text without control characters')
const word = text(256).min(1)
export const TASK_ID = /^task_[0-9]{2}[a-z2-7]{26}$/
export const LEASE_ID = /^lease_[0-9]{2}[a-z2-7]{26}$/
export const FREEZE_ID = /^freeze_[0-9]{2}[a-z2-7]{26}$/
export const APPROVAL_ID = /^approval_[0-9]{2}[a-z2-7]{26}$/
/** What a selector may name. */
export const AGENT_ID = /^[^\p{Cc}\p{Zl}\p{Zp}]{1,256}$/u
export const REVOCATION_ID = /^revocation_[0-9]{2}[a-z2-7]{26}$/
const taskId = z.string().regex(TASK_ID, 'must be a task id').meta({ id: 'TaskId' })
const leaseId = z.string().regex(LEASE_ID, 'must be a lease id').meta({ id: 'LeaseId' })
const approvalId = z.string().regex(APPROVAL_ID, 'must be an approval id').meta({ id: 'ApprovalId' })
const seconds = z.int().min(1).max(31_536_000)
const time = z.iso.datetime()
const access = z.enum(['read', 'write', 'escalate'])
const sensitivity = z.enum(['public', 'internal', 'confidential', 'restricted'])

export const Scope = z
  .record(z.string().regex(/^[a-z][a-z0-9_]{0,31}$/), z.union([text(512).min(1), z.array(text(512).min(1)).min(1).max(64)]))
  .refine((scope) => Object.keys(scope).length <= 16, 'at most 16 keys')
  .meta({ id: 'Scope' })

export const Labels = z
  .record(z.string().regex(/^[a-z][a-z0-9_.-]{0,62}$/), text(256))
  .refine((labels) => Object.keys(labels).length <= 32, 'at most 32 labels')

// --- leases

const consent = {
  approval: approvalId.optional().describe('a granted approval of this very request'),
  can_wait: z.boolean().optional().describe('false: where a human would have to agree, refuse instead of asking one'),
}
/** A human's token, compact JWS; whatever else it is, the answer says only that it is not good. */
const onBehalfOf = z.string().min(1).max(8_192).optional()
export const HumanProof = z
  .object({ issuer: z.string().describe('its name in the configuration'), team: z.string().optional(), groups: z.array(z.string()) })
  .meta({ id: 'HumanProof' })
const behalf = {
  human: z.string().optional().describe('on whose behalf'),
  human_proof: HumanProof.optional().describe("what the human's own token showed; absent: somebody named them"),
}
export const LeaseRequest = z
  .strictObject({
    task: taskId,
    role: word,
    ttl: seconds.optional().describe('asked for; what is given is the least of this, role, envelope, policy and task deadline'),
    scope: Scope.optional().describe("narrows the role's scope; never widens"),
    reason: text(1024).optional().describe("the agent's own words; recorded, never decided on"),
    tool: word.optional(),
    destination: text(512).optional(),
    on_behalf_of: onBehalfOf.describe(
      'a token of the human on whose behalf it is asked, which names this agent as its audience or in `may_act`: both the agent and the human must be allowed',
    ),
    ...consent,
  })
  .meta({ id: 'LeaseRequest' })
export const RenewRequest = z
  .strictObject({
    ttl: seconds.optional(),
    on_behalf_of: onBehalfOf.describe('a newer token of the same human: needed where the lease was obtained with one'),
    ...consent,
  })
  .meta({ id: 'RenewRequest' })

export const LeaseState = z.enum(['pending', 'active', 'closing', 'revoked', 'expired'])
export const Lease = z
  .object({
    id: leaseId,
    task: z
      .union([taskId, z.literal('')])
      .describe('empty, as agent and role are, where nobody knows any more: it was found upstream (cause `orphan`)'),
    agent: z.string(),
    role: z.string(),
    provider: z.string(),
    access,
    ...behalf,
    state: LeaseState,
    issued_at: time,
    expires_at: time,
    usable_until: time
      .optional()
      .describe(
        'there where the upstream gives no life as short as asked for: the lease is taken back at `expires_at`; what a revoke has not ended works until then',
      ),
    renewable_until: time,
    renewals: z.int().optional().describe('how often it was renewed so far, with the leases that it took over from'),
    revocation: z.object({
      mode: z.enum(['immediate', 'deny-policy', 'at-expiry']),
      residual_seconds: z.int().describe('worst case between a confirmed revoke and "no longer works"'),
    }),
    scope: Scope,
    cause: z.string().optional(),
    settled_at: time.optional(),
    last_error: z.string().optional().describe('why the last attempt to revoke failed'),
  })
  .meta({ id: 'Lease' })

export const Credential = z
  .looseObject({
    type: z.string(),
    env: z.record(z.string(), z.string()),
    expires_at: time,
  })
  .meta({ id: 'Credential' })
export const LeaseAnswer = z.object({ lease: Lease }).meta({ id: 'LeaseAnswer' })
export const IssuedAnswer = z.object({ lease: Lease, credential: Credential }).meta({ id: 'IssuedAnswer' })
export const RenewedAnswer = z.object({ lease: Lease, credential: Credential.optional() }).meta({ id: 'RenewedAnswer' })

/** Of a task. */
const classifiedBy = z.enum(['orchestrator', 'classifier']).optional()
const statedIntent = z.string().optional().describe('what its opener called it, where the classifier found another name')

// --- approvals

export const Approval = z
  .object({
    id: approvalId,
    state: z.enum(['open', 'granted', 'bound', 'spent', 'denied', 'expired']),
    next: z
      .enum(['wait', 'present', 'ask_again', 'ask_differently', 'none'])
      .describe('what the asker can do: `present` it as `approval` in the same request; `ask_differently` until the context of the task changes'),
    task: taskId,
    agent: z.string(),
    instance: z.string().optional(),
    role: z.string(),
    needs: z.array(z.object({ group: z.string(), approvals: z.int(), given: z.int() })),
    asked_at: time,
    expires_at: time.describe('of an open one, when it is too late to agree; of a granted one, to use it'),
    lease: leaseId.optional().describe('that holds it or has spent it'),
    cause: z.string().optional().describe('why it expired'),
    request: z
      .object({
        owner: z.string(),
        autonomy: z.string(),
        provider: z.string(),
        access,
        sensitivity,
        revocation: z.object({ mode: z.enum(['immediate', 'deny-policy', 'at-expiry']), residual_seconds: z.int() }),
        scope: Scope,
        ttl: z.int(),
        renews: leaseId.optional(),
        ...behalf,
        intent: z.string(),
        stated_intent: statedIntent,
        classified: z.boolean(),
        classified_by: classifiedBy,
        confidence: z.number(),
        classification: sensitivity,
        environment: z.string(),
        opened_by: z.object({ kind: z.enum(['agent', 'orchestrator']), id: z.string() }),
        task_deadline_at: time,
      })
      .describe('what is decided on, as the broker knows it'),
    policies: z.array(z.string()),
    reasons: z.array(z.string()),
    claimed: z
      .object({
        intent: z.string().optional().describe('of a task that an agent opened for itself'),
        reason: z.string().optional(),
        tool: z.string().optional(),
        destination: z.string().optional(),
      })
      .describe("the agent's own words: nobody has checked them"),
    decisions: z
      .array(
        z.object({ decision: z.enum(['approve', 'deny']), by: z.string(), groups: z.array(z.string()), at: time, reason: z.string().optional() }),
      )
      .optional()
      .describe('for operators'),
  })
  .meta({ id: 'Approval' })
export const ApprovalAnswer = z.object({ approval: Approval }).meta({ id: 'ApprovalAnswer' })
export const ApprovalsAnswer = z.object({ approvals: z.array(Approval), next_cursor: z.string().optional() }).meta({ id: 'ApprovalsAnswer' })
export const ApprovalsQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(500).default(100),
  cursor: text(512).optional(),
})
export const DecideRequest = z.strictObject({ reason: text(1024).optional() }).meta({ id: 'DecideRequest' })

// --- tasks

export const EnvelopeEntry = z
  .strictObject({ role: word, scope: Scope.optional(), max_ttl: seconds.optional(), max_leases: z.int().min(1).max(100_000).optional() })
  .meta({ id: 'EnvelopeEntry' })
export const ToolEntry = z
  .strictObject({
    tool: word,
    actions: z.array(word).min(1).max(64).optional().describe('any when absent'),
    targets: z
      .array(text(512).min(1))
      .min(1)
      .max(64)
      .optional()
      .describe('each one by its name, or whatever is below with a final "/*"; any when absent'),
    max_calls: z.int().min(1).max(1_000_000).optional().describe('ever, in the task and all below it'),
  })
  .meta({ id: 'ToolEntry' })
export const PlanStep = z
  .strictObject({
    step: text(256).min(1).optional().describe('for people'),
    tool: word.optional(),
    action: word.optional(),
    target: text(512).min(1).optional().describe('as in `tools`'),
    role: word.optional(),
  })
  .refine(({ tool, role }) => (tool === undefined) !== (role === undefined), 'a step is the call of a tool or a lease of a role')
  .refine(({ role, action, target }) => role === undefined || (action === undefined && target === undefined), 'action and target are of a tool')
  .meta({ id: 'PlanStep' })
const declared = {
  tools: z.array(ToolEntry).max(64).optional().describe('what may be called for it; nothing when absent'),
  check: z
    .enum(['every_call', 'sensitive_only'])
    .optional()
    .describe('which calls are asked about: each (when absent), or those of tools that do more than read what is public or internal'),
  plan: z.array(PlanStep).min(1).max(256).optional().describe('what is no step of it is denied, lease or call; it never changes'),
}
export const Assignee = z
  .strictObject({
    agent: word,
    instance: word.optional().describe('only this running copy'),
    bind_instance: z.boolean().optional().describe('only the copy that first obtains a lease'),
  })
  .meta({ id: 'Assignee' })
export const TaskRequest = z
  .strictObject({
    intent: word,
    confidence: z.number().min(0).max(1).optional(),
    classification: sensitivity.optional(),
    environment: word.optional(),
    assignees: z.array(Assignee).min(1).max(64).optional().describe('required of an orchestrator; an agent that opens for itself is the assignee'),
    envelope: z.array(EnvelopeEntry).max(64).describe('what may be obtained; empty only where there are tools to call'),
    ...declared,
    deadline_at: time,
    heartbeat_seconds: z.int().min(1).max(86_400).optional(),
    external_id: text(256).min(1).optional().describe('opening twice with the same one returns the same task'),
    human: word.optional().describe("on whose behalf, by an orchestrator's word"),
    on_behalf_of: onBehalfOf.describe('a token of the human on whose behalf it is opened, which names who opens it as its audience or in `may_act`'),
    labels: Labels.optional(),
  })
  .refine(({ envelope, tools = [] }) => envelope.length + tools.length > 0, { path: ['envelope'], message: 'name at least one role or one tool' })
  .meta({ id: 'TaskRequest' })
export const TaskState = z.enum(['active', 'completed', 'failed', 'cancelled', 'expired', 'revoked'])
export const Task = z
  .object({
    id: taskId,
    state: TaskState,
    parent: taskId.optional(),
    chain: z.array(z.string()).optional().describe('of a task that was handed on: the agents through which it came, the first one first'),
    opened_by: z.object({ kind: z.enum(['agent', 'orchestrator']), id: z.string() }),
    intent: z.string(),
    stated_intent: statedIntent,
    classified: z.boolean().describe('an intent of the catalogue, named by somebody with a say'),
    classified_by: classifiedBy,
    confidence: z.number(),
    classification: sensitivity,
    environment: z.string(),
    assignees: z.array(Assignee),
    envelope: z.array(EnvelopeEntry),
    tools: z.array(ToolEntry),
    check: z.enum(['every_call', 'sensitive_only']),
    plan: z.array(PlanStep).optional().describe('absent: there is none'),
    labels: Labels,
    ...behalf,
    external_id: z.string().optional(),
    opened_at: time,
    deadline_at: time,
    heartbeat_seconds: z.int().optional(),
    heartbeat_due_at: time.optional(),
    ended_at: time.optional(),
    reason: z.string().optional(),
    obtained: z.array(z.string()).describe('"access:sensitivity" of what the task tree obtained so far'),
  })
  .meta({ id: 'Task' })
/** What decisions depend on. */
export const ContextRequest = z
  .strictObject({
    intent: word.optional().describe('never of a child task'),
    confidence: z.number().min(0).max(1).optional(),
    classification: sensitivity.optional(),
    environment: word.optional(),
    labels: Labels.optional().describe('take the place of those that were there'),
  })
  .meta({ id: 'ContextRequest' })
export const ContextAnswer = z
  .object({
    task: Task,
    leases: z.object({
      kept: z.int().describe('live leases that are allowed still'),
      closing: z.array(leaseId).describe('those that are not, on their way back'),
      outcomes: z.array(Lease).optional().describe('with ?wait: what became of these'),
    }),
  })
  .meta({ id: 'ContextAnswer' })
export const ChildRequest = z
  .strictObject({
    assignees: z.array(Assignee).min(1).max(64),
    envelope: z.array(EnvelopeEntry).max(64).describe("within the parent's: what that limits must be limited here too"),
    ...declared,
    deadline_at: time.optional().describe("the parent's when absent, and never later"),
    heartbeat_seconds: z.int().min(1).max(86_400).optional(),
    labels: Labels.optional(),
  })
  .refine(({ envelope, tools = [] }) => envelope.length + tools.length > 0, { path: ['envelope'], message: 'name at least one role or one tool' })
  .meta({ id: 'ChildRequest' })
export const TaskNode = z
  .object({
    id: taskId,
    state: TaskState,
    opened_by: z.object({ kind: z.enum(['agent', 'orchestrator']), id: z.string() }),
    assignees: z.array(Assignee),
    deadline_at: time,
    get children() {
      return z.array(TaskNode)
    },
  })
  .meta({ id: 'TaskNode' })
export const TaskAnswer = z.object({ task: Task }).meta({ id: 'TaskAnswer' })
export const TaskDetailAnswer = z
  .object({
    task: Task,
    leases: z.array(Lease).describe('unsettled'),
    children: z.array(TaskNode).describe('what was handed on of it and is not over, as a tree'),
    more_children: z.boolean().describe('true: there are more than are told'),
  })
  .meta({ id: 'TaskDetailAnswer' })
export const HeartbeatAnswer = z.object({ state: TaskState, heartbeat_due_at: time.optional() }).meta({ id: 'HeartbeatAnswer' })
export const EndRequest = z.strictObject({ reason: text(1024).optional() }).meta({ id: 'EndRequest' })
const replicated = z
  .boolean()
  .optional()
  .describe('with ledger.wait: whether it would survive the loss of the primary Redis by now; it holds either way, and is not taken back')
export const EndAnswer = z
  .object({
    state: TaskState,
    closing: z.int().describe('live leases at the end; none can be issued any more'),
    replicated,
    leases: z.array(Lease).optional().describe('with ?wait: the outcome of each lease that this broker closed'),
  })
  .meta({ id: 'EndAnswer' })

/** RFC 9457. */
export const Problem = z
  .object({
    type: z.string(),
    title: z.string(),
    status: z.int(),
    detail: z.string(),
    instance: z.string().optional().describe('urn of the event that has the detail'),
    code: z.string(),
    policies: z.array(z.string()).optional(),
    reasons: z.array(z.string()).optional(),
    next: z.string().optional().describe('what the caller can do about it'),
    errors: z.array(z.object({ path: z.string(), message: z.string() })).optional(),
    step_up: z.array(z.object({ group: z.string(), approvals: z.int() })).optional(),
  })
  .meta({ id: 'Problem' })

// --- tool calls

const call = {
  tool: word,
  action: word.describe('what it does'),
  target: text(512).min(1).describe('what it touches'),
  lease: leaseId.optional().describe('that it is made with'),
  destination: text(512).optional(),
  arguments_digest: z
    .string()
    .regex(/^[A-Za-z0-9_-]{43}$/, 'must be a SHA-256 in base64url')
    .optional()
    .describe('of the arguments; recorded'),
}
export const ToolCall = z.strictObject(call).meta({ id: 'ToolCall' })
export const ToolCallRequest = z
  .strictObject({
    ...z.strictObject(call).partial().shape,
    calls: z.array(ToolCall).min(1).max(64).optional().describe('instead of one: several, decided in this order'),
    agent: word.optional().describe('of a gateway: in whose stead it asks; or `token`'),
    issuer: word.optional().describe('where agents of two issuers have this name'),
    instance: word.optional(),
    token: z.string().min(1).max(16_384).optional().describe('of a gateway: a token signed by Mayfly that the agent showed to it'),
  })
  .superRefine((body, context) => {
    const fields = Object.keys(call) as (keyof typeof call)[]
    const wrong = body.calls
      ? fields.filter((field) => body[field] !== undefined).map((field) => ({ path: [field], message: 'say it in `calls`' }))
      : (['tool', 'action', 'target'] as const)
          .filter((field) => body[field] === undefined)
          .map((field) => ({ path: [field], message: 'is missing' }))
    for (const issue of wrong) context.addIssue({ code: 'custom', ...issue })
  })
  .meta({ id: 'ToolCallRequest' })
const allowedCall = z.object({
  call: z.string().describe('of the event that records it'),
  decision: z.literal('allow'),
  enforced: z.boolean().describe('a gateway asked, and the answer binds; else it is advice'),
  check: z.enum(['every_call', 'sensitive_only']),
  must_ask: z.boolean().describe('whether each further call of this tool is to be asked about too'),
  policies: z.array(z.string()),
})
export const ToolCallAnswer = allowedCall.meta({ id: 'ToolCallAnswer' })
export const ToolCallsAnswer = z
  .union([ToolCallAnswer, z.object({ calls: z.array(z.union([allowedCall, z.object({ decision: z.literal('deny'), problem: Problem })])) })])
  .meta({ id: 'ToolCallsAnswer' })

// --- operators

const oneOrMany = z.union([word, z.array(word).min(1).max(100)]).transform((value) => (typeof value === 'string' ? [value] : value))
export const Selector = z
  .union([
    z.strictObject({ all: z.literal(true) }),
    z
      .strictObject({
        agent: oneOrMany.optional(),
        task: oneOrMany.optional(),
        role: oneOrMany.optional(),
        provider: oneOrMany.optional(),
        issuer: oneOrMany.optional(),
        owner: oneOrMany.optional(),
        human: oneOrMany.optional(),
        orchestrator: oneOrMany.optional(),
      })
      .refine(
        (selector) => Object.keys(selector).length > 0,
        'name at least one of agent, task, role, provider, issuer, owner, human, orchestrator, or {"all": true}',
      ),
  ])
  .meta({ id: 'Selector' })
const reason = text(1024).min(1)
const verify = z
  .enum(['none', 'sample', 'all'])
  .describe('whose upstream is asked, after its confirmed revoke, that the credential is dead: nobody, some of each provider, all that can be')
export const EmergencyRequest = z
  .strictObject({
    selector: Selector,
    reason,
    freeze: z.boolean().default(true),
    dry_run: z.boolean().default(false),
    verify: verify.default('sample'),
  })
  .meta({ id: 'EmergencyRequest' })
export const FreezeRequest = z.strictObject({ selector: Selector, reason }).meta({ id: 'FreezeRequest' })
export const ThawRequest = z.strictObject({ reason }).meta({ id: 'ThawRequest' })
const selectorAnswer = z.record(z.string(), z.union([z.literal(true), z.array(z.string())]))
export const Freeze = z
  .object({
    id: z.string(),
    selector: selectorAnswer,
    reason: z.string(),
    by: z.string(),
    at: time,
    generation: z.int(),
    kind: z.enum(['suspension', 'offboarding', 'quarantine']).optional().describe('set by suspending or offboarding an agent, or by a quarantine'),
  })
  .meta({ id: 'Freeze' })
const holding = z.object({ holding: z.int().describe('ledger partitions where the freeze holds'), unreachable: z.int(), replicated })
export const FreezeAnswer = z.object({ freeze: Freeze, partitions: holding }).meta({ id: 'FreezeAnswer' })
const thawAsked = z
  .object({
    needs: z.array(z.object({ group: z.string(), approvals: z.int(), given: z.int().describe('by others than who asks now') })),
    asks: z.array(z.object({ by: z.string(), reason: z.string(), at: time })),
    expires_at: time.describe('the first of them is forgotten then'),
  })
  .describe('it is frozen still: as many others of each group have to ask for the same')
export const ThawAnswer = z.object({ freeze: Freeze, asked: thawAsked.optional() }).meta({ id: 'ThawAnswer' })
export const FreezesAnswer = z.object({ freezes: z.array(Freeze.extend({ partitions: holding })) }).meta({ id: 'FreezesAnswer' })
const stamp = z.string().describe('stream id of an event; empty: none')
export const QuarantineReport = z
  .object({
    broker: z.string(),
    at: time,
    from: time.optional().describe('of the first event that the log has'),
    to: time.optional(),
    gaps: z.array(z.string()).describe('why there may have been more'),
    applied: z.object({ ended: z.int(), frozen: z.int(), thawed: z.int(), closed: z.int(), extended: z.int(), revocations: z.int() }),
    unknown: z
      .array(z.object({ provider: z.string(), leases: z.int(), until: time.optional() }))
      .describe('leases that the log knows as live and the ledger does not know'),
    examples: z.array(z.object({ lease: z.string(), provider: z.string(), role: z.string(), until: time.optional() })),
  })
  .meta({ id: 'QuarantineReport' })
export const Quarantine = z
  .object({
    state: z.enum(['none', 'quarantined', 'lifted', 'lost']).describe('lost: there is no ledger; nothing is issued either'),
    generation: z.int().optional(),
    reason: z
      .enum(['behind', 'lost', 'another'])
      .optional()
      .describe('Redis went backwards · the ledger was lost, and made anew · it is not the one that brokers remember'),
    entered_at: time.optional(),
    by: z.string().optional().describe('the broker that found it out'),
    since: time.optional().describe('what was told from then on may be lost; absent with a generation: all'),
    behind: z.array(z.object({ partition: z.int(), found: stamp, known: stamp })).optional(),
    logs: z.array(QuarantineReport).optional().describe('of the brokers that have read their audit log again; the others have not, yet'),
    lifted: z.object({ by: z.string(), reason: z.string(), at: time }).optional(),
  })
  .meta({ id: 'Quarantine' })
export const QuarantineAnswer = z.object({ quarantine: Quarantine }).meta({ id: 'QuarantineAnswer' })
export const LiftRequest = z.strictObject({ reason }).meta({ id: 'LiftRequest' })
export const EmergencyRevocation = z
  .object({
    id: z.string(),
    selector: selectorAnswer,
    reason: z.string(),
    by: z.string(),
    state: z.enum(['running', 'finished']),
    verify,
    started_at: time,
    finished_at: time.optional(),
    matched: z.int(),
    revoked: z.int(),
    expired: z.int(),
    pending: z.int(),
    failed: z.int().describe('of the pending: those whose last attempt failed; they are retried until confirmed'),
    residual_until: time.optional(),
    providers: z.array(
      z.object({
        provider: z.string(),
        matched: z.int(),
        revoked: z.int(),
        expired: z.int(),
        pending: z.int().describe('the failed among them'),
        failed: z.int(),
        residual_until: time.optional().describe('when the last of what is pending stops working by itself'),
      }),
    ),
  })
  .meta({ id: 'EmergencyRevocation' })
export const EmergencyAnswer = z
  .object({ revocation: EmergencyRevocation, freeze: Freeze.extend({ partitions: holding }).optional() })
  .meta({ id: 'EmergencyAnswer' })
export const DryRunAnswer = z
  .object({
    dry_run: z.literal(true),
    matched: z.int(),
    providers: z.array(z.object({ provider: z.string(), live: z.int(), revocation: z.string(), residual_until: time.optional() })),
  })
  .meta({ id: 'DryRunAnswer' })
export const RevocationAnswer = z.object({ revocation: EmergencyRevocation }).meta({ id: 'RevocationAnswer' })
export const LeasesAnswer = z.object({ leases: z.array(Lease), next_cursor: z.string().optional() }).meta({ id: 'LeasesAnswer' })
export const TasksAnswer = z.object({ tasks: z.array(Task), next_cursor: z.string().optional() }).meta({ id: 'TasksAnswer' })
export const LeasesQuery = z.strictObject({
  task: taskId.optional(),
  agent: word.optional(),
  role: word.optional(),
  provider: word.optional(),
  state: LeaseState.optional(),
  limit: z.coerce.number().int().min(1).max(500).default(100),
  cursor: text(512).optional(),
})
export const TasksQuery = z.strictObject({
  state: TaskState.optional(),
  agent: word.optional(),
  orchestrator: word.optional(),
  limit: z.coerce.number().int().min(1).max(500).default(100),
  cursor: text(512).optional(),
})
const standing = z.enum(['active', 'frozen', 'suspended', 'offboarded'])
export const Agent = z
  .object({
    id: z.string(),
    rule: z.string().optional().describe("id of the configuration's rule, where that is a template; absent with `owner`: not configured"),
    owner: z.string().optional(),
    autonomy: z.string().optional(),
    team: z.string().optional(),
    issuer: z.string().optional(),
    standing,
    live_leases: z.int(),
    closing_leases: z.int(),
    tasks: z.int().describe('active ones that it works on'),
  })
  .meta({ id: 'Agent' })
export const AgentsAnswer = z.object({ agents: z.array(Agent) }).meta({ id: 'AgentsAnswer' })
const points = z.number().min(0).max(100)
export const AgentRisk = z
  .object({
    value: z.int().min(0).max(100),
    level: z.int().describe('what policy reads: the value in steps of ten'),
    signals: z
      .object({ rate: points, loop: points, refused: points, novelty: points, drift: points })
      .describe('points of each, as they are by now: they halve with time'),
    floor: z
      .object({ value: z.int(), reason: z.string(), by: z.string(), at: time, until: time.optional() })
      .optional()
      .describe('what an operator set: the value is at least this'),
    recent: z.object({ reads: z.int(), writes: z.int(), escalations: z.int() }).describe('what it obtained within the last hour, in all its tasks'),
    counted_since: time.optional(),
    drifted_at: time.optional().describe('when a scripted agent last asked for what is no step of its script'),
  })
  .meta({ id: 'AgentRisk' })
export const AgentRiskRequest = z
  .strictObject({
    floor: z.int().min(0).max(100).optional().describe('at least this; 0 takes a floor away'),
    ttl: seconds.optional().describe('of the floor; absent: until it is taken away'),
    reset: z.boolean().default(false).describe('forgets what was counted'),
    reason,
  })
  .refine(({ floor, reset }) => floor !== undefined || reset, { path: ['floor'], message: 'name a floor, or reset what was counted' })
  .meta({ id: 'AgentRiskRequest' })
export const AgentRiskAnswer = z.object({ agent: z.string(), risk: AgentRisk }).meta({ id: 'AgentRiskAnswer' })
export const AgentAnswer = z
  .object({
    agent: Agent.extend({ labels: z.array(z.string()), open_tasks: z.array(EnvelopeEntry).optional() }),
    freezes: z.array(Freeze).describe('that cover it as a whole'),
    risk: AgentRisk.optional().describe('how it behaves; absent where that is not counted'),
  })
  .meta({ id: 'AgentAnswer' })
export const AgentStopRequest = z.strictObject({ reason }).meta({ id: 'AgentStopRequest' })
export const AgentStopAnswer = z
  .object({ agent: z.string(), configured: z.boolean(), standing, freeze: Freeze.extend({ partitions: holding }), revocation: EmergencyRevocation })
  .meta({ id: 'AgentStopAnswer' })
export const AgentResumeAnswer = z
  .object({ agent: z.string(), standing, thawed: z.array(Freeze), freezes: z.array(Freeze).describe('that cover it still') })
  .meta({ id: 'AgentResumeAnswer' })
export const OffboardingAnswer = z
  .object({
    agent: z.string(),
    state: z.enum(['running', 'finished', 'interrupted']).describe('interrupted: frozen, but not revoked; ask for it again'),
    freeze: Freeze,
    revocation: EmergencyRevocation.optional().describe('absent once its report is gone: 7 days after it finished'),
    pending: z.array(Lease).describe('not settled yet; at most 200'),
  })
  .meta({ id: 'OffboardingAnswer' })
const reachedRole = {
  role: z.string(),
  provider: z.string().optional().describe('absent: the role is not configured any more, so that nothing is issued'),
  access: access.optional(),
  sensitivity: sensitivity.optional(),
  revocation: z.object({ mode: z.string(), residual_seconds: z.int() }).optional(),
}
const Grant = z
  .object({
    ...reachedRole,
    task: taskId,
    agent: z.string().describe('who works on the task'),
    through: z.array(z.string()).describe('the agents in between, the first one first'),
    scope: Scope.optional(),
    max_ttl: z.int().optional(),
    holds: z.int().describe('unsettled leases'),
    until: time.describe('deadline of the task'),
  })
  .meta({ id: 'Grant' })
export const ReachAnswer = z
  .object({
    agent: z.string(),
    at: time,
    source: z.literal('ledger').describe('what holds now; what held before is in the audit log'),
    standing,
    complete: z.boolean().describe('false: it touches more than one answer holds'),
    roles: z.array(z.object({ ...reachedRole, holds: z.int(), tasks: z.int(), through_others: z.boolean() })),
    own: z.array(Grant).describe('what its tasks let it obtain at most; policy may allow less'),
    handed_on: z.array(Grant).describe('the same of those that it handed work on to'),
    opens: z.array(EnvelopeEntry).describe('what it may open tasks for itself for'),
    leases: z.array(Lease).describe('unsettled, its own and of what it handed on'),
  })
  .meta({ id: 'ReachAnswer' })
export const ReachQuery = z.strictObject({ at: time.optional().describe('a time that has passed: from the record instead of the ledger') })
export const ReachThenAnswer = z
  .object({
    agent: z.string(),
    at: time,
    source: z.literal('audit').describe('what the events say that this broker has written'),
    standing,
    complete: z.boolean().describe('false: there may have been more, see `gaps`'),
    gaps: z.array(z.string()).describe('why there may have been more'),
    record: z.object({ from: time.optional(), to: time.optional(), files: z.int() }).describe('how far it goes'),
    roles: z.array(z.object({ ...reachedRole, holds: z.int(), tasks: z.int(), through_others: z.boolean() })),
    own: z.array(Grant).describe('what its tasks let it obtain at most; policy may have allowed less'),
    handed_on: z.array(Grant).describe('the same of those that it had handed work on to'),
    leases: z
      .array(
        z.object({
          id: leaseId,
          task: taskId,
          agent: z.string().describe('who held it'),
          through: z.array(z.string()).describe('the agents through which it came to that one, the first one first'),
          role: z.string(),
          provider: z.string(),
          access: access.optional(),
          sensitivity: sensitivity.optional(),
          state: z.enum(['pending', 'active', 'closing']),
          issued_at: time,
          expires_at: time.optional(),
          scope: Scope.optional(),
        }),
      )
      .describe('not settled by then, its own and of what it handed on'),
  })
  .meta({ id: 'ReachThenAnswer' })
export const AnyReachAnswer = z.discriminatedUnion('source', [ReachAnswer, ReachThenAnswer]).meta({ id: 'AnyReachAnswer' })
export const WaitQuery = z.strictObject({ wait: z.coerce.number().min(0).max(60).optional().describe('seconds to wait for the upstreams') })

// --- policy

export const DrillRequest = z
  .strictObject({ provider: word.optional(), role: word.optional() })
  .meta({ id: 'DrillRequest', description: 'Which of the configured drills; all of them when nothing is named.' })
export const DrillsAnswer = z
  .object({
    drills: z.array(
      z.object({
        role: z.string(),
        provider: z.string(),
        agent: z.string(),
        outcome: z.enum(['dead', 'expires', 'alive', 'failed']),
        probed: z.boolean().describe('the upstream itself was asked whether the credential still works'),
        lease: z.string().optional(),
        confirmed_ms: z.int().optional().describe('from the end of its task to the confirmed revoke'),
        dead_ms: z.int().optional().describe('from the end of its task until the upstream refused it'),
        detail: z.string().optional(),
      }),
    ),
  })
  .meta({ id: 'DrillsAnswer' })
export const ReconciliationRequest = z
  .strictObject({
    providers: z.array(word).min(1).max(100).optional().describe('absent: all'),
    revoke: z.boolean().default(false).describe('take the orphans back; otherwise they are only told of'),
    wait: z
      .boolean()
      .default(true)
      .describe(
        'look once more, some seconds later, where only that tells an orphan from what is on its way; otherwise the next reconciliation does',
      ),
    deadline: z.int().min(1).max(600).default(120).describe('seconds; what is not done by then is left for the next one'),
  })
  .meta({ id: 'ReconciliationRequest' })
export const ReconciliationAnswer = z
  .object({
    started_at: time,
    finished_at: time,
    providers: z.array(
      z.object({
        provider: z.string(),
        outcome: z
          .enum(['done', 'partial', 'failed', 'not-listable'])
          .describe('`partial`: the time was over. `failed`: it could not be listed to the end. `not-listable`: nobody can say what of it is there'),
        listed: z.int().describe('what this installation made, as far as its names tell, and is there'),
        known: z.int().describe('of it, what the ledger tells of'),
        seen: z.array(z.string()).describe('nothing tells of them; whether they are orphans, a look will tell that comes some seconds later'),
        orphans: z.array(
          z.object({
            lease: z.string(),
            expires_at: time.optional(),
            outcome: z
              .enum(['found', 'closing', 'revoked'])
              .describe('`found`: nothing was done about it. `closing`: it is taken back, however often that has to be tried'),
          }),
        ),
        orphans_total: z.int(),
        held: z.boolean().optional().describe('there were more than may be revoked without an operator'),
        missing: z.array(z.string()).optional().describe('active leases whose credential is not there any more; they stay as they are'),
        missing_total: z.int().optional().describe('absent: it was not listed to the end'),
        foreign: z.array(z.string()).describe('named as this installation names things, after no lease of its own'),
        usable_until: time.optional().describe('of what cannot be listed: until when anything may work that it has issued by now'),
        error: z.string().optional(),
      }),
    ),
  })
  .meta({ id: 'ReconciliationAnswer', description: 'At most 1,000 of each list are named.' })
export const SimulateRequest = z
  .strictObject({
    policies: z
      .array(z.strictObject({ name: word, text: z.string().max(1_048_576) }))
      .min(1)
      .max(500)
      .optional()
      .describe('they take the place of every policy file; absent: what is only observed so far, together with the rest'),
    schema: z.string().max(262_144).optional(),
    requests: z
      .array(z.looseObject({ action: word }))
      .min(1)
      .max(1_000)
      .optional()
      .describe('as the cases of `mayfly policy test` are written; absent: those that this broker recorded'),
    since: time.optional().describe('of the recorded requests'),
    limit: z.int().min(1).max(10_000).default(1_000).describe('the last so many of the recorded requests'),
  })
  .meta({ id: 'SimulateRequest' })
const verdict = z.object({
  outcome: z.enum(['allow', 'deny', 'step-up']),
  policies: z.array(z.string()),
  reasons: z.array(z.string()),
  ttl: z.int().optional().describe('seconds, without the clamps that depend on the clock'),
  max_live: z.int().optional(),
  step_up: z.array(z.object({ group: z.string(), approvals: z.int() })).optional(),
  error: z.string().optional(),
})
export const SimulationAnswer = z
  .object({
    versions: z.object({ binding: z.string(), candidate: z.string() }),
    asked: z.int(),
    unchanged: z.int(),
    changes: z.object({
      allowed: z.int(),
      denied: z.int(),
      step_up: z.int(),
      ttl: z.int().describe('still allowed, for another time'),
      obligations: z.int().describe('another consent is asked for, or another number of live leases allowed'),
    }),
    examples: z
      .array(
        z.object({
          change: z.enum(['allowed', 'denied', 'step_up', 'ttl', 'obligations']),
          count: z.int().describe('requests of this caller for this role for which the same changes'),
          binding: verdict,
          candidate: verdict,
          request: z.unknown().describe('the last of them, as a case'),
          event: z.string().optional(),
          at: z.string().optional(),
        }),
      )
      .describe('the most frequent first'),
    more_examples: z.int(),
    unreadable: z.object({ count: z.int(), first: z.string().optional() }),
    complete: z.boolean().describe('false: time was up before all were asked'),
    from: z.string().optional(),
    to: z.string().optional(),
  })
  .meta({ id: 'SimulationAnswer' })

// --- anybody

export const WhoamiAnswer = z
  .object({
    principal: z.object({
      kind: z.enum(['agent', 'orchestrator', 'operator', 'gateway']),
      id: z.string(),
      instance: z.string().optional(),
      issuer: z.string(),
      owner: z.string().optional(),
      autonomy: z.string().optional(),
      groups: z.array(z.string()).optional(),
      persons: z.array(z.string()).optional().describe('what an operator is called elsewhere: nobody agrees to what is their own'),
      token_expires_at: time,
    }),
    task: z.object({ id: taskId, state: TaskState }).optional().describe('with ?task='),
    obtainable: z
      .array(
        z.object({
          role: z.string(),
          decision: z.enum(['allow', 'deny', 'step-up']),
          code: z.string().optional().describe('of the refusal that asking would be answered with now'),
          policies: z.array(z.string()),
          reasons: z.array(z.string()),
          next: z.string().optional().describe('what can be done about it'),
          step_up: z.array(z.object({ group: z.string(), approvals: z.int() })).optional(),
          ttl: z.int().optional().describe('the longest that it would be given for, before deadlines'),
        }),
      )
      .optional()
      .describe('with ?task=: each role of its envelope, for the widest request. Limits of live leases are not foretold'),
    tools: z
      .array(
        z.object({
          tool: z.string(),
          known: z.boolean().describe('false: it is not configured any more, and called by nobody'),
          access: access.optional(),
          sensitivity: sensitivity.optional(),
          must_ask: z.boolean().describe('whether each call is to be asked about'),
        }),
      )
      .optional()
      .describe('with ?task=: those that it lists. What policy says of a call depends on its action and target'),
  })
  .meta({ id: 'WhoamiAnswer' })
export const WhoamiQuery = z.strictObject({ task: taskId.optional() })
export const HeartbeatRequest = z.strictObject({}).meta({ id: 'HeartbeatRequest' })

// --- operations

export const HealthAnswer = z.object({ state: z.literal('alive') }).meta({ id: 'HealthAnswer' })
export const ReadyAnswer = z
  .object({
    state: z.enum(['ready', 'starting', 'draining']).describe('the only thing that the status depends on'),
    ledger: z.object({
      reachable: z.boolean(),
      durability: z.string().optional(),
      problems: z.int(),
      quarantine: z
        .object({ reason: z.enum(['behind', 'lost', 'another']), since: time.optional() })
        .optional()
        .describe('nothing is issued: Redis went backwards'),
    }),
    issuers: z.array(
      z.object({
        name: z.string(),
        state: z.enum(['ready', 'stale', 'down']),
        keys: z.int(),
        authorities: z.int().optional().describe('X.509 authorities of a SPIFFE trust domain'),
      }),
    ),
    policy: z.object({
      version: z.string().describe('what decides; of an engine elsewhere, what decided last'),
      circuit: z.enum(['closed', 'open', 'half-open']).optional().describe('of an engine elsewhere'),
    }),
    providers: z.array(z.object({ name: z.string(), circuit: z.enum(['closed', 'open', 'half-open']) })),
  })
  .meta({ id: 'ReadyAnswer' })

// --- standards

/** RFC 7517 §5. */
export const JwksAnswer = z.object({ keys: z.array(z.looseObject({ kty: z.string() })) }).meta({ id: 'JwksAnswer' })
/** RFC 8414 §2 and OpenID Connect Discovery 1.0 §3, as much of them as verifying a token takes. */
export const IssuerMetadata = z
  .object({
    issuer: z.string(),
    jwks_uri: z.string(),
    introspection_endpoint: z.string(),
    response_types_supported: z.array(z.string()),
    subject_types_supported: z.array(z.string()),
    id_token_signing_alg_values_supported: z.array(z.string()),
  })
  .meta({ id: 'IssuerMetadata' })
/** RFC 7662 §2.1; unknown parameters are ignored (RFC 6749 §3.1). */
export const IntrospectionRequest = z
  .object({ token: z.string().min(1).max(16_384), token_type_hint: z.string().optional() })
  .meta({ id: 'IntrospectionRequest' })
/** RFC 6749 §5.2. */
export const OAuthError = z.object({ error: z.string(), error_description: z.string().optional() }).meta({ id: 'OAuthError' })
/** RFC 7662 §2.2; inactive is exactly `{"active": false}`. */
export const IntrospectionAnswer = z.looseObject({ active: z.boolean() }).meta({ id: 'IntrospectionAnswer' })

export type LeaseRequest = z.output<typeof LeaseRequest>
export type Lease = z.output<typeof Lease>
export type Credential = z.output<typeof Credential>
export type IssuedAnswer = z.output<typeof IssuedAnswer>
export type RenewedAnswer = z.output<typeof RenewedAnswer>
export type Approval = z.output<typeof Approval>
export type ApprovalAnswer = z.output<typeof ApprovalAnswer>
export type ApprovalsAnswer = z.output<typeof ApprovalsAnswer>
export type ApprovalsQuery = Partial<z.output<typeof ApprovalsQuery>>
export type TaskRequest = z.output<typeof TaskRequest>
export type Task = z.output<typeof Task>
export type TaskDetailAnswer = z.output<typeof TaskDetailAnswer>
export type HeartbeatAnswer = z.output<typeof HeartbeatAnswer>
export type ContextRequest = z.output<typeof ContextRequest>
export type ContextAnswer = z.output<typeof ContextAnswer>
export type ChildRequest = z.output<typeof ChildRequest>
export type TaskNode = z.output<typeof TaskNode>
export type ToolEntry = z.output<typeof ToolEntry>
export type PlanStep = z.output<typeof PlanStep>
export type ToolCall = z.output<typeof ToolCall>
export type ToolCallRequest = z.output<typeof ToolCallRequest>
export type ToolCallAnswer = z.output<typeof ToolCallAnswer>
export type ToolCallsAnswer = z.output<typeof ToolCallsAnswer>
export type EndAnswer = z.output<typeof EndAnswer>
export type EmergencyRequest = z.input<typeof EmergencyRequest>
export type EmergencyAnswer = z.output<typeof EmergencyAnswer>
export type DryRunAnswer = z.output<typeof DryRunAnswer>
export type RevocationAnswer = z.output<typeof RevocationAnswer>
export type FreezeRequest = z.input<typeof FreezeRequest>
export type FreezeAnswer = z.output<typeof FreezeAnswer>
export type FreezesAnswer = z.output<typeof FreezesAnswer>
export type ThawAnswer = z.output<typeof ThawAnswer>
export type Quarantine = z.output<typeof Quarantine>
export type QuarantineAnswer = z.output<typeof QuarantineAnswer>
export type LiftRequest = z.input<typeof LiftRequest>
export type LeasesAnswer = z.output<typeof LeasesAnswer>
export type TasksAnswer = z.output<typeof TasksAnswer>
export type LeasesQuery = Partial<z.output<typeof LeasesQuery>>
export type TasksQuery = Partial<z.output<typeof TasksQuery>>
export type AgentsAnswer = z.output<typeof AgentsAnswer>
export type AgentAnswer = z.output<typeof AgentAnswer>
export type AgentRisk = z.output<typeof AgentRisk>
export type AgentRiskRequest = z.input<typeof AgentRiskRequest>
export type AgentRiskAnswer = z.output<typeof AgentRiskAnswer>
export type AgentStopAnswer = z.output<typeof AgentStopAnswer>
export type AgentResumeAnswer = z.output<typeof AgentResumeAnswer>
export type OffboardingAnswer = z.output<typeof OffboardingAnswer>
export type ReachAnswer = z.output<typeof ReachAnswer>
export type ReachThenAnswer = z.output<typeof ReachThenAnswer>
export type Grant = z.output<typeof Grant>
export type DrillRequest = z.input<typeof DrillRequest>
export type DrillsAnswer = z.output<typeof DrillsAnswer>
export type ReconciliationRequest = z.input<typeof ReconciliationRequest>
export type ReconciliationAnswer = z.output<typeof ReconciliationAnswer>
export type SimulateRequest = z.input<typeof SimulateRequest>
export type SimulationAnswer = z.output<typeof SimulationAnswer>
export type ReadyAnswer = z.output<typeof ReadyAnswer>
export type WhoamiAnswer = z.output<typeof WhoamiAnswer>
export type Problem = z.output<typeof Problem>
export type Freeze = z.output<typeof Freeze>
export type EmergencyRevocation = z.output<typeof EmergencyRevocation>
export type EnvelopeEntry = z.output<typeof EnvelopeEntry>
export type Assignee = z.output<typeof Assignee>
