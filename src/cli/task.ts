import { readFile } from 'node:fs/promises'
import { Command, Option } from 'commander'
import type { EndAnswer, Task, TaskNode, TaskRequest } from '../api.js'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import { leaseTable } from './leases.js'
import { collect, deadline, fraction, pairs, seconds } from './parse.js'
import { CommandError, type Shell, UsageError } from './shell.js'
import { json, line, until } from './text.js'
import { humanToken } from './token.js'

interface OpenOptions extends ConnectOptions {
  readonly file?: string
  readonly intent?: string
  readonly confidence?: number
  readonly agent?: string[]
  readonly instance?: string
  readonly role?: string[]
  readonly tool?: string[]
  readonly check?: TaskRequest['check']
  readonly maxTtl?: number
  readonly deadline?: string
  readonly heartbeat?: number
  readonly classification?: TaskRequest['classification']
  readonly environment?: string
  readonly externalId?: string
  readonly human?: string
  readonly onBehalfOfFile?: string
  readonly label?: Record<string, string>
}
interface EndOptions extends ConnectOptions {
  readonly reason?: string
  readonly wait?: number
}

const DEFAULT_DEADLINE = '15m'
const CLASSES = ['public', 'internal', 'confidential', 'restricted']

/** `mayfly task …`: the orchestrator's side. */
export function task(shell: Shell): Command {
  return new Command('task')
    .description('open, follow and end tasks')
    .addCommand(open(shell))
    .addCommand(show(shell))
    .addCommand(heartbeat(shell))
    .addCommand(context(shell))
    .addCommand(delegate(shell))
    .addCommand(end(shell, 'complete', 'the work is done: revoke what it obtained'))
    .addCommand(end(shell, 'fail', 'the work went wrong: revoke what it obtained'))
    .addCommand(end(shell, 'cancel', 'the work is not wanted any more: revoke what it obtained'))
}

function open(shell: Shell): Command {
  return withConnection(new Command('open'))
    .description('open a task; prints its id')
    .option('--file <file>', 'the whole request as JSON, instead of the options below')
    .option('--intent <name>', 'what the task is about')
    .option('--confidence <0..1>', 'of the intent', fraction)
    .option('--agent <id>', 'who may work on it; may be repeated', collect)
    .option('--instance <id>', 'only this running copy of the one agent')
    .option('--role <name>', 'what may be obtained for it; may be repeated', collect)
    .option('--max-ttl <duration>', 'of each of these roles', seconds)
    .option('--tool <name>', 'what may be called for it; may be repeated', collect)
    .addOption(new Option('--check <which>', 'which calls are asked about').choices(['every_call', 'sensitive_only']))
    .option('--deadline <when>', `a duration or a time; ${DEFAULT_DEADLINE} when absent`, (text: string) => deadline(text))
    .option('--heartbeat <duration>', 'ends the task when it is not heard of for this long', seconds)
    .addOption(new Option('--classification <class>', "of the task's data").choices(CLASSES))
    .option('--environment <name>')
    .option('--external-id <id>', 'opening twice with the same one answers the same task')
    .option('--human <id>', "on whose behalf, by an orchestrator's word")
    .option('--on-behalf-of-file <file>', 'a token of the human on whose behalf, which says who that is')
    .option('--label <key=value>', 'may be repeated', pairs)
    .action(async (options: OpenOptions) => {
      const ask = options.file === undefined ? requestOf(options) : await readRequest(options.file)
      const behalf = { onBehalfOf: humanToken(options.onBehalfOfFile), signal: shell.signal }
      const opened = await connect(options, shell).tasks.open(ask, behalf)
      if (options.json) json(shell.stdout, { task: opened })
      else line(shell.stdout, opened.id)
    })
}

function requestOf(options: OpenOptions): TaskRequest {
  const { intent, agent, instance, role = [], tool = [], maxTtl } = options
  if (intent === undefined || role.length + tool.length === 0) throw new UsageError('give --intent and at least one --role or --tool (or --file)')
  if (instance !== undefined && agent?.length !== 1) throw new UsageError('--instance goes with exactly one --agent')
  return {
    intent,
    confidence: options.confidence,
    assignees: agent?.map((id) => ({ agent: id, instance })),
    envelope: role.map((name) => ({ role: name, max_ttl: maxTtl })),
    tools: tool.length === 0 ? undefined : tool.map((name) => ({ tool: name })),
    check: options.check,
    deadline_at: options.deadline ?? deadline(DEFAULT_DEADLINE),
    heartbeat_seconds: options.heartbeat,
    classification: options.classification,
    environment: options.environment,
    external_id: options.externalId,
    human: options.human,
    labels: options.label,
  }
}

/** Its shape is the broker's to check: it says what is wrong where. */
async function readRequest(file: string): Promise<TaskRequest> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as TaskRequest
  } catch (error) {
    throw new CommandError('file', `${file} cannot be read as JSON: ${error instanceof Error ? error.message : 'unknown'}`)
  }
}

/** Whose word its intent rests on, where that is not an orchestrator's. */
function readBy({ classified, classified_by: by, stated_intent: stated }: Task): string {
  if (!classified) return ' (not classified)'
  return by === 'classifier' ? ` (by the classifier${stated === undefined ? '' : `, stated as "${stated}"`})` : ''
}

