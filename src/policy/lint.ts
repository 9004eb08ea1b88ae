import { type Action, familyOf, OBTAIN_ACTIONS, TOOL_ACTIONS } from './actions.js'
import { APPROVAL, attributes, knownPaths } from './attributes.js'
import type { PolicyJson } from './cedar.js'
import { type Condition, conditionsOf, literalOf, literalsOf, type Node, pathOf, walk } from './expression.js'
import { obligationsOf } from './obligations.js'
import type { PolicyOptions } from './options.js'

const ANNOTATIONS = ['id', 'reason', 'maxTtl', 'maxLive', 'stepUp', 'approvals', 'onDeny']
const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
/** Comparing decimals cannot fail; whatever else an extension offers can, and then the policy is skipped. */
const OPERATORS = new Set(
  `Value Var ! == != in < <= > >= && || contains containsAll containsAny isEmpty . has like is if-then-else Set Record
   decimal lessThan lessThanOrEqual greaterThan greaterThanOrEqual`.split(/\s+/),
)
const OBTAINED = /^(read|write|escalate):(public|internal|confidential|restricted)$/

/** What a validator lets pass and yet would not do what its author meant. */
export function lint(json: PolicyJson, actions: ReadonlySet<Action>, options: Pick<PolicyOptions, 'known'>): string[] {
  const conditions = conditionsOf(json)
  const nodes = conditions.flatMap(({ body }) => [...walk(body)])
  return [
    ...lintAnnotations(json, actions, conditions, options.known.consenting ?? options.known.groups),
    ...lintOperators(nodes),
    ...lintLiterals(json, options.known),
    ...lintTools(json, actions, options.known.tools),
    ...lintHierarchy(json, nodes, actions),
    ...lintPaths(nodes, actions),
    ...lintObtained(nodes),
    ...lintRisk(nodes),
    ...conditions.flatMap((condition) => lintWidening(json, condition)),
  ]
}

export function lintId(id: string, takenBy: string | undefined): string | undefined {
  if (id === '') return 'a policy has no @id, so no event or problem could name it'
  if (!ID.test(id)) return '@id is at most 64 letters, digits, ".", "_" and "-"'
  return takenBy === undefined ? undefined : `@id is already taken in ${takenBy}`
}

/** A misspelt or misplaced annotation would silently drop the limit that it states. */
function lintAnnotations(json: PolicyJson, actions: ReadonlySet<Action>, conditions: readonly Condition[], groups: readonly string[]): string[] {
  const annotations: Readonly<Record<string, string | null>> = json.annotations ?? {}
  const problems: string[] = []
  for (const [name, value] of Object.entries(annotations)) {
    if (!ANNOTATIONS.includes(name)) problems.push(`@${name} is not known: there are ${ANNOTATIONS.map((one) => `@${one}`).join(', ')}`)
    else if (!value) problems.push(`@${name} is empty`)
  }
  const { maxTtl, maxLive, stepUp, approvals, onDeny } = annotations
  const obtains = [...actions].every((action) => OBTAIN_ACTIONS.some((one) => one === action))
  for (const [name, value] of Object.entries({ maxTtl, maxLive })) {
    if (value != null && (!obtains || stepUp != null))
      problems.push(`@${name} belongs on a permit for read, write or escalate alone, or on a forbid that limits those and asks for no consent`)
  }
  const byAgents = actions.size > 0 && [...actions].every((action) => [...OBTAIN_ACTIONS, ...TOOL_ACTIONS].some((one) => one === action))
  if (onDeny != null && (json.effect !== 'forbid' || !byAgents || stepUp != null || maxTtl != null || maxLive != null))
    problems.push(
      '@onDeny belongs on a forbid for callTool, read, write or escalate alone that refuses: one that asks for no consent and is no limit',
    )
  if (stepUp != null && json.effect !== 'forbid') problems.push('@stepUp belongs on a forbid')
  if (stepUp && !groups.includes(stepUp)) problems.push(`@stepUp names the group "${stepUp}", which no operator of the configuration is in`)
  if (approvals != null && stepUp == null) problems.push('@approvals belongs beside @stepUp')
  if (stepUp && json.effect === 'forbid' && !conditions.some((one) => one.kind === 'unless' && consents(one.body, stepUp)))
    problems.push(`@stepUp needs: unless { context.approval.groups.contains(Group::"${stepUp}") }`)
  try {
    obligationsOf(annotations)
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error))
  }
  return problems
}

function lintOperators(nodes: readonly Node[]): string[] {
  const refused = new Set(nodes.map(({ op }) => op).filter((op) => !OPERATORS.has(op)))
  return [...refused].map((op) => `"${op}" is not allowed: it can fail, and the engine skips a policy that fails, also a forbid`)
}

/** A forbid on a misspelt team simply never fires. Intents, environments and the like are closed in the schema. */
function lintLiterals(json: PolicyJson, known: PolicyOptions['known']): string[] {
  const ids: Readonly<Record<string, readonly string[]>> = {
    Team: known.teams,
    Group: known.groups,
    Provider: known.providers,
    Role: known.roles,
    Issuer: known.issuers,
  }
  const unknown = literalsOf(json).filter(({ type, id }) => ids[type] && !ids[type].includes(id))
  return unknown.map(({ type, id }) => `${type}::${JSON.stringify(id)} is not in the configuration`)
}

