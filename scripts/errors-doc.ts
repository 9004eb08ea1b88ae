import { writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ERRORS } from '../src/errors.js'

export const ERRORS_DOC = resolve(import.meta.dirname, '../docs/errors.md')

/** `docs/errors.md`, from the table in `src/errors.ts`. Run this file to write it. */
export function errorsDoc(): string {
  const rows = Object.entries(ERRORS)
    .sort(([, a], [, b]) => a.status - b.status)
    .map(([code, { status, means, next }]) => `| \`${code}\` | ${status} | ${means} | ${next} |`)
  return `# Errors

<!-- Written by \`npx tsx scripts/errors-doc.ts\` from src/errors.ts. -->

Every refusal of the native API is \`application/problem+json\` (RFC 9457):

\`\`\`json
{"type": "urn:mayfly:problem:frozen", "title": "Issuing is frozen", "status": 409, "code": "frozen",
 "detail": "issuing is frozen for this request", "next": "wait until an operator thaws it",
 "instance": "urn:uuid:3f0c2b1e-6f0a-4c1e-9d55-0a4a53a4c9d1"}
\`\`\`

\`code\` is stable: decide on it, and on \`status\` where you know no better. \`detail\` and \`next\` are for people. \`instance\` is the id of the event that
tells more: of a 401 it is the only thing that does. Where they apply there are also \`policies\` and \`reasons\` (what decided), \`errors\` (which field
is wrong), \`step_up\` (whose consent is missing), and the headers \`Retry-After\`, \`Allow\` and \`WWW-Authenticate\`.

OAuth endpoints (\`/oauth2/…\`) answer \`{"error", "error_description"}\` of RFC 6749 §5.2 instead.

| code | status | means | what to do |
|---|---|---|---|
${rows.join('\n')}
`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(ERRORS_DOC, errorsDoc())
