import { setTimeout as pause } from 'node:timers/promises'
import { Command } from 'commander'
import type { AgentRisk, AgentStopAnswer, Grant, OffboardingAnswer, ReachThenAnswer } from '../api.js'
import type { Mayfly } from '../client/index.js'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { leaseTable } from './leases.js'
import { past, percent, seconds } from './parse.js'
import { inWords } from './selector.js'
import { EXIT, type Shell, UsageError } from './shell.js'
import { json, line, table, until } from './text.js'

const POLL_MS = 500

/** `mayfly agents …`: who there is, what each can reach, and the stop for one of them. */
export function agents(shell: Shell): Command {
  return new Command('agents')
    .description('agents: what each holds and could obtain, and the stop for one of them (operators)')
    .addCommand(list(shell), { isDefault: true })
    .addCommand(show(shell))
    .addCommand(reach(shell))
    .addCommand(suspend(shell))
    .addCommand(resume(shell))
    .addCommand(offboard(shell))
    .addCommand(risk(shell))
}

function list(shell: Shell): Command {
  return withConnection(new Command('list'))
    .description('the configured agents, and those that are seen, with what each holds')
    .action(async (options: ConnectOptions) => {
      const found = await connect(options, shell).operator.agents({ signal: shell.signal })
      if (wantsJson(options, shell)) return json(shell.stdout, { agents: found })
      const rows = found.map((one) => [one.id, one.standing, one.owner ?? 'not configured', one.autonomy, one.team, one.live_leases, one.tasks])
      table(shell.stdout, ['agent', 'standing', 'owner', 'autonomy', 'team', 'leases', 'tasks'], rows)
    })
}

function show(shell: Shell): Command {
  return withConnection(new Command('show'))
    .description('one agent: who answers for it, and what stands in its way')
    .argument('<agent>')
    .action(async (id: string, options: ConnectOptions) => {
      const answer = await connect(options, shell).operator.agent(id, { signal: shell.signal })
      if (wantsJson(options, shell)) return json(shell.stdout, answer)
      const { agent, freezes, risk } = answer
      const who = agent.owner === undefined ? 'not configured' : `owner ${agent.owner}, ${agent.autonomy}${agent.team ? `, team ${agent.team}` : ''}`
      line(shell.stdout, `${agent.id}  ${agent.standing}  ${who}${agent.rule ? `, by the rule ${agent.rule}` : ''}`)
      line(shell.stdout, `${agent.live_leases} live leases, ${agent.closing_leases} closing, ${agent.tasks} tasks`)
      if (risk) tellRisk(risk, shell)
      for (const { id: freeze, by, at, reason } of freezes) line(shell.stdout, `frozen by ${freeze} (${by}, ${at}): ${reason}`)
    })
}

function reach(shell: Shell): Command {
  return withConnection(new Command('reach'))
    .description('what an agent holds and could obtain now, or could at a time that has passed, itself or through whom it handed work on to')
    .argument('<agent>')
    .option('--at <time>', 'RFC 3339, or how long ago: from what the broker has recorded', (text: string) => past(text))
    .action(async (id: string, options: ConnectOptions & { at?: string }) => {
      const { operator } = connect(options, shell)
      if (options.at !== undefined) {
        const then = await operator.reachAt(id, options.at, { signal: shell.signal })
        return wantsJson(options, shell) ? json(shell.stdout, then) : tellReachThen(then, shell)
      }
      const answer = await operator.reach(id, { signal: shell.signal })
      if (wantsJson(options, shell)) return json(shell.stdout, answer)
      const { opens, leases, standing, complete } = answer
      line(shell.stdout, `${id}  ${standing}  ${leases.length} unsettled leases`)
      grantTable(answer, 'not configured', shell)
      if (opens.length > 0) line(shell.stdout, `may open tasks for itself for ${opens.map(({ role }) => role).join(', ')}`)
      if (!complete) line(shell.stderr, 'there is more than one answer holds: narrow it with mayfly leases and mayfly task show')
    })
}

function tellReachThen(answer: ReachThenAnswer, shell: Shell): void {
  const { agent, at, standing, leases, gaps } = answer
  line(shell.stdout, `${agent}  at ${at}  ${standing}  ${leases.length} leases that were not settled`)
  grantTable(answer, 'not recorded', shell)
  const rows = leases.map(({ role, provider, access, state, agent: holder, through, task }) => {
    return [[...through, holder].join(' > '), role, provider, access, state, task]
  })
  if (rows.length > 0) table(shell.stdout, ['held by', 'role', 'provider', 'access', 'state', 'task'], rows)
  for (const gap of gaps) line(shell.stderr, `there may have been more: ${gap}`)
}

function grantTable(
  { own, handed_on }: { readonly own: readonly Grant[]; readonly handed_on: readonly Grant[] },
  absent: string,
  shell: Shell,
): void {
  const rows = [...own, ...handed_on].map((grant) => grantRow(grant, absent))
  if (rows.length > 0) table(shell.stdout, ['role', 'provider', 'access', 'data', 'holds', 'task', 'by', 'through'], rows)
}

function grantRow({ role, provider, access, sensitivity, holds, task, agent, through }: Grant, absent: string): (string | number | undefined)[] {
  return [role, provider ?? absent, access, sensitivity, holds, task, agent, through.join(' > ')]
}

interface StopOptions extends ConnectOptions {
  readonly reason: string
  readonly wait?: boolean
}

function suspend(shell: Shell): Command {
  return withConnection(new Command('suspend'))
    .description('freeze an agent and revoke what it holds, until it is resumed')
    .argument('<agent>')
    .requiredOption('--reason <text>', 'why')
    .action(async (id: string, options: StopOptions) => {
      const answer = await connect(options, shell).operator.suspend(id, { reason: options.reason }, { signal: shell.signal })
      if (wantsJson(options, shell)) json(shell.stdout, answer)
      else line(shell.stdout, `${stopped(answer)}; mayfly agents resume ${id} takes it back`)
      if (answer.freeze.partitions.unreachable > 0) shell.exitWith(EXIT.failed)
    })
}