function show(shell: Shell): Command {
  return withConnection(new Command('show'))
    .description('a task and what is live of it')
    .argument('<task>')
    .action(async (id: string, options: ConnectOptions) => {
      const detail = await connect(options, shell).tasks.get(id, { signal: shell.signal })
      if (wantsJson(options, shell)) return json(shell.stdout, detail)
      const { task, leases, children, more_children: more } = detail
      const roles = task.envelope.map((entry) => entry.role).join(', ')
      line(shell.stdout, `${task.id}  ${task.state}  intent ${task.intent}${readBy(task)}  ends in ${until(task.deadline_at)}`)
      line(shell.stdout, `opened by ${task.opened_by.id}  for ${agentsOf(task.assignees)}  roles ${roles}`)
      if (task.tools.length > 0) line(shell.stdout, `tools ${task.tools.map((entry) => entry.tool).join(', ')}${task.plan ? ', as planned' : ''}`)
      for (const node of indented(children)) line(shell.stdout, node)
      if (more) line(shell.stdout, '  … and more')
      if (leases.length > 0) leaseTable(shell.stdout, leases)
    })
}

function indented(nodes: readonly TaskNode[], depth = 1): string[] {
  return nodes.flatMap(({ id, state, opened_by: by, assignees, children }) => [
    `${'  '.repeat(depth)}${id}  ${state}  from ${by.id}  for ${agentsOf(assignees)}`,
    ...indented(children, depth + 1),
  ])
}

function agentsOf(assignees: Task['assignees']): string {
  return assignees.map((one) => one.agent).join(', ')
}

function context(shell: Shell): Command {
  return withConnection(new Command('context'))
    .description('change what decisions depend on; leases that are no longer allowed are revoked')
    .argument('<task>')
    .option('--intent <name>')
    .option('--confidence <0..1>', 'of the intent', fraction)
    .addOption(new Option('--classification <class>', "of the task's data").choices(CLASSES))
    .option('--environment <name>')
    .option('--label <key=value>', 'may be repeated; these take the place of those that were there', pairs)
    .option('--wait <duration>', 'wait for the upstreams, at most 60s, and tell the outcome of each lease', seconds)
    .action(async (id: string, options: OpenOptions & EndOptions) => {
      const { intent, confidence, classification, environment, label: labels, wait } = options
      const change = { intent, confidence, classification, environment, labels }
      const answer = await connect(options, shell).tasks.changeContext(id, change, { wait, signal: shell.signal })
      if (wantsJson(options, shell)) return json(shell.stdout, answer)
      const { kept, closing, outcomes = [] } = answer.leases
      line(shell.stdout, `${id} changed: ${kept} kept, ${closing.length} being revoked`)
      if (outcomes.length > 0) leaseTable(shell.stdout, outcomes)
    })
}

function delegate(shell: Shell): Command {
  return withConnection(new Command('delegate'))
    .description('hand a part of a task on to other agents; prints the id of the child')
    .argument('<task>')
    .option('--agent <id>', 'who may work on it; may be repeated', collect)
    .option('--role <name>', 'what may be obtained for it; may be repeated', collect)
    .option('--max-ttl <duration>', 'of each of these roles', seconds)
    .option('--max-leases <number>', 'of each of these roles', Number)
    .option('--tool <name>', 'what may be called for it; may be repeated', collect)
    .option('--deadline <when>', "a duration or a time; the parent's when absent", (text: string) => deadline(text))
    .option('--heartbeat <duration>', 'ends the child when it is not heard of for this long', seconds)
    .option('--label <key=value>', 'may be repeated', pairs)
    .action(async (id: string, options: OpenOptions & { maxLeases?: number }) => {
      const { agent = [], role = [], tool = [], maxTtl, maxLeases } = options
      if (agent.length === 0 || role.length + tool.length === 0) throw new UsageError('give at least one --agent and one --role or --tool')
      const ask = {
        assignees: agent.map((one) => ({ agent: one })),
        envelope: role.map((name) => ({ role: name, max_ttl: maxTtl, max_leases: maxLeases })),
        tools: tool.length === 0 ? undefined : tool.map((name) => ({ tool: name })),
        deadline_at: options.deadline,
        heartbeat_seconds: options.heartbeat,
        labels: options.label,
      }
      const child = await connect(options, shell).tasks.delegate(id, ask, { signal: shell.signal })
      if (options.json) json(shell.stdout, { task: child })
      else line(shell.stdout, child.id)
    })
}

function heartbeat(shell: Shell): Command {
  return withConnection(new Command('heartbeat'))
    .description('say that the work goes on')
    .argument('<task>')
    .action(async (id: string, options: ConnectOptions) => {
      const answer = await connect(options, shell).tasks.heartbeat(id, { signal: shell.signal })
      if (wantsJson(options, shell)) json(shell.stdout, answer)
      else line(shell.stdout, answer.heartbeat_due_at === undefined ? answer.state : `${answer.state}, next within ${until(answer.heartbeat_due_at)}`)
    })
}

function end(shell: Shell, how: 'complete' | 'fail' | 'cancel', description: string): Command {
  return withConnection(new Command(how))
    .description(description)
    .argument('<task>')
    .option('--reason <text>')
    .option('--wait <duration>', 'wait for the upstreams, at most 60s, and tell the outcome of each lease', seconds)
    .action(async (id: string, options: EndOptions) => {
      const { reason, wait } = options
      const answer = await connect(options, shell).tasks[how](id, { reason, wait, signal: shell.signal })
      if (wantsJson(options, shell)) return json(shell.stdout, answer)
      line(shell.stdout, endLine(id, answer))
      if (answer.leases && answer.leases.length > 0) leaseTable(shell.stdout, answer.leases)
    })
}

function endLine(id: string, { state, closing }: EndAnswer): string {
  const leases = closing === 1 ? '1 lease was live and is' : `${closing} leases were live and are`
  return closing === 0 ? `${id} ${state}: nothing was live` : `${id} ${state}: ${leases} being revoked`
}
