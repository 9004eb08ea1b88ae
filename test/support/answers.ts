import { OAuthError, Problem } from '../../src/api.js'
import { codesOf } from '../../src/http/openapi.js'
import type { Route } from '../../src/http/route.js'
import { ROUTES } from '../../src/http/routes/index.js'
import type { Answer, Callers } from './broker.js'

/** The line of the routes table that serves a request. */
export function routeOf(method: string, path: string): Route {
  const bare = path.split('?')[0] ?? path
  const found = ROUTES.find((route) => route.method === method.toLowerCase() && patternOf(route.path).test(bare))
  if (!found) throw new Error(`no route for ${method} ${path}`)
  return found
}

function patternOf(path: string): RegExp {
  return new RegExp(`^${path.replace(/\{\+\w+\}/g, '.+').replace(/\{\w+\}/g, '[^/]+')}$`)
}

/**
 * Calls, and throws unless the answer is one that OpenAPI promises: its status and shape are declared, a refusal's code is declared for
 * the route, and what must not be cached says so.
 */
export function checking(call: Callers['call']): Callers['call'] {
  return async (method, path, token, body, headers) => {
    const answer = await call(method, path, token, body, headers)
    checkAnswer(routeOf(method, path), answer)
    return answer
  }
}

export function checkAnswer(route: Route, { status, headers, body }: Answer): void {
  const schema = route.answers[status]
  const type = headers.get('content-type')
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(headers.get('x-request-id') ?? '')) throw new Error('an answer without x-request-id')
  if (schema) {
    schema.parse(body)
    if (type !== (route.contentType ?? 'application/json')) throw new Error(`answered as ${type}`)
  } else if (route.oauth) OAuthError.strict().parse(body)
  else {
    const problem = Problem.strict().parse(body)
    if (type !== 'application/problem+json' || problem.status !== status) throw new Error(`a problem as ${type}, ${problem.status} and ${status}`)
    if (![...codesOf(route)].some((code) => code === problem.code)) throw new Error(`${route.path} does not declare ${problem.code}`)
    if (problem.type !== `urn:mayfly:problem:${problem.code}`) throw new Error(`type ${problem.type} for ${problem.code}`)
  }
  if (headers.get('cache-control') !== 'no-store' && !route.path.startsWith('/.well-known/')) throw new Error('an answer that may be cached')
}
