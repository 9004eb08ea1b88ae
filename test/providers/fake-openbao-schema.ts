import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'

const published = JSON.parse(readFileSync(new URL('published/openbao.json', import.meta.url), 'utf8'))
/** The formats of Vault's document are names of its own field types: `sdk/framework/openapi.go`. */
const ajv = new Ajv({
  strict: true,
  strictTypes: false,
  formats: {
    lowercase: /^[^A-Z]*$/,
    map: true,
    int64: true,
    duration: /^(\d+|(\d+(h|m|s|ms))+)$/,
    'date-time': /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/,
  },
})

/** Where an engine is mounted, if not at its own name. */
const MOUNTS: Readonly<Record<string, string>> = { kv_v2: 'secret' }

export interface Operation {
  /** What is wrong with a request's body, or nothing. Unknown fields are wrong here, where OpenBao only ignores them. */
  wrong(body: Readonly<Record<string, unknown>>): string | undefined
}

/** The published operation of this method at this path, below /v1. */
export function operationOf(method: string, path: string): Operation | undefined {
  for (const [template, methods] of Object.entries<Record<string, unknown>>(published.paths)) {
    const mounted = template.slice(1).replace(/\{([a-z0-9_]+)_mount_path\}/, (_, engine: string) => MOUNTS[engine] ?? engine)
    const pattern = new RegExp(`^${mounted.replace(/\{[^}]+\}/g, '[^/]+')}$`)
    const operation = Object(methods[method.toLowerCase()])
    if (!pattern.test(path) || methods[method.toLowerCase()] === undefined) continue
    const name = operation.requestBody?.content['application/json'].schema.$ref.split('/').at(-1)
    const schema = { ...(name === undefined ? { type: 'object' } : published.components.schemas[name]), additionalProperties: false }
    return { wrong: (body) => (ajv.validate(schema, body) ? undefined : `the body does not match the published schema: ${ajv.errorsText()}`) }
  }
  return undefined
}

/** Whether an answer's data match the published schema of that name. */
export function matches(name: string, data: unknown): boolean {
  return ajv.validate(published.components.schemas[name], data)
}
