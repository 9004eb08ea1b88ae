import { type Decisions, measureDecisions } from './decisions.js'
import { startFleet } from './fleet.js'
import { bytesWritten, CONCURRENCY, type Measured, measure, middle, startBare } from './issue.js'
import type { Request } from './load.js'
import { MEASURING, median, pinSelf, round } from './support.js'

const AGENTS = 1_000
const TASKS = 4_000
const TOOLS = ['reports.list', 'reports.read', 'reports.search']

interface ToolCalls extends Measured {
  /** Of the requests a second of the bare baseline of `bench issue`, which writes a lease and its event and signs a token. */
  readonly ratio: number
  readonly bare: Measured
  readonly pairs: number
  readonly requests_per_round: number
  readonly concurrency: number
}

/** What a decision costs: by itself, remembered or not, and as a tool call over HTTP beside the bare baseline, in interleaved pairs. */
export async function run({ quick, say }: { quick: boolean; say: (line: string) => void }): Promise<Decisions & { readonly tool_call: ToolCalls }> {
  const decisions = await measureDecisions({ quick, say })
  return { ...decisions, tool_call: await measureToolCalls({ quick, say }) }
}

async function measureToolCalls({ quick, say }: { quick: boolean; say: (line: string) => void }): Promise<ToolCalls> {
  const pairs = quick ? 1 : 5
  const perRound = quick ? 2_000 : 8_000
  pinSelf(MEASURING)
  const fleet = await startFleet({ roles: ['role-0'], tools: TOOLS })
  say('opening tasks')
  const agents = Array.from({ length: AGENTS }, (_, n) => `agent-${n}`)
  const tokens = await Promise.all(agents.map((agent) => fleet.token(agent)))
  const tasks = await fleet.openTasks(TASKS, (n) => ({ agents: [`agent-${n % AGENTS}`], roles: ['role-0'], tools: TOOLS }))
  const any = () => {
    const n = Math.floor(Math.random() * TASKS)
    return { n, token: tokens[n % AGENTS] ?? '', task: tasks[n] ?? '' }
  }
  const call = (): Request => {
    const { n, token, task } = any()
    const body = JSON.stringify({ tool: TOOLS[n % TOOLS.length], action: 'read', target: `reports/${n}` })
    return { token, body, path: `/v1/tasks/${task}/tool-calls` }
  }
  const lease = (): Request => {
    const { token, task } = any()
    return { token, body: JSON.stringify({ task, role: 'role-0' }) }
  }
  const many = (of: () => Request, count = perRound) => Array.from({ length: count }, of)

  await measure(fleet.pid, fleet.port, many(lease, 1))
  const bare = await startBare(fleet, await bytesWritten(fleet))
  const full: Measured[] = []
  const bares: Measured[] = []
  const calls = () => measure(fleet.pid, fleet.port, many(call), '200')
  const bareLeases = () => measure(bare.pid, bare.answer, many(lease))
  say('warming up')
  for (const side of [calls, bareLeases]) await side()
  for (let pair = 1; pair <= pairs; pair++) {
    const sides = [async () => full.push(await calls()), async () => bares.push(await bareLeases())]
    for (const side of pair % 2 === 0 ? sides.reverse() : sides) await side()
    say(`pair ${pair}: tool calls ${full.at(-1)?.rps} rps, p50 ${full.at(-1)?.p50_ms} ms; bare ${bares.at(-1)?.rps} rps`)
  }
  await bare.stop()
  await fleet.stop()
  const ratio = round(median(full.map((one, n) => one.rps / (bares[n]?.rps ?? Number.NaN))), 3)
  return { ...middle(full), ratio, bare: middle(bares), pairs, requests_per_round: perRound, concurrency: CONCURRENCY }
}
