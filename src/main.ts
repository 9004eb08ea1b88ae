#!/usr/bin/env node
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { basename, join, resolve } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { CommandError, clientCommands, EXIT, type Out, report, type Shell, UsageError } from './cli/index.js'
import { MayflyError } from './errors.js'
import { policyCommand } from './policy-tools/command.js'

/**
 * The `mayfly` executable, and the only reader of `process.env` and `process.argv`. What serves is imported when it is asked for: a command
 * line that only wants a credential should not wait for a broker's code.
 */
const DEV_CONFIG = join(import.meta.dirname, '..', 'config', 'dev.yaml')
const DEV_PORT = 8420
const KEPT_FOLDER = '.mayfly'
/** Of `provider test`: always the same, so that a service can be told before. */
const KEYS_PORT = 8430
const WAIT_SECONDS = 60
const SAME_SIGNAL_MS = 1_000

const { env } = process
const stopping = new AbortController()
const stopped = new Promise<void>((resolve) => stopping.signal.addEventListener('abort', () => resolve(), { once: true }))

const shell: Shell = {
  env,
  home: homedir(),
  stdout: outOf(process.stdout),
  stderr: outOf(process.stderr),
  interactive: process.stdin.isTTY === true && process.stderr.isTTY === true,
  signal: stopping.signal,
  async ask(question) {
    const lines = createInterface({ input: process.stdin, output: process.stderr })
    try {
      return await lines.question(question, { signal: stopping.signal })
    } finally {
      lines.close()
    }
  },
  exitWith(code) {
    process.exitCode = code
  },
}

let asked = Number.POSITIVE_INFINITY
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => {
    // One keystroke may come twice: npm hands on what the terminal has sent to everybody. Whoever asks again does not want to wait.
    if (performance.now() - asked > SAME_SIGNAL_MS) process.exit(EXIT.failed)
    asked = Math.min(asked, performance.now())
    stopping.abort()
  })
// Whoever reads our output may stop reading (`mayfly leases | head`).
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? EXIT.done : EXIT.failed))

const program = new Command('mayfly')
  .description('Credentials that live exactly as long as the task.')
  .version(versionOf(readFileSync(join(import.meta.dirname, '..', 'package.json'), 'utf8')))
  .addHelpText('after', '\nExit codes: 0 done, 1 failed, 2 usage, 3 denied, 4 approval pending, 5 unreachable.')
  .helpCommand(false)
const clients = clientCommands(shell)
clients.find((command) => command.name() === 'agents')?.addCommand(readyCommand())
for (const command of [...clients, ...brokerCommands()]) program.addCommand(command, { hidden: command.name() === 'dev-issuer' })
throwing(program)

try {
  await program.parseAsync(process.argv)
} catch (error) {
  // Commander has printed help, or what is wrong with the command line, already.
  process.exitCode = error instanceof CommanderError ? (error.exitCode === 0 ? EXIT.done : EXIT.usage) : report(told(error), shell)
}

function brokerCommands(): Command[] {
  return [
    serveCommand(),
    devCommand(),
    devIssuerCommand(),
    ledgerCommand(),
    doctorCommand(),
    configCommand(),
    policyCommand(shell),
    keysCommand(),
    providerCommand(),
  ]
}

function serveCommand(): Command {
  return new Command('serve')
    .description('run the broker; SIGHUP or a changed file reloads the configuration, SIGTERM drains')
    .requiredOption('--config <file>', 'mayfly.yaml')
    .option('--init-ledger', 'take an empty Redis for a first start', false)
    .action(async ({ config, initLedger }: { config: string; initLedger: boolean }) => {
      const { serve } = await import('./serve.js')
      const onHangup = (listener: () => void) => process.on('SIGHUP', listener)
      await serve({ config, initLedger, env, stop: stopping.signal, onHangup })
      // What still waits for an upstream keeps nobody.
      process.exit()
    })
}

function devCommand(): Command {
  return new Command('dev')
    .description('a broker with its own Redis and OIDC issuer, on loopback only, to try it out')
    .option('--data-dir <folder>', 'where its data lives, and stays; a temporary folder when absent')
    .option('--keep', `the same as --data-dir ${KEPT_FOLDER}`)
    .option('--port <n>', 'of the broker; its issuer takes the next; 0: free ones', port, DEV_PORT)
    .action(async (options: { dataDir?: string; keep?: boolean; port: number }) => {
      const { dev } = await import('./dev/dev.js')
      const dataDir = options.dataDir ?? (options.keep ? KEPT_FOLDER : undefined)
      const called = resolve(process.argv[1] ?? '')
      const command = basename(called) === 'mayfly' ? 'mayfly' : `node ${called}`
      await dev({ config: DEV_CONFIG, dataDir, port: options.port, stop: stopped, say: shell.stdout.write, command })
    })
}

