import { z } from 'zod'
import { OAuthError, Problem } from '../api.js'
import { ERRORS, type ErrorCode } from '../errors.js'
import { oauthErrorOf } from './oauth-error.js'
import { ANYONE, NOTHING, OCTETS, type Route, TEXT_STREAM } from './route.js'

export interface Description extends Schema {
  readonly openapi: string
}
type Schema = Readonly<Record<string, unknown>>

/** What any call with a token may be answered with, whatever it does. */
const OF_EVERY_CALL: readonly ErrorCode[] = [
  'token_missing',
  'token_invalid',
  'token_expired',
  'token_replayed',
  'issuer_unavailable',
  'rate_limited',
]
const OF_EVERY_BODY: readonly ErrorCode[] = ['too_large', 'unsupported_media_type']
/** Of the interface, which is in the paths as `/v1`. */
const API_VERSION = '1'
const DESCRIPTION = 'Just-in-time credentials for AI agents: they live exactly as long as the task.'

/** OpenAPI 3.1 of these routes, from the same schemas that check what comes in. */
export function describe(routes: readonly Route[]): Description {
  const schemas: Record<string, Schema> = {}
  const paths: Record<string, Record<string, Schema>> = {}
  for (const route of routes) {
    const path = route.path.replace('{+', '{')
    paths[path] = { ...paths[path], [route.method]: operationOf(route, schemas) }
  }
  return {
    openapi: '3.1.0',
    info: { title: 'Mayfly', version: API_VERSION, description: DESCRIPTION, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
    servers: [{ url: '/' }],
    paths,
    components: { schemas, securitySchemes: { workload: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } } },
  }
}

function operationOf(route: Route, schemas: Record<string, Schema>): Schema {
  const { summary, who, body, bodyType, bodyOptional, query, contentType = 'application/json' } = route
  const refer = (schema: z.ZodType, io: 'input' | 'output') => referTo(schema, io, schemas)
  const type = bodyType === 'form' ? 'application/x-www-form-urlencoded' : 'application/json'
  const answers = Object.entries(route.answers).map(([status, schema]) => [status, answerOf(schema, contentType, refer)])
  return {
    operationId: operationIdOf(route),
    summary,
    security: who ? [{ workload: [] }] : [],
    ...(who && { 'x-mayfly-callers': who }),
    parameters: [...pathParameters(route), ...queryParameters(query, schemas)],
    ...(body && { requestBody: { required: !bodyOptional, content: { [type]: { schema: refer(body, 'input') } } } }),
    responses: { ...Object.fromEntries(answers), ...problemsOf(route, refer) },
  }
}

/** Octets have no schema (OpenAPI 3.1.1 §4.14.1), and may be of any type: their answer names it. */
function answerOf(schema: z.ZodType, contentType: string, refer: (schema: z.ZodType, io: 'output') => Schema): Schema {
  if (schema === NOTHING) return { description: 'Nothing has changed since.' }
  if (schema === OCTETS) return { description: 'Done.', content: { '*/*': {} } }
  if (schema === TEXT_STREAM) return { description: 'Done.', content: { [contentType]: { schema: { type: 'string' } } } }
  return { description: 'Done.', content: { [contentType]: { schema: refer(schema, 'output') } } }
}

/** `POST /v1/leases/{id}/renew` -> `post_v1_leases_id_renew`. */
function operationIdOf({ method, path }: Route): string {
  return `${method}${path}`.replace(/[^A-Za-z0-9]+/g, '_').replace(/_$/, '')
}

function pathParameters({ path, id }: Route): Schema[] {
  return [...path.matchAll(/\{\+?(\w+)\}/g)].map(([, name]) => {
    const pattern = name === 'id' && id ? { pattern: id.source } : {}
    return { name, in: 'path', required: true, schema: { type: 'string', ...pattern } }
  })
}

function queryParameters(query: z.ZodType | undefined, schemas: Record<string, Schema>): Schema[] {
  if (!query) return []
  const { properties, required } = Queries.parse(hoist(z.toJSONSchema(query, { io: 'input' }), schemas))
  return Object.entries(properties).map(([name, schema]) => ({ name, in: 'query', required: required.includes(name), schema }))
}
const Queries = z.object({ properties: z.record(z.string(), z.unknown()), required: z.array(z.string()).default([]) })

/** Every code that a route may refuse with. */
export function codesOf(route: Route): ReadonlySet<ErrorCode> {
  const codes = new Set<ErrorCode>(['malformed', 'request_invalid', ...route.codes, 'overloaded', 'internal'])
  if (route.who) for (const code of OF_EVERY_CALL) codes.add(code)
  if (route.who && route.who.length < ANYONE.length) codes.add('denied')
  if (route.body) for (const code of OF_EVERY_BODY) codes.add(code)
  if (route.id) codes.add('not_found')
  // Whatever policy denies, it may not be there to.
  if (codes.has('denied')) codes.add('policy_unavailable')
  return codes
}

/** One answer for each status, naming its codes. */
function problemsOf(route: Route, refer: (schema: z.ZodType, io: 'output') => Schema): Record<string, Schema> {
  const byStatus = new Map<number, ErrorCode[]>()
  for (const code of codesOf(route)) {
    const status = route.oauth ? oauthErrorOf(code)[0] : ERRORS[code].status
    byStatus.set(status, [...(byStatus.get(status) ?? []), code])
  }
  const content = route.oauth
    ? { 'application/json': { schema: refer(OAuthError, 'output') } }
    : { 'application/problem+json': { schema: refer(Problem, 'output') } }
  const answers = [...byStatus].filter(([status]) => !(status in route.answers))
  return Object.fromEntries(answers.map(([status, some]) => [String(status), { description: some.map((code) => `\`${code}\``).join(', '), content }]))
}

function referTo(schema: z.ZodType, io: 'input' | 'output', schemas: Record<string, Schema>): Schema {
  return hoist(z.toJSONSchema(schema, { io }), schemas)
}

/** Moves what has a name to `components.schemas`. */
function hoist(schema: object, schemas: Record<string, Schema>): Schema {
  const { $schema: _dialect, $defs = {}, ...rest } = Hoisted.parse(JSON.parse(JSON.stringify(schema).replaceAll('#/$defs/', '#/components/schemas/')))
  Object.assign(schemas, $defs)
  return rest
}
const Hoisted = z.looseObject({ $schema: z.string().optional(), $defs: z.record(z.string(), z.record(z.string(), z.unknown())).optional() })
