import { createHash } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import type { Mayfly } from '../client/index.js'
import { CommandError, EXIT, type Shell } from './shell.js'
import { line } from './text.js'

const ID = /^revocation_\d\d[a-z2-7]{26}$/

/** Whether it names a revocation rather than a file. */
export function isRevocation(text: string): boolean {
  return ID.test(text)
}

/** Fetches a report and looks whether it is whole; into the file, or to stdout. Whose signature it is, only the published keys tell. */
export async function fetchReport(operator: Mayfly['operator'], id: string, file: string | undefined, shell: Shell): Promise<void> {
  const text = await operator.revocationReport(id, { signal: shell.signal })
  const end = text.lastIndexOf('\n', text.length - 2) + 1
  const last = sealOf(text.slice(end))
  if (!last) throw new CommandError('report_cut_off', 'the report has no last line: it was cut off', 'ask for it again')
  const { report, signed } = last
  const digest = createHash('sha256').update(text.slice(0, end)).digest('hex')
  if (report.lines_sha256 !== digest) throw new CommandError('report_broken', 'the lines of the report are not those that it was made of')
  if (file === undefined) shell.stdout.write(text)
  else await writeFile(file, text)
  const to = file === undefined ? '' : ` is in ${file}`
  line(shell.stderr, `the report of ${id}${to}: ${report.leases} leases, ${report.state}${signed ? ', signed' : ''}`)
  if (signed) return
  line(shell.stderr, 'it is not signed: the broker has no "signing" configured')
  shell.exitWith(EXIT.failed)
}

interface Sums {
  readonly leases?: number
  readonly state?: string
  readonly lines_sha256?: string
}

/** What the last line says, unverified; undefined: it is none. */
function sealOf(text: string): { report: Sums; signed: boolean } | undefined {
  try {
    const { jws, report } = JSON.parse(text) as { jws?: string; report?: Sums }
    if (report) return { report, signed: false }
    const payload = jws?.split('.')[1]
    return payload === undefined ? undefined : { report: JSON.parse(Buffer.from(payload, 'base64url').toString()) as Sums, signed: true }
  } catch {
    return undefined
  }
}