function devIssuerCommand(): Command {
  return new Command('dev-issuer')
    .description('the issuer of mayfly dev alone')
    .option('--port <n>', '0: any free one', port, 0)
    .action(async (options: { port: number }) => {
      const { startDevIssuer } = await import('./dev/issuer.js')
      const { SAMPLE_CLIENTS, SAMPLE_PEOPLE } = await import('./dev/sample.js')
      const issuer = await startDevIssuer({ port: options.port, clients: SAMPLE_CLIENTS, people: SAMPLE_PEOPLE })
      shell.stdout.write(`${JSON.stringify({ issuer: issuer.url })}\n`)
      await stopped
      await issuer.close()
    })
}

function ledgerCommand(): Command {
  const init = new Command('init')
    .description('prepare an empty Redis for a first start, once')
    .requiredOption('--config <file>', 'mayfly.yaml')
    .option('--after-loss', 'there was a ledger, and nothing to restore: begin in quarantine', false)
    .action(async ({ config, afterLoss }: { config: string; afterLoss: boolean }) => {
      const { loadConfig } = await import('./config.js')
      const { initLedger } = await import('./ledger/index.js')
      const { instance, ledger } = await loadConfig(config, env)
      if ('embedded' in ledger.redis) throw new UsageError('an embedded Redis is prepared by the first start: mayfly serve --init-ledger')
      const created = await initLedger({ instance, partitions: ledger.partitions, redis: ledger.redis, afterLoss })
      shell.stdout.write(created ? `the ledger of "${instance}" is ready\n` : `there is a ledger of "${instance}" already\n`)
    })
  return new Command('ledger').description('the ledger in Redis').addCommand(init)
}

function doctorCommand(): Command {
  return new Command('doctor')
    .description('what is wrong with a configuration and all that it names, and how to mend it')
    .requiredOption('--config <file>', 'mayfly.yaml')
    .option('--token-file <file>', 'explain this token too')
    .option('--json', 'print JSON')
    .action(async (options: { config: string; tokenFile?: string; json?: boolean }) => {
      const { doctor, lineOf } = await import('./doctor/index.js')
      const findings = await doctor(options.config, env, { tokenFile: options.tokenFile })
      const failed = findings.some((finding) => finding.level === 'fail')
      const text = options.json ? JSON.stringify({ ok: !failed, findings }, null, 2) : findings.map(lineOf).join('\n')
      shell.stdout.write(`${text}\n`)
      if (failed) shell.exitWith(EXIT.failed)
    })
}

function readyCommand(): Command {
  return new Command('ready')
    .description('before an agent goes to work: owner, autonomy, what it could obtain and whether that can be taken back; exit 1 with what to mend')
    .argument('<agent>')
    .requiredOption('--config <file>', 'mayfly.yaml')
    .option('--rehearse', 'mint a real credential of each role that policy allows it without a human, in a task of its own, and revoke it')
    .option('--role <name>', 'rehearse this one alone')
    .option('--json', 'print JSON')
    .action(async (id: string, options: { config: string; rehearse?: boolean; role?: string; json?: boolean }) => {
      const { lineOf, ready } = await import('./doctor/index.js')
      const { findings, found } = await ready(options.config, env, id)
      if (options.role !== undefined && !options.rehearse) throw new UsageError('--role goes with --rehearse')
      if (options.rehearse && found) {
        const asked = found.obtainable.filter(({ role }) => options.role === undefined || role.name === options.role)
        if (asked.length === 0) findings.push({ area: 'rehearsal', level: 'fail', what: 'there is no role that it may obtain without a human' })
        else shell.stderr.write(`minting and revoking a real credential of ${asked.map(({ role }) => role.name).join(', ')}\n`)
        const { rehearse } = await import('./rehearse.js')
        findings.push(...(await rehearse(found.config, found.agent, asked)).map((one) => ({ area: 'rehearsal' as const, ...one })))
      }
      const failed = findings.some((finding) => finding.level === 'fail')
      const text = options.json ? JSON.stringify({ agent: id, ready: !failed, findings }, null, 2) : findings.map(lineOf).join('\n')
      shell.stdout.write(`${text}\n`)
      if (failed) shell.exitWith(EXIT.failed)
    })
}

function configCommand(): Command {
  const check = new Command('check')
    .description('read a configuration as serve would')
    .argument('<file>')
    .action(async (file: string) => {
      const { loadConfig } = await import('./config.js')
      const { roles, providers, identity } = await loadConfig(file, env)
      const counted = `${identity.agents?.length ?? 0} agents, ${providers.length} providers, ${roles.length} roles`
      shell.stdout.write(`${file} is well-formed: ${counted}. Policies, issuers and upstreams: mayfly doctor --config ${file}\n`)
    })
  const schema = new Command('schema').description('JSON Schema of the configuration, for editors').action(async () => {
    const { configJsonSchema } = await import('./config.js')
    shell.stdout.write(`${JSON.stringify(configJsonSchema(), null, 2)}\n`)
  })
  return new Command('config').description('check and describe configuration files').addCommand(check).addCommand(schema)
}

