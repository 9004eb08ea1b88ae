import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible'
import { MayflyError } from '../errors.js'
import type { Principal } from '../types.js'
import type { Route } from './route.js'

/** `more`: of a request that was counted as one already. @throws MayflyError `rate_limited` */
export type RateLimit = (principal: Principal, route: Route, more?: number) => Promise<unknown>

/**
 * So many requests a second of each principal, per broker; a batch counts for as many as it holds. What makes new authority, what ends it and
 * what operators do are counted apart: a flood of asking never stands in the way of ending, and no flood of agents in an operator's.
 */
export function createRateLimit(requestsPerSecond: number): RateLimit {
  const bucket = () => new RateLimiterMemory({ points: requestsPerSecond, duration: 1 })
  const [operators, asking, ending] = [bucket(), bucket(), bucket()]
  return async (principal, route, more) => {
    // What holds more than a second has takes all of it.
    const requests = more === undefined ? 1 : Math.min(more, requestsPerSecond - 1)
    if (requests < 1) return
    const limiter = principal.kind === 'operator' ? operators : route.widens || route.method === 'get' ? asking : ending
    await limiter.consume(`${principal.kind} ${principal.issuer} ${principal.id}`, requests).catch(refused)
  }
}

function refused(reason: unknown): never {
  if (!(reason instanceof RateLimiterRes)) throw reason
  const retryAfterSeconds = Math.max(1, Math.ceil(reason.msBeforeNext / 1000))
  throw new MayflyError('rate_limited', 'you have sent too many requests', { retryAfterSeconds })
}
