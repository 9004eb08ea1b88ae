import type { IncomingMessage } from 'node:http'
import type { Route } from './route.js'

/**
 * Which part of the broker's time a request may use, told from its first line alone, before anybody is known: what only operators may call, what ends or
 * gives back, what needs no token (probes, documents), and everything else, which can be asked again later.
 */
export type Share = 'stop' | 'end' | 'open' | 'ask'

/** The share of each request to these routes; what no route matches is turned away cheaply, and asks. */
export function createShares(routes: readonly Route[]): (request: Pick<IncomingMessage, 'method' | 'url'>) => Share {
  const patterns = (['stop', 'end', 'open'] as const).map((share) => [share, patternOf(routes.filter((route) => shareOf(route) === share))] as const)
  const literal = new Map(routes.filter(({ path }) => !path.includes('{')).map((route) => [lineOf(route.method, route.path), shareOf(route)]))
  return ({ method = '', url = '' }) => {
    const query = url.indexOf('?')
    const line = lineOf(method === 'HEAD' ? 'GET' : method, query < 0 ? url : url.slice(0, query))
    return literal.get(line) ?? patterns.find(([, pattern]) => pattern.test(line))?.[0] ?? 'ask'
  }
}

function shareOf({ who, widens, method, oauth }: Route): Share {
  if (!who) return 'open'
  if (who.every((kind) => kind === 'operator')) return 'stop'
  // Introspection reads, by a method of OAuth's choice.
  return widens || method === 'get' || oauth ? 'ask' : 'end'
}

function lineOf(method: string, path: string): string {
  return `${method.toUpperCase()} ${path}`
}

/** `POST /v1/tasks/{id}/complete`, and the others, as one pattern. */
function patternOf(routes: readonly Route[]): RegExp {
  const lines = routes.map(({ method, path }) =>
    lineOf(method, path)
      .replace(/[.+]/g, (char) => `\\${char}`)
      .replace(/\{\\\+\w+\}/g, '.+')
      .replace(/\{\w+\}/g, '[^/]+'),
  )
  return new RegExp(`^(?:${lines.join('|') || '(?!)'})$`)
}
