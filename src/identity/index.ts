import { isDeepStrictEqual } from 'node:util'
import { MayflyError } from '../errors.js'
import type { Principal } from '../types.js'
import { compileBinding } from './binding.js'
import { TokenCache } from './cache.js'
import { type PeerCertificate, stillStands, type VerifiedCertificate, verifyCertificate } from './certificate.js'
import { explainCertificate, explainToken } from './explain.js'
import { verifyHuman } from './human.js'
import type { Identity, IdentityCapabilities } from './identity.js'
import { createIssuer, type Issuer } from './issuer.js'
import { bearerToken } from './jws.js'
import { compileMapping } from './mapping.js'
import type { IdentityOptions } from './options.js'
import { refuse } from './refuse.js'
import { consumeOnce } from './replay.js'
import { type Check, verifyToken } from './verify.js'

export { lintIdentity } from './lint.js'
export { createRoster, createStanding, idsOf } from './roster.js'

const run: Check = async (_name, check) => check()

/** What an identity was made of, for the one after it. */
const origins = new WeakMap<Identity, { readonly options: IdentityOptions; readonly issuers: ReadonlyMap<string, Issuer> }>()

/**
 * Compiles the configuration (an `Error` names the path of what is wrong) and starts to fetch keys. `now` is milliseconds since the Unix epoch;
 * it also times key refreshes, so that one clock decides. Issuers that are configured as they were `before` are taken over with their keys and
 * bundles: a reload while one of them is down takes nothing away, and no older bundle is believed after it.
 */
export function createIdentity(options: IdentityOptions, { consume, now }: IdentityCapabilities, before?: Identity): Identity {
  const issuers = createIssuers(options, now, before && origins.get(before))
  const all = [...issuers.values()]
  const verifier = {
    issuers,
    ownIssuers: options.ownIssuers ?? [],
    mapping: compileMapping(options, all),
    binding: compileBinding(options, all),
    now,
  }
  const cache = new TokenCache(options.cacheEntries)
  const certificates = new WeakMap<PeerCertificate, VerifiedCertificate>()
  let isClosed = false
  for (const { keys } of issuers.values()) keys.start()

  const byToken = async (authorization: string | undefined): Promise<Principal> => {
    const token = bearerToken(authorization)
    const known = cache.get(token, now())
    if (known !== undefined) return known
    const { principal, issuer, key, jws } = await verifyToken(token, verifier, run)
    if (issuer.singleUse) await consumeOnce(consume, jws, issuer, principal.tokenExpiresAt - now())
    else cache.set(token, { principal, issuer, key })
    return principal
  }
  /** Once for each connection; each request looks whether it still holds. */
  const byCertificate = async (certificate: PeerCertificate): Promise<Principal> => {
    const known = certificates.get(certificate)
    if (known !== undefined && stillStands(known, now())) return known.principal
    const verified = await verifyCertificate(certificate, verifier, run)
    certificates.set(certificate, verified)
    return verified.principal
  }

  const identity: Identity = {
    async verify(authorization, certificate) {
      if (certificate === undefined) return byToken(authorization)
      if (authorization === undefined) return byCertificate(certificate)
      const shown = certificate.refused === undefined ? await byCertificate(certificate).catch(nobody) : undefined
      const principal = await byToken(authorization)
      if (shown !== undefined && !isSame(shown, principal))
        refuse('token_invalid', 'the certificate of the connection is somebody else than the token')
      return principal
    },
    verifyHuman: (token, presenter) => verifyHuman(token, presenter, verifier, consume),
    explain: (text) => (text.startsWith('-----BEGIN CERTIFICATE') ? explainCertificate(text, verifier) : explainToken(text, verifier)),
    authorities: (name) => {
      const issuer = [...issuers.values()].find((candidate) => candidate.name === name)
      return issuer?.domain?.authorities().map(String) ?? []
    },
    onAuthorities: (listener) => {
      for (const { domain } of issuers.values()) domain?.onChange(listener)
    },
    status: () => [...issuers.values()].map(({ name, keys }) => ({ name, ...keys.status() })),
    cache,
    async close() {
      if (isClosed) return
      isClosed = true
      for (const { keys } of issuers.values()) keys.close()
    },
  }
  origins.set(identity, { options, issuers })
  return identity
}

/** A certificate that was not verified, or is nobody's, says nothing of who holds a token. */
function nobody(error: unknown): undefined {
  if (!(error instanceof MayflyError && error.status === 401)) throw error
}

function isSame(one: Principal, other: Principal): boolean {
  return one.kind === other.kind && one.id === other.id && instanceOf(one) === instanceOf(other)
}

function instanceOf(principal: Principal): string | undefined {
  return principal.kind === 'agent' ? principal.instance : undefined
}

function createIssuers(
  options: IdentityOptions,
  now: () => number,
  before?: { readonly options: IdentityOptions; readonly issuers: ReadonlyMap<string, Issuer> },
): Map<string, Issuer> {
  const issuers = new Map<string, Issuer>()
  const earlier = new Map([...(before?.issuers.values() ?? [])].map((issuer) => [issuer.name, issuer]))
  for (const [name, issuerOptions] of Object.entries(options.issuers)) {
    const kept = isDeepStrictEqual(before?.options.issuers[name], issuerOptions) ? earlier.get(name) : undefined
    const issuer = kept ?? createIssuer(name, issuerOptions, now)
    const same = issuers.get(issuer.iss)
    if (same !== undefined) throw new Error(`issuers.${name}: has the same "iss" as issuers.${same.name}; each issuer is configured once`)
    issuers.set(issuer.iss, issuer)
  }
  return issuers
}
