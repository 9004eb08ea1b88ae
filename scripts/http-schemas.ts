import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { OPERATIONS, problem, requestToken } from '../src/providers/http/wire.js'

const ROOT = resolve(import.meta.dirname, '..')
export const HTTP_SCHEMAS = join(ROOT, 'docs/providers/http')

/** `docs/providers/http/*.schema.json`, by file name, from `src/providers/http/wire.ts`. Run this file to write them. */
export function httpSchemas(): Record<string, object> {
  const messages = Object.entries(OPERATIONS).flatMap(([operation, { request, answer }]): [string, z.ZodType, string][] => [
    [`${operation}.request`, request, `Body of POST <url>/${operation}`],
    [`${operation}.answer`, answer, `Body of the answer to ${operation}, 200`],
  ])
  const all: [string, z.ZodType, string][] = [
    ...messages,
    ['problem', problem, 'Body of every refusal (RFC 9457)'],
    ['request-token', requestToken, 'Claims of the JWT in Authorization: Bearer'],
  ]
  return Object.fromEntries(
    all.map(([name, schema, title]) => {
      // "format" says it in a word; the pattern beside it, which knows leap years, nobody would read.
      const override = ({ jsonSchema }: { jsonSchema: z.core.JSONSchema.BaseSchema }) => {
        if (jsonSchema.format === 'date-time') delete jsonSchema.pattern
      }
      const { $schema, ...rest } = z.toJSONSchema(schema, { io: 'input', override })
      return [`${name}.schema.json`, { $schema, title, ...rest }]
    }),
  )
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(HTTP_SCHEMAS, { recursive: true })
  for (const [name, schema] of Object.entries(httpSchemas())) writeFileSync(join(HTTP_SCHEMAS, name), `${JSON.stringify(schema, null, 2)}\n`)
  execFileSync(join(ROOT, 'node_modules/.bin/biome'), ['format', '--write', HTTP_SCHEMAS], { cwd: ROOT, stdio: 'ignore' })
}
