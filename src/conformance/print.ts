import type { Description } from '../providers/http/wire.js'
import type { CaseResult, Verdict } from './run.js'

const MARKS = { passed: 'ok', failed: 'FAIL', 'not-applicable': 'n/a', 'not-judged': '-' } as const

/** `FAIL  revoking twice is success` and, below it, what was seen. */
export function lineOf({ name, outcome, detail }: CaseResult): string {
  const first = `${MARKS[outcome].padEnd(4)}  ${name}`
  const more = detail === undefined ? '' : outcome === 'failed' ? `\n      -> ${detail}` : ` (${detail})`
  return plain(`${first}${more}`)
}

/** What it comes to, and what to do next. */
export function summaryOf(verdict: Verdict, audience: string | undefined): string {
  const { cases, left, ok, description, service } = verdict
  const count = (outcome: CaseResult['outcome']) => cases.filter((one) => one.outcome === outcome).length
  const counts = `${count('passed')} passed, ${count('failed')} failed, ${count('not-applicable')} do not apply, ${count('not-judged')} not judged`
  const behind =
    left.length === 0 ? [] : [`left behind, because their revoke was not answered: ${left.slice(0, 5).join(' ')}${left.length > 5 ? ' …' : ''}`]
  if (!ok || description === undefined) return plain(['', counts, ...behind, 'What each case wants is in docs/providers/http.md'].join('\n'))
  return plain(['', counts, 'For the configuration of Mayfly:', ...configurationOf(description, service, audience)].join('\n'))
}

/** What the service says of itself, as the operator writes it down. */
function configurationOf({ version: _wire, type, ...said }: Description, url: string, audience: string | undefined): string[] {
  const about = Object.entries({ url, ...(audience === undefined ? {} : { audience }), credential_type: type, ...said })
  const lines = about.map(([key, value]) => `    ${key}: ${Array.isArray(value) ? `[${value.join(', ')}]` : value}`)
  return ['providers:', '  my-service:', '    type: http', ...lines]
}

function plain(text: string): string {
  return text.replace(/[^\P{Cc}\n]/gu, '?')
}