function keysCommand(): Command {
  const generate = new Command('generate')
    .description('a key set for signing.keys, or for sealing.keys: a secret, on stdout')
    .option('--sealing', 'symmetric, with which handles that are secrets are kept', false)
    .action(async ({ sealing }: { sealing: boolean }) => {
      const keys = sealing ? (await import('./sealing.js')).generateSealingKeys() : await (await import('./signer.js')).generateSigningKeys()
      shell.stdout.write(`${JSON.stringify(keys)}\n`)
    })
  return new Command('keys').description('keys of the broker').addCommand(generate)
}

interface ProviderTestOptions {
  readonly url: string
  readonly audience?: string
  readonly signingKeys?: string
  readonly issuer?: string
  readonly port: number
  readonly ca?: string
  readonly params: Record<string, unknown>
  readonly scope: Record<string, unknown>
  readonly wait: number
  readonly json?: boolean
}

function providerCommand(): Command {
  const test = new Command('test')
    .description('try a service of yours against the contract of the http provider, as Mayfly would call it and as it never would')
    .requiredOption('--url <url>', 'of the service, as in the configuration')
    .option('--audience <url>', 'under which the service knows itself, where that is another')
    .option('--params <json>', "a role's parameters that it takes", jsonObject, {})
    .option('--scope <json>', 'a scope, if it must have one', jsonObject, {})
    .option('--signing-keys <reference>', 'file:PATH or env:NAME of the key set that the service trusts; a key of its own when absent')
    .option('--issuer <url>', 'signing.issuer of the configuration, with --signing-keys')
    .option('--port <n>', 'where a key of its own is published on loopback; 0: any free one', port, KEYS_PORT)
    .option('--ca <file>', "PEM of the authorities to trust instead of the system's")
    .option('--wait <seconds>', 'how long to wait until the service is there and takes the signature', wholeSeconds, WAIT_SECONDS)
    .option('--json', 'print JSON')
    .addHelpText('after', '\nMakes, and takes back, some dozens of credentials named mf-conformance-…: not for production. docs/providers/http.md')
    .action(async (options: ProviderTestOptions) => {
      const { testProvider } = await import('./conformance/index.js')
      const { signingKeys, issuer, ca, json = false, wait, ...rest } = options
      if ((signingKeys === undefined) !== (issuer === undefined)) throw new UsageError('--signing-keys and --issuer go together')
      const signing = signingKeys && issuer ? { issuer, keys: await secretOf(signingKeys) } : undefined
      const told = { say: shell.stderr.write, line: shell.stdout.write, json }
      const pem = ca === undefined ? undefined : readFileSync(ca, 'utf8')
      const verdict = await testProvider({ ...rest, signing, ca: pem, waitMs: wait * 1000, signal: stopping.signal }, told)
      if (!verdict.ok) shell.exitWith(verdict.unreachable ? EXIT.unreachable : EXIT.failed)
    })
  return new Command('provider').description('providers that you write').addCommand(test)
}

/** What a reference of the command line stands for, as one of the configuration. */
async function secretOf(reference: string): Promise<string> {
  const { createReferences } = await import('./config-references.js')
  const problems: string[] = []
  if (!/^(file|env):/.test(reference)) throw new UsageError('--signing-keys is file:PATH or env:NAME: a key on the command line is seen by others')
  const found = await createReferences(process.cwd(), env, problems).resolve(reference, ['--signing-keys'])
  if (typeof found !== 'string') throw new UsageError(problems.join('; '))
  return found
}

/** What the broker's own code throws, in the words of the command line. */
function told(error: unknown): unknown {
  if (error instanceof MayflyError) return new CommandError(error.code, error.message, error.details.next)
  if (error instanceof Error && error.name === 'ConfigError')
    return new CommandError('config', error.message, 'every field is documented in config/mayfly.yaml')
  if (error instanceof Error && 'code' in error && error.code === 'EADDRINUSE')
    return new CommandError('address_in_use', error.message, 'end what listens there, or choose another port')
  return error
}

function versionOf(packageJson: string): string {
  const { version } = JSON.parse(packageJson) as { version: string }
  return version
}

function port(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_534) throw new InvalidArgumentError('give a port from 0 to 65534')
  return Number(text)
}

function wholeSeconds(text: string): number {
  if (!/^\d{1,4}$/.test(text)) throw new InvalidArgumentError('give whole seconds')
  return Number(text)
}

function jsonObject(text: string): Record<string, unknown> {
  const wanted = new InvalidArgumentError('give a JSON object, as \'{"regions": ["eu"]}\'')
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value }
  } catch {
    throw wanted
  }
  throw wanted
}

function outOf(stream: NodeJS.WriteStream): Out {
  return { write: (text) => void stream.write(text), isTerminal: stream.isTTY === true }
}

/** Commander ends the process by itself unless each command is told not to. */
function throwing(command: Command): void {
  command.exitOverride()
  for (const inner of command.commands) throwing(inner)
}
