import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Ajv, type ValidateFunction } from 'ajv'
import addFormats from 'ajv-formats'

/**
 * Part of the FAKE of Kubernetes: whether a request, or an answer, is as the published OpenAPI description has it. As the API server does
 * with `fieldValidation=Strict`, fields that the description does not know are refused.
 */
export interface Operation {
  readonly id: string
  readonly path: Readonly<Record<string, string>>
  /** What is wrong with the request, in the words of nobody in particular; undefined: nothing. */
  problem(query: URLSearchParams, body: unknown): string | undefined
  /** What is wrong with an answer. */
  answerProblem(status: number, body: unknown): string | undefined
}

interface Parameter {
  readonly in: string
  readonly name: string
  readonly required?: boolean
  readonly type?: string
  readonly schema?: object
}
interface Described {
  readonly operationId: string
  readonly parameters: readonly Parameter[]
  readonly responses: Readonly<Record<string, { readonly schema: object }>>
}
interface Published {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Described>>>>
  readonly definitions: Readonly<Record<string, object>>
}

const SECRET = { $ref: '#/definitions/io.k8s.api.core.v1.Secret' }
const STATUS = { $ref: '#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.Status' }

export function readOpenApi(): (method: string, path: string) => Operation | undefined {
  const published: Published = JSON.parse(readFileSync(join(import.meta.dirname, 'published', 'kubernetes.json'), 'utf8'))
  const ajv = new Ajv({ strict: false, allErrors: false })
  addFormats.default(ajv)
  const definitions = closed(published.definitions)
  const compiled = new Map<object, ValidateFunction>()
  const wrong = (schema: object, value: unknown): string | undefined => {
    const check = compiled.get(schema) ?? ajv.compile({ ...schema, definitions })
    compiled.set(schema, check)
    return check(value) ? undefined : `${check.errors?.[0]?.instancePath} ${check.errors?.[0]?.message} ${JSON.stringify(check.errors?.[0]?.params)}`
  }

  const operation = (described: Described, path: Record<string, string>): Operation => ({
    id: described.operationId,
    path,
    problem(query, body) {
      const known = new Map(described.parameters.filter((one) => one.in === 'query').map((one) => [one.name, one]))
      for (const [name, value] of query) {
        // Not in the description, but every request may have it: `WithRequestDeadline` of k8s.io/apiserver; a duration as Go writes it.
        if (name === 'timeout' && /^\d+(\.\d+)?(ms|s|m)$/.test(value)) continue
        const type = known.get(name)?.type
        if (type === undefined || (type === 'integer' && !/^\d+$/.test(value)) || (type === 'boolean' && !/^(true|false)$/.test(value)))
          return `query parameter ${name}`
      }
      const wanted = described.parameters.find((one) => one.in === 'body')
      if (body === undefined) return wanted?.required ? 'a body is required' : undefined
      return wanted?.schema ? wrong(wanted.schema, body) : 'no body is expected'
    },
    answerProblem(status, body) {
      // The description says Status; the server answers a DELETE with the object itself where something keeps it.
      const kept = described.operationId === 'deleteCoreV1NamespacedSecret' && Object(body).kind === 'Secret'
      if (kept) return wrong(SECRET, body)
      const schema = described.responses[status]?.schema ?? STATUS
      return wrong(schema, body)
    },
  })

  return (method, path) => {
    for (const [template, methods] of Object.entries(published.paths)) {
      const variables = match(template, path)
      const described = methods[method.toLowerCase()]
      if (variables && described) return operation(described, variables)
    }
    return undefined
  }
}

function match(template: string, path: string): Record<string, string> | undefined {
  const wanted = template.split('/')
  const given = path.split('/')
  if (wanted.length !== given.length) return undefined
  const variables: Record<string, string> = {}
  for (const [index, part] of wanted.entries()) {
    const value = decodeURIComponent(given[index] ?? '')
    if (part.startsWith('{')) variables[part.slice(1, -1)] = value
    else if (part !== value) return undefined
  }
  return variables
}

/** The same definitions, whose objects take no fields but their own. */
function closed(definitions: Readonly<Record<string, object>>): Record<string, object> {
  return Object.fromEntries(
    Object.entries(definitions).map(([name, one]) => [name, 'properties' in one ? { ...one, additionalProperties: false } : one]),
  )
}
