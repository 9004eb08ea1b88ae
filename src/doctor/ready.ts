import { type Config, ConfigError, loadConfig } from '../config.js'
import { openChannel } from '../identity/channel.js'
import { idsOf } from '../identity/index.js'
import type { AgentRule } from '../identity/options.js'
import { openEngine } from '../policy/index.js'
import type { Policy } from '../policy/policy.js'
import type { Provider } from '../providers/provider.js'
import { openSigner } from '../signer.js'
import type { Agent, Decision, Role, Task } from '../types.js'
import { type Finding, messageOf } from './finding.js'
import { identityFindings } from './identity.js'
import { ledgerFindings } from './ledger.js'
import { sinkFindings } from './limits.js'
import { policyFindings } from './policy.js'
import { providerFindings } from './providers.js'

export interface Readiness {
  readonly findings: Finding[]
  /** What there is to rehearse with; absent where the configuration or the agent is not there. */
  readonly found?: { readonly config: Config; readonly agent: Agent; readonly obtainable: readonly { readonly role: Role; readonly task: Task }[] }
}

/** How sure an orchestrator is of an intent in the contexts that are tried. */
const CONFIDENCE = 0.9
const LEVELS = ['public', 'internal', 'confidential', 'restricted'] as const

/** Whether one agent may go to work: who answers for it, what it could obtain, and whether that can be taken back. Changes nothing. */
export async function ready(path: string, env: Readonly<Record<string, string | undefined>>, id: string): Promise<Readiness> {
  let config: Config
  try {
    config = await loadConfig(path, env)
  } catch (error) {
    const problems = error instanceof ConfigError ? error.problems : [messageOf(error)]
    return { findings: problems.map((what) => ({ area: 'config', level: 'fail', what })) }
  }
  const rule = (config.identity.agents ?? []).find((one) => one.id === id) ?? (config.identity.agents ?? []).find((one) => idsOf(one).test(id))
  if (!rule) {
    const mend = 'give it a rule below agents:, with owner, autonomy and the claims that it is known by'
    return { findings: [{ area: 'agent', level: 'fail', what: `no agent of the configuration has the id "${id}"`, mend }] }
  }
  const agent = agentOf(rule, id)
  const { issuer } = rule.match
  const alone = {
    ...config.identity,
    issuers: only(config.identity.issuers, issuer),
    agents: [rule],
    orchestrators: [],
    operators: [],
    gateways: [],
    humans: [],
  }
  const policies = await policyFindings(config)
  const { findings, obtainable } = policies.some(({ level }) => level === 'fail')
    ? { findings: [], obtainable: [] }
    : await roleFindings(config, agent)
  const used = new Set(obtainable.map(({ role }) => role.provider))
  const others = await Promise.all([
    identityFindings({ ...config, identity: alone }, undefined),
    ledgerFindings(config),
    providerFindings({ ...config, providers: config.providers.filter(({ name }) => used.has(name)) }),
    sinkFindings(config),
  ])
  return {
    findings: [...agentFindings(rule, config.classifier !== undefined, agent), ...policies, ...findings, ...others.flat()],
    found: { config, agent, obtainable },
  }
}

/** Who a rule makes, without a token. */
export function agentOf({ match, labels, team, owner, autonomy, openTasks, instance }: AgentRule, id: string): Agent {
  const token = { subject: '', tokenFingerprint: 'rehearsal', tokenIssuedAt: 0, tokenExpiresAt: 0 }
  const copy = instance === undefined ? undefined : 'rehearsal'
  return { kind: 'agent', id, instance: copy, issuer: match.issuer, ...token, labels: labels ?? [], team, owner, autonomy, openTasks }
}

function agentFindings(rule: AgentRule, classified: boolean, { id, owner, autonomy, team, openTasks }: Agent): Finding[] {
  const known = `${id}: owner ${owner}, ${autonomy}${team === undefined ? '' : `, team ${team}`}, by issuer ${rule.match.issuer}`
  const findings: Finding[] = [{ area: 'agent', level: 'ok', what: known }]
  if (rule.instance === undefined) {
    const what = 'its running copies are not told apart: one may renew and return what another obtained'
    findings.push({ area: 'agent', level: 'warn', what, mend: 'name the claim that tells them apart with instance:' })
  }
  if (openTasks && autonomy === 'autonomous') {
    const what = `it may open tasks for itself for ${openTasks.map(({ role }) => role).join(', ')}, of which nobody ${classified ? 'but the classifier ' : ''}classifies the intent`
    findings.push({ area: 'agent', level: 'warn', what, mend: 'have an orchestrator open them, or keep a human in the way (guardrails.cedar)' })
  }
  return findings
}

async function roleFindings(config: Config, agent: Agent) {
  const policy = await openEngine(config.policy, { open: openChannel })
  const opened = new Map<string, Provider | undefined>()
  try {
    for (const { name, module, options, timeoutMs, concurrency } of config.providers) {
      const signer = config.signing && (await openSigner(config.signing))
      const context = { name, instance: config.instance, timeoutMs, concurrency, signer }
      // What is wrong with it, its own check says.
      opened.set(name, await module.open(options, context).catch(() => undefined))
    }
    const looked = []
    for (const role of config.roles) looked.push(await look(policy, config, agent, role, opened.get(role.provider)))
    const findings = looked.flatMap(({ finding }) => finding ?? [])
    const obtainable = looked.flatMap(({ role, task, best }) => (best === 'allow' && task ? [{ role, task }] : []))
    if (findings.length === 0) {
      const mend = 'have a policy allow it something, or leave it out: an agent that can do nothing is one more identity to steal'
      findings.push({ area: 'roles', level: 'fail', what: 'it can obtain no role', mend })
    }
    return { findings, obtainable }
  } finally {
    policy.close()
    await Promise.all([...opened.values()].map((provider) => provider?.close()))
  }
}

