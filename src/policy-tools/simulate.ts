import { access, readFile } from 'node:fs/promises'
import { type ConnectOptions, connect } from '../cli/connect.js'
import { CommandError, type Shell, UsageError } from '../cli/index.js'
import { json, line, table } from '../cli/text.js'
import { candidateOf, observes, simulate as run, type Simulation } from '../policy/index.js'
import { cedarOnly, configured, inLines, policiesAt } from './read.js'

export interface SimulateOptions extends ConnectOptions {
  readonly config?: string
  readonly candidate?: readonly string[]
  readonly events?: readonly string[]
  readonly request?: string
  readonly since?: string
  readonly limit: number
  readonly timeout: number
}

/** `mayfly policy simulate`: here, with a configuration and a log of events; or on a broker, with what it recorded. */
export async function simulate(options: SimulateOptions, shell: Shell): Promise<void> {
  if (options.events && options.request !== undefined) throw new UsageError('--events or --request, not both')
  const answer = options.config === undefined ? await remotely(options, shell) : await here(options, options.config, shell)
  if (options.json || !shell.stdout.isTerminal) return json(shell.stdout, answer)
  show(answer, shell)
}

async function here(options: SimulateOptions, config: string, shell: Shell): Promise<Simulation> {
  const { events, request, since, limit, timeout } = options
  if (!events && request === undefined) throw new UsageError('ask what? give --events (an audit log) or --request (a case)')
  const binding = cedarOnly(
    await configured(config, shell.env),
    'load the candidate there under a path of its own, and run `mayfly policy test` with a configuration that names that path',
  )
  const files = options.candidate && (await policiesAt(options.candidate))
  if (!files && !observes(binding)) throw new UsageError('nothing is observed in this configuration: give --candidate')
  for (const file of events ?? []) await readable(file)
  const given = request === undefined ? undefined : await requestsIn(request)
  const sinceMs = since === undefined ? undefined : Date.parse(since)
  const requests = given ? { given } : { files: events ?? [], sinceMs, limit }
  return inLines(run({ binding, candidate: candidateOf(binding, files), requests, deadlineMs: timeout * 1000 }))
}

async function remotely(options: SimulateOptions, shell: Shell): Promise<Simulation> {
  if (options.events) throw new UsageError('--events are read here: give --config too, or leave them out for those that the broker recorded')
  const policies = options.candidate && (await policiesAt(options.candidate))
  const requests = options.request === undefined ? undefined : await requestsIn(options.request)
  // The broker takes one thousand; what is not a request it says itself.
  const ask = { policies, requests: requests as { action: string }[] | undefined, since: options.since, limit: options.limit }
  return connect(options, shell).operator.simulate(ask, { signal: shell.signal })
}

async function requestsIn(file: string): Promise<unknown[]> {
  const text = await readFile(file, 'utf8').catch(() => {
    throw new UsageError(`there is no ${file}`)
  })
  try {
    const read: unknown = JSON.parse(text)
    return Array.isArray(read) ? read : [read]
  } catch {
    throw new CommandError('request', `${file} is not JSON`, 'a request is written as a case of mayfly policy test')
  }
}

async function readable(file: string): Promise<void> {
  await access(file).catch(() => {
    throw new UsageError(`there is no ${file}`)
  })
}

const WORDS = {
  allowed: 'newly allowed',
  denied: 'newly denied',
  step_up: 'newly step-up',
  ttl: 'allowed for another time',
  obligations: 'another consent or limit',
} as const

function show({ asked, unchanged, changes, examples, more_examples, unreadable, complete, from, to }: Simulation, shell: Shell): void {
  const { stdout, stderr } = shell
  const when = from === undefined ? '' : `, from ${from} to ${to}`
  line(stdout, `${asked} requests${when}: ${unchanged} unchanged`)
  for (const [change, words] of Object.entries(WORDS) as [keyof typeof WORDS, string][])
    if (changes[change] > 0) line(stdout, `${changes[change]} ${words}`)
  const rows = examples.map(({ change, count, binding, candidate, request, event }) => [
    WORDS[change],
    count,
    askedBy(request),
    verdict(binding),
    verdict(candidate),
    event ?? '',
  ])
  if (rows.length > 0) table(stdout, ['change', 'times', 'request', 'now', 'with the candidate', 'last event'], rows)
  if (more_examples > 0) line(stderr, `${more_examples} more kinds of change are not shown`)
  if (unreadable.count > 0) line(stderr, `${unreadable.count} could not be read, the first: ${unreadable.first ?? ''}`)
  if (!complete) line(stderr, 'time was up before all were asked: raise --timeout, or lower --limit')
}

function verdict({ outcome, policies, ttl, step_up, reasons, error }: Simulation['examples'][number]['binding']): string {
  const needs = step_up?.map(({ group, approvals }) => `${approvals} of ${group}`).join(', ')
  const more = [ttl === undefined ? '' : `${ttl}s`, needs ?? '', policies.join(' '), reasons[0] ?? '', error ?? ''].filter((part) => part !== '')
  return `${outcome} (${more.join('; ') || 'no policy'})`
}

function askedBy(request: unknown): string {
  const { action, agent, orchestrator, operator, role } = Object(request) as Readonly<Record<string, { id?: string; name?: string } | undefined>>
  const who = agent?.id ?? orchestrator?.id ?? operator?.id
  return [who, String(action), role?.name].filter((part) => part !== undefined).join(' ')
}
