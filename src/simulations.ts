import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { EVENTS_FILE } from './audit/jsonl.js'
import type { Config } from './config.js'
import { MayflyError } from './errors.js'
import type { Surroundings } from './http/surroundings.js'
import { candidateOf, isOpa, simulate } from './policy/index.js'

const RETRY_AFTER_SECONDS = 5

/** Simulations on a broker, one at a time: they must not be in the way of issuing. The recorded requests are those that its own sinks hold. */
export function createSimulations(config: () => Config): Surroundings['simulate'] {
  let busy = false
  return async ({ policies, schema, requests, sinceMs, limit, deadlineMs }) => {
    if (busy) throw new MayflyError('rate_limited', 'another simulation is under way', { retryAfterSeconds: RETRY_AFTER_SECONDS })
    busy = true
    try {
      const { policy, sinks } = config()
      if (isOpa(policy)) {
        const next = 'load the candidate there under a path of its own, and run `mayfly policy test` with a configuration that names that path'
        throw new MayflyError('request_invalid', 'the policies of this broker are in an OPA: only those that are files here can be simulated', {
          next,
        })
      }
      const files = sinks.map(({ path }) => join(path, EVENTS_FILE)).filter((file) => existsSync(file))
      const asked = requests ? { given: requests } : { files, sinceMs, limit }
      return await simulate({ binding: policy, candidate: candidateOf(policy, policies, schema), requests: asked, deadlineMs })
    } finally {
      busy = false
    }
  }
}