/** Every configured intent in every environment, as an orchestrator would open the task. */
function tasksOf(config: Config, { id, issuer }: Agent, role: Role): Task[] {
  const { intents, environments } = config.vocabulary
  const about = { depth: 0, state: 'active', openedBy: { kind: 'orchestrator', id: 'mayfly-readiness', issuer }, labels: {} } as const
  const facts = { openedAt: 0, deadlineAt: 0, contextVersion: 1, obtained: [], counts: { read: 0, write: 0, escalate: 0 } }
  return (intents.length > 0 ? intents : ['unclassified']).flatMap((intent) =>
    (environments.length > 0 ? environments : ['unknown']).map((environment) => ({
      ...{ id: 'task', root: 'task', intent, classified: intents.length > 0, confidence: CONFIDENCE, classification: role.sensitivity, environment },
      ...{ ...about, ...facts, assignees: [{ agent: id }], envelope: [{ role: role.name }] },
    })),
  )
}

async function look(policy: Policy, config: Config, agent: Agent, role: Role, provider: Provider | undefined) {
  const tasks = tasksOf(config, agent, role)
  const context = { renewal: false, ttlSeconds: role.maxTtlSeconds, scope: {}, external: true }
  const asked = { ...role, revocation: provider?.revocation ?? 'at-expiry' } as const
  const decisions: { readonly task: Task; readonly decision: Decision }[] = []
  for (const task of tasks)
    decisions.push({ task, decision: await policy.decide({ action: role.access, principal: agent, role: asked, task, context }) })
  const of = (outcome: Decision['outcome']) => decisions.filter(({ decision }) => decision.outcome === outcome)
  const [allowed, asks] = [of('allow'), of('step-up')]
  const first = allowed[0] ?? asks[0]
  if (!first) return { role }
  const best = first.decision.outcome
  return {
    role,
    best,
    task: first.task,
    finding: findingOf(agent, role, provider, first.decision, { allowed: allowed.length, asks: asks.length, of: tasks.length }),
  }
}

function findingOf(
  agent: Agent,
  role: Role,
  provider: Provider | undefined,
  decision: Decision,
  counts: { allowed: number; asks: number; of: number },
): Finding {
  const { name, access, sensitivity, maxLifetimeSeconds, maxRenewals } = role
  const ttl = Math.min(role.maxTtlSeconds, decision.maxTtlSeconds ?? role.maxTtlSeconds)
  const outcome =
    counts.allowed > 0
      ? `allowed in ${counts.allowed} of ${counts.of} contexts`
      : `with a human's consent, in ${counts.asks} of ${counts.of} contexts`
  const live = decision.maxLive === undefined ? '' : `, ${decision.maxLive} at once`
  const renewed = maxRenewals === undefined ? '' : `, ${maxRenewals} renewals`
  const life = `${ttl} s${live}, ${maxLifetimeSeconds} s with renewals${renewed}`
  const { revocation, residualSeconds = 0, blindWindowSeconds = 0 } = provider ?? {}
  const back =
    revocation === undefined ? 'its provider cannot be opened' : revocation === 'at-expiry' ? 'cannot be taken back' : `revokes ${revocation}`
  const blind = blindWindowSeconds > 0 ? `, unrecorded for up to ${blindWindowSeconds} s after a crash` : ''
  const what = `${name} (${access}, ${sensitivity}): ${outcome}, ${life}; ${back}${residualSeconds > 0 ? `, usable up to ${residualSeconds} s after` : ''}${blind}`
  const level = LEVELS.indexOf(sensitivity)
  const free = counts.allowed > 0
  const finding = (level: Finding['level'], mend?: string): Finding => ({ area: 'roles', level, what, mend })
  if (free && level === LEVELS.length - 1 && (revocation === undefined || revocation === 'at-expiry'))
    return finding('fail', 'what is restricted and cannot be taken back takes a human: load guardrails.cedar, or another provider')
  if (free && agent.autonomy === 'autonomous' && access !== 'read' && level === LEVELS.length - 1)
    return finding('fail', 'an autonomous agent writes restricted data with a human alone: load autonomy.cedar')
  if (free && agent.autonomy === 'autonomous' && access === 'escalate')
    return finding('fail', 'an autonomous agent does not escalate: load autonomy.cedar')
  if (revocation === undefined) return finding('fail', 'see what its provider says below')
  if (revocation === 'at-expiry' || blindWindowSeconds > ttl) return finding('warn', 'keep its max_ttl short: a stop waits for it')
  return finding('ok')
}

function only<T>(all: Readonly<Record<string, T>>, name: string): Record<string, T> {
  const one = all[name]
  return one === undefined ? {} : { [name]: one }
}
