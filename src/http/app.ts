import express, { type Request, type RequestHandler } from 'express'
import { MayflyError } from '../errors.js'
import { refuseOperation } from '../task.js'
import { createAccessLog } from './access-log.js'
import { sendAnswer } from './answer.js'
import { authenticate, refuseAmbiguous } from './authenticate.js'
import { readBody } from './body.js'
import { tellBreakGlass } from './break-glass.js'
import { type Description, describe } from './openapi.js'
import { createErrorHandler } from './problem.js'
import { createRateLimit } from './rate-limit.js'
import { callerGoneOf, contextOf, type Exchange, type Reply } from './request-context.js'
import type { Route } from './route.js'
import { routesOn } from './routes/index.js'
import type { AppOptions } from './surroundings.js'

/**
 * The HTTP side of one listener. Every route takes the same way, in `serve`; one function rather than a chain of middleware, because the
 * whole way is then on one screen, and each link of a chain costs every request.
 */
export function createApp(options: AppOptions): express.Express {
  const app = express()
  app.disable('x-powered-by').disable('etag').enable('case sensitive routing').enable('strict routing')
  app.set('query parser', 'simple')
  app.set('trust proxy', [...options.trustProxy])

  const offered = routesOn(options.surface)
  let described: Description | undefined
  const around = { ...options, openapi: () => (described ??= describe(offered)) }
  const logAccess = createAccessLog(options.log)
  const limit = createRateLimit(options.requestsPerSecond)

  const begin = (request: Request, response: Reply, route?: Route): Exchange => {
    const startedAt = performance.now()
    const callerGone = callerGoneOf(request, response)
    const exchange: Exchange = { context: contextOf(request), house: options.house(), startedAt, route, callerGone }
    response.locals.exchange = exchange
    response.on('close', () => {
      if (!response.writableFinished) exchange.unsent?.()
      logAccess(exchange, request, response)
    })
    return exchange
  }

  const serve =
    (route: Route): RequestHandler =>
    async (request: Request, response: Reply) => {
      const exchange = begin(request, response, route)
      const { house, context, callerGone } = exchange
      refuseAmbiguous(request)
      if (options.isDraining()) response.setHeader('connection', 'close')
      if (route.who) {
        exchange.principal = await authenticate(request, response, options.identity())
        if (house.breakGlass.has(exchange.principal.issuer)) tellBreakGlass(house, exchange.principal, context, route, request.headers.authorization)
        await limit(exchange.principal, route)
        await refuseOtherKinds(exchange, route)
      }
      if (route.widens && options.isDraining()) throw new MayflyError('draining', 'this broker is shutting down', { retryAfterSeconds: 1 })
      const path = pathOf(request)
      const id = idOf(path, route)
      const body = await readBody(request, route)
      const query = queryOf(request, route)
      const { principal } = exchange
      if (principal && route.holds) await limit(principal, route, route.holds(body) - 1)
      const { headers } = request
      const answer = await route.run({ house, around, principal, id, path, body, query, headers, context, callerGone })
      exchange.unsent = answer.unsent
      await sendAnswer(response, route, answer)
    }

  for (const path of new Set(offered.map((route) => route.path))) {
    const here = offered.filter((route) => route.path === path)
    const mounted = app.route(expressPath(path))
    for (const route of here) mounted[route.method](serve(route))
    mounted.all((request, response) => {
      begin(request, response)
      throw new MayflyError('method_not_allowed', 'this path takes other methods', { allow: methodsOf(here) })
    })
  }
  app.use((request, response) => {
    begin(request, response)
    throw new MayflyError('not_found', 'there is no such path')
  })
  app.use(createErrorHandler(begin, options.log))
  return app
}

async function refuseOtherKinds({ house, context, principal }: Exchange, { who }: Route): Promise<void> {
  if (!principal || !who || who.includes(principal.kind)) return
  const error = new MayflyError('denied', `this call is for ${who.map((kind) => `${kind}s`).join(', ')}`, { next: 'call it with another identity' })
  throw who.every((kind) => kind === 'operator') ? await refuseOperation(house, principal, context, error) : error
}

/** An id that cannot be one of ours names nothing. */
function idOf({ id = '' }: Readonly<Record<string, string>>, route: Route): string {
  if (route.id && !route.id.test(id)) throw new MayflyError('not_found', 'there is no such thing for you')
  return id
}

/** The parameters of the path, decoded. */
function pathOf({ params }: Request): Readonly<Record<string, string>> {
  const path: Record<string, string> = {}
  for (const [name, given] of Object.entries(params)) path[name] = Array.isArray(given) ? given.join('/') : given
  return path
}

function queryOf(request: Request, { query }: Route): unknown {
  if (query) return request.query
  if (request.url.includes('?')) throw new MayflyError('request_invalid', 'this call takes no query parameters')
  return undefined
}

/** `{id}` -> `:id`, `{+id}` -> `*id`. */
function expressPath(path: string): string {
  return path.replace(/\{\+(\w+)\}/g, '*$1').replace(/\{(\w+)\}/g, ':$1')
}

/** Express answers HEAD wherever it answers GET. */
function methodsOf(routes: readonly Route[]): string[] {
  return routes.flatMap(({ method }) => (method === 'get' ? ['GET', 'HEAD'] : [method.toUpperCase()]))
}
