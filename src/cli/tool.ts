import { Command } from 'commander'
import { type ConnectOptions, connect, wantsJson, withConnection } from './connect.js'
import type { Shell } from './shell.js'
import { json, line } from './text.js'

interface CheckOptions extends ConnectOptions {
  readonly task: string
  readonly tool: string
  readonly action: string
  readonly target: string
  readonly lease?: string
  readonly destination?: string
  readonly argumentsDigest?: string
  readonly agent?: string
  readonly issuer?: string
  readonly instance?: string
}

/** `mayfly tool …`: before a call. */
export function tool(shell: Shell): Command {
  return new Command('tool').description('whether a tool may be called').addCommand(check(shell))
}

function check(shell: Shell): Command {
  return withConnection(new Command('check'))
    .description('ask whether a tool may be called now, which is recorded; nothing is called')
    .requiredOption('--task <id>', 'what it is for')
    .requiredOption('--tool <name>')
    .requiredOption('--action <name>', 'what it is to do')
    .requiredOption('--target <name>', 'what it touches')
    .option('--lease <id>', 'that it is made with')
    .option('--destination <name>', 'where what it is given goes')
    .option('--arguments-digest <sha256>', 'of its arguments, in base64url; recorded')
    .option('--agent <id>', 'for gateways: in whose stead')
    .option('--issuer <name>', 'where agents of two issuers have this name')
    .option('--instance <id>', 'the running copy of that agent')
    .action(async (options: CheckOptions) => {
      const { task, tool, action, target, lease, destination, argumentsDigest, agent, issuer, instance } = options
      const call = { tool, action, target, lease, destination, arguments_digest: argumentsDigest, agent, issuer, instance }
      const answer = await connect(options, shell).tools.check(task, call, { signal: shell.signal })
      if (wantsJson(options, shell)) return json(shell.stdout, answer)
      const { call: id, enforced, must_ask: mustAsk, policies } = answer
      line(shell.stdout, `allowed by ${policies.join(', ')}${enforced ? '' : ' (advice)'}: call ${id}`)
      if (!mustAsk) line(shell.stdout, 'further calls of this tool need not be asked about in this task')
    })
}
