import { compileBinding } from './binding.js'
import { TokenCache } from './cache.js'
import { explainToken } from './explain.js'
import { verifyHuman } from './human.js'
import type { Identity, IdentityCapabilities } from './identity.js'
import { createIssuer, type Issuer } from './issuer.js'
import { bearerToken } from './jws.js'
import { compileMapping } from './mapping.js'
import type { IdentityOptions } from './options.js'
import { consumeOnce } from './replay.js'
import { type Check, verifyToken } from './verify.js'

export { lintIdentity } from './lint.js'
export { createRoster, idsOf } from './roster.js'

const run: Check = async (_name, check) => check()

/**
 * Compiles the configuration (an `Error` names the path of what is wrong) and starts to fetch keys. `now` is milliseconds since the Unix epoch;
 * it also times key refreshes, so that one clock decides.
 */
export function createIdentity(options: IdentityOptions, { consume, now }: IdentityCapabilities): Identity {
  const issuers = createIssuers(options, now)
  const all = [...issuers.values()]
  const verifier = {
    issuers,
    ownIssuers: options.ownIssuers ?? [],
    mapping: compileMapping(options, all),
    binding: compileBinding(options, all),
    now,
  }
  const cache = new TokenCache(options.cacheEntries)
  for (const { keys } of issuers.values()) keys.start()
  return {
    async verify(authorization) {
      const token = bearerToken(authorization)
      const known = cache.get(token, now())
      if (known !== undefined) return known
      const { principal, issuer, key, jws } = await verifyToken(token, verifier, run)
      if (issuer.singleUse) await consumeOnce(consume, jws, issuer, principal.tokenExpiresAt - now())
      else cache.set(token, { principal, issuer, key })
      return principal
    },
    verifyHuman: (token, presenter) => verifyHuman(token, presenter, verifier, consume),
    explain: (token) => explainToken(token, verifier),
    status: () => [...issuers.values()].map(({ name, keys }) => ({ name, ...keys.status() })),
    cache,
    async close() {
      for (const { keys } of issuers.values()) keys.close()
    },
  }
}

function createIssuers(options: IdentityOptions, now: () => number): Map<string, Issuer> {
  const issuers = new Map<string, Issuer>()
  for (const [name, issuerOptions] of Object.entries(options.issuers)) {
    const issuer = createIssuer(name, issuerOptions, now)
    const same = issuers.get(issuer.iss)
    if (same !== undefined) throw new Error(`issuers.${name}: has the same "iss" as issuers.${same.name}; each issuer is configured once`)
    issuers.set(issuer.iss, issuer)
  }
  return issuers
}