/** Where tools are called, there are those of the catalogue: elsewhere a tool is what an agent says. */
function lintTools(json: PolicyJson, actions: ReadonlySet<Action>, known: readonly string[]): string[] {
  if (![...actions].every((action) => TOOL_ACTIONS.some((one) => one === action))) return []
  const unknown = literalsOf(json).filter(({ type, id }) => type === 'Tool' && !known.includes(id))
  return unknown.map(({ id }) => `Tool::${JSON.stringify(id)} is not in the configuration`)
}

/** The broker knows the ancestors of who asks and of what is asked for, and of nothing else: there an `in` would just be false. */
function lintHierarchy(json: PolicyJson, nodes: readonly Node[], actions: ReadonlySet<Action>): string[] {
  const problems = new Set<string>()
  const operates = [...actions].some((action) => ['operator', 'approval'].includes(familyOf(action)))
  const refuse = 'the resource of an operator action is known by type and id alone: use == or is, or keep the policy to other actions'
  if (operates && (json.resource.op === 'in' || (json.resource.op === 'is' && json.resource.in))) problems.add(refuse)
  for (const { op, args } of nodes) {
    if (op !== 'in' && !(op === 'is' && args.length > 1)) continue
    const left = args[0]?.op === 'Var' ? args[0].value : undefined
    if (left !== 'principal' && left !== 'resource' && left !== 'action')
      problems.add('"in" works on principal, resource and action alone: what else is in a team or group is not known')
    if (left === 'resource' && operates) problems.add(refuse)
  }
  return [...problems]
}

/** The schema may say more than the broker knows. */
function lintPaths(nodes: readonly Node[], actions: ReadonlySet<Action>): string[] {
  const table = attributes({ intents: new Set(), environments: new Set() })
  const families = new Set([...actions].map(familyOf))
  const paths = [...families].flatMap((family) => knownPaths(table, family))
  const known = (path: string) => paths.some((one) => one === path || one.startsWith(`${path}.`))
  const problems = new Set<string>()
  for (const node of nodes) {
    if (node.op !== '.' && node.op !== 'has') continue
    const left = node.args[0] && pathOf(node.args[0])
    if (!left) problems.add('attributes are read from principal, resource and context directly, and from nothing else')
    else if (!known([...left, ...node.attrs].join('.'))) problems.add(`${[...left, ...node.attrs].join('.')} is not known to the broker`)
  }
  return [...problems]
}

function lintObtained(nodes: readonly Node[]): string[] {
  const asked = nodes.filter(({ args }) => args.length > 1 && args.some((arg) => pathOf(arg)?.join('.') === 'context.accumulated.obtained'))
  const strings = asked.flatMap((node) => [...walk(node)].filter(({ op }) => op === 'Value').map(({ value }) => value))
  const wrong = strings.filter((value) => typeof value === 'string' && !OBTAINED.test(value))
  return wrong.map((value) => `context.accumulated.obtained never holds ${JSON.stringify(value)}: it holds "access:sensitivity"`)
}

/** Risk is told in steps of ten: a threshold between two of them is not where it says. */
function lintRisk(nodes: readonly Node[]): string[] {
  const asked = nodes.filter(({ args }) => args.length > 1 && args.some((arg) => pathOf(arg)?.join('.') === 'principal.risk'))
  const numbers = asked.flatMap(({ args }) => args.flatMap(({ op, value }) => (op === 'Value' && typeof value === 'number' ? [value] : [])))
  return numbers.filter((number) => number % 10 !== 0).map((number) => `principal.risk is a multiple of ten from 0 to 100: ${number} is none`)
}

/** +1 where being true can only widen what is allowed, -1 where it can only narrow, 0 where it could do either. */
type Polarity = 1 | 0 | -1

/** Missing must never widen, and consent counts only where it is asked for. */
function lintWidening({ effect, annotations }: PolicyJson, { kind, body }: Condition): string[] {
  const problems = new Set<string>()
  const stepUp = kind === 'unless' && effect === 'forbid' ? annotations?.stepUp : undefined
  const visit = (node: Node, polarity: Polarity): void => {
    if (stepUp && polarity === 1 && isConsent(node, stepUp)) return
    if (node.op === 'has' && polarity !== 1)
      problems.add('"has" is allowed only where its being false cannot widen: in the when of a permit or the unless of a forbid, not negated')
    const path = (node.op === '.' || node.op === 'has') && node.args[0] ? [...(pathOf(node.args[0]) ?? []), ...node.attrs].join('.') : ''
    if (path === 'context.approval' || path.startsWith('context.approval.'))
      problems.add(`${APPROVAL} is read only as contains(Group::"…"), in the unless of a forbid whose @stepUp names that group`)
    for (const arg of node.args) {
      // It holds the consent.
      if (isContext(arg) && node.op !== '.' && node.op !== 'has') problems.add('the context is read by its attributes, not as a whole')
      visit(arg, under(node.op, polarity))
    }
  }
  visit(body, (effect === 'permit') === (kind === 'when') ? 1 : -1)
  return [...problems]
}

function isContext({ op, value }: Node): boolean {
  return op === 'Var' && value === 'context'
}

function under(op: string, polarity: Polarity): Polarity {
  if (op === '&&' || op === '||') return polarity
  if (op === '!') return polarity === 1 ? -1 : polarity === -1 ? 1 : 0
  return 0
}

function consents(node: Node, group: string): boolean {
  return isConsent(node, group) || ((node.op === '&&' || node.op === '||') && node.args.some((arg) => consents(arg, group)))
}

function isConsent({ op, args }: Node, group: string): boolean {
  const literal = args[1]?.op === 'Value' ? literalOf(args[1].value) : undefined
  return op === 'contains' && !!args[0] && pathOf(args[0])?.join('.') === APPROVAL && literal?.type === 'Group' && literal.id === group
}
