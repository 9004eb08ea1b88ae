/** `npm run bench -- <issue|decide|scale|startup|revoke|bulkhead|overload|failover> [--json] [--quick]`. Each prints what it measured; ratios are against a baseline of the same run. */
import { parseArgs } from 'node:util'

const BENCHES = {
  issue: './issue.js',
  decide: './decide.js',
  scale: './scale.js',
  startup: './startup.js',
  revoke: './revoke.js',
  bulkhead: './bulkhead.js',
  overload: './overload.js',
  failover: './failover.js',
} as const

const { values, positionals } = parseArgs({ allowPositionals: true, options: { json: { type: 'boolean' }, quick: { type: 'boolean' } } })
const chosen = positionals[0] ?? 'issue'
if (!(chosen in BENCHES)) {
  process.stderr.write(`there is no bench "${chosen}"; there are ${Object.keys(BENCHES).join(', ')}\n`)
  process.exit(2)
}
const { run } = (await import(BENCHES[chosen as keyof typeof BENCHES])) as {
  run(options: { quick: boolean; say: (line: string) => void }): Promise<object>
}
const say = (line: string) => process.stderr.write(`${line}\n`)
const result = await run({ quick: values.quick ?? false, say })
process.stdout.write(`${JSON.stringify(result, null, values.json ? undefined : 2)}\n`)
process.exit(0)