function resume(shell: Shell): Command {
  return withConnection(new Command('resume'))
    .description('take the suspensions of an agent back')
    .argument('<agent>')
    .requiredOption('--reason <text>', 'why')
    .action(async (id: string, options: StopOptions) => {
      const answer = await connect(options, shell).operator.resume(id, { reason: options.reason }, { signal: shell.signal })
      if (wantsJson(options, shell)) json(shell.stdout, answer)
      else line(shell.stdout, `${id} is ${answer.standing}: ${answer.thawed.length} suspensions taken back`)
      for (const freeze of answer.freezes) line(shell.stderr, `${freeze.id} covers it still: ${inWords(freeze.selector)} (${freeze.reason})`)
      if (answer.standing !== 'active') shell.exitWith(EXIT.failed)
    })
}

function offboard(shell: Shell): Command {
  return withConnection(new Command('offboard'))
    .description('freeze an agent for good and revoke what it holds everywhere; --report: how far that has come')
    .argument('<agent>')
    .option('--reason <text>', 'why; required to offboard')
    .option('--report', 'offboard nothing, tell how far it has come')
    .option('--wait', 'until every lease is settled')
    .action(async (id: string, options: ConnectOptions & { reason?: string; report?: boolean; wait?: boolean }) => {
      const { operator } = connect(options, shell)
      if (!options.report) {
        if (options.reason === undefined) throw new UsageError('say why: --reason (or --report, to offboard nothing)')
        const begun = await operator.offboard(id, { reason: options.reason }, { signal: shell.signal })
        line(shell.stderr, stopped(begun))
        if (begun.freeze.partitions.unreachable > 0) shell.exitWith(EXIT.failed)
      }
      const report = await follow(operator, id, options.wait ?? false, shell)
      if (wantsJson(options, shell)) json(shell.stdout, report)
      else tellOffboarding(report, shell)
      if (report.state !== 'finished') shell.exitWith(EXIT.failed)
    })
}

function risk(shell: Shell): Command {
  return withConnection(new Command('risk'))
    .description('how an agent behaves; a floor under its risk, or what was counted forgotten')
    .argument('<agent>')
    .option('--floor <0..100>', 'its risk is at least this; 0 takes the floor away', percent)
    .option('--for <duration>', 'of the floor; default: until it is taken away', seconds)
    .option('--reset', 'forget what was counted')
    .option('--reason <text>', 'why; required to change something')
    .action(async (id: string, options: ConnectOptions & { floor?: number; for?: number; reset?: boolean; reason?: string }) => {
      const { operator } = connect(options, shell)
      const { floor, for: ttl, reset = false, reason } = options
      const changes = floor !== undefined || reset
      if (changes && reason === undefined) throw new UsageError('say why: --reason')
      const found = changes
        ? await operator.setRisk(id, { floor, ttl, reset, reason: reason ?? '' }, { signal: shell.signal })
        : (await operator.agent(id, { signal: shell.signal })).risk
      if (wantsJson(options, shell)) return json(shell.stdout, { agent: id, risk: found })
      if (found) tellRisk(found, shell)
      else line(shell.stdout, 'the risk of agents is not counted here')
    })
}

function tellRisk({ value, signals, floor, recent, drifted_at }: AgentRisk, shell: Shell): void {
  const why = Object.entries(signals).filter(([, points]) => points > 0)
  const told = why.map(([signal, points]) => `${signal} ${Math.round(points)}`).join(', ')
  line(
    shell.stdout,
    `risk ${value}${told === '' ? '' : `: ${told}`}; last hour: ${recent.reads} reads, ${recent.writes} writes, ${recent.escalations} escalations`,
  )
  if (floor) line(shell.stdout, `at least ${floor.value}${floor.until ? ` until ${floor.until}` : ''}, by ${floor.by}: ${floor.reason}`)
  if (drifted_at) line(shell.stdout, `asked at ${drifted_at} for what is no step of its script`)
}

/** The broker goes on by itself; whoever stops looking stops nothing. */
async function follow(operator: Mayfly['operator'], id: string, wait: boolean, shell: Shell): Promise<OffboardingAnswer> {
  for (;;) {
    const report = await operator.offboarding(id, { signal: shell.signal })
    if (!wait || report.state !== 'running') return report
    await pause(POLL_MS, undefined, { signal: shell.signal })
  }
}

function tellOffboarding({ agent, state, revocation, pending }: OffboardingAnswer, shell: Shell): void {
  line(shell.stdout, `${agent}: ${state === 'interrupted' ? 'frozen, but not revoked: offboard it again' : state}`)
  const rows = (revocation?.providers ?? []).map(({ provider, matched, revoked, expired, pending: left, failed, residual_until }) => {
    return [provider, matched, revoked, expired, left, failed, residual_until === undefined ? '' : until(residual_until)]
  })
  if (rows.length > 0) table(shell.stdout, ['provider', 'matched', 'revoked', 'expired', 'pending', 'failed', 'usable at most'], rows)
  if (pending.length > 0) leaseTable(shell.stdout, pending)
}

function stopped({ agent, configured, standing, freeze, revocation }: AgentStopAnswer): string {
  const { holding, unreachable } = freeze.partitions
  const unknown = configured ? '' : ' (no such agent is configured)'
  return `${agent} is ${standing}${unknown} by ${freeze.id}, in ${holding} of ${holding + unreachable} partitions; ${revocation.id} revokes what it holds`
}
