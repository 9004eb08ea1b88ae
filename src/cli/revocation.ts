import { setTimeout as pause } from 'node:timers/promises'
import { type Mayfly, MayflyApiError, MayflyUnreachableError } from '../client/index.js'
import { EXIT, type ExitCode, type Out, type Shell } from './shell.js'
import { line, plain, until } from './text.js'

export type Revocation = Awaited<ReturnType<Mayfly['operator']['revocation']>>

const POLL_MS = 500
/** A broker that restarts is not the end of what it began. */
const PATIENCE_MS = 60_000
/** Into a file or a log: one line so often, where something has changed. */
const LINE_MS = 5_000

/** Until it is finished. The broker goes on by itself: whoever stops looking stops nothing. */
export async function follow(operator: Mayfly['operator'], id: string, shell: Shell): Promise<Revocation> {
  const show = shell.stderr.isTerminal ? redrawing(shell.stderr) : inLines(shell.stderr)
  for (let seenAt = performance.now(); ; ) {
    const seen = await operator.revocation(id, { signal: shell.signal }).catch((error: unknown) => {
      if (!mayPass(error) || performance.now() > seenAt + PATIENCE_MS) throw error
      return undefined
    })
    if (seen) {
      seenAt = performance.now()
      show(seen)
      if (seen.state === 'finished') return seen
    }
    await pause(POLL_MS, undefined, { signal: shell.signal })
  }
}

function mayPass(error: unknown): boolean {
  return error instanceof MayflyUnreachableError || (error instanceof MayflyApiError && (error.status >= 502 || error.status === 429))
}

/** The sum and a line for each provider, over what was there before; nothing is left of them once it is finished. */
function redrawing(out: Out): (seen: Revocation) => void {
  let drawn = 0
  return (seen) => {
    const lines = seen.state === 'finished' ? [] : [inNumbers(seen), ...seen.providers.map((one) => `  ${atProvider(one)}`)]
    const up = drawn > 0 ? `\u001b[${drawn}A` : ''
    // A line that wraps would be two, and one of them would stay.
    out.write(`${up}\r\u001b[J${lines.map((text) => `${plain(text).slice(0, 79)}\n`).join('')}`)
    drawn = lines.length
  }
}

function inLines(out: Out): (seen: Revocation) => void {
  let last = ''
  let at = Number.NEGATIVE_INFINITY
  return (seen) => {
    const said = [inNumbers(seen), ...seen.providers.map(atProvider)].join('; ')
    const counts = JSON.stringify([seen.state, seen.providers.map(({ residual_until: _, ...counted }) => counted)])
    if (counts === last || (performance.now() < at + LINE_MS && seen.state !== 'finished')) return
    last = counts
    at = performance.now()
    line(out, said)
  }
}

export function inNumbers({ state, matched, revoked, expired, pending, failed, residual_until }: Revocation): string {
  const residual = pending > 0 && residual_until !== undefined ? `, usable for at most ${until(residual_until)}` : ''
  const failing = failed > 0 ? ` (${failed} failed at their last attempt and are tried again)` : ''
  return `${state}: ${matched} matched, ${revoked} revoked, ${expired} expired, ${pending} pending${failing}${residual}`
}

function atProvider({ provider, matched, revoked, expired, failed, residual_until }: Revocation['providers'][number]): string {
  const ended = `${revoked + expired} of ${matched} ended`
  return [`${provider} ${ended}`, failed > 0 && `${failed} failing`, residual_until && `usable for at most ${until(residual_until)}`]
    .filter(Boolean)
    .join(', ')
}

export function exitOf({ state, pending }: Revocation, unreachable: number): ExitCode {
  return unreachable > 0 || (state === 'finished' && pending > 0) ? EXIT.failed : EXIT.done
}
