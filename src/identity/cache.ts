import { LRUCache } from 'lru-cache'
import type { Principal } from '../types.js'
import type { Issuer } from './issuer.js'
import type { VerificationKey } from './jwk.js'

const DEFAULT_ENTRIES = 20_000
const MAX_CHARACTERS = 32 * 1024 * 1024

interface Verified {
  readonly principal: Principal
  readonly issuer: Issuer
  readonly key: VerificationKey
}

/**
 * Verified tokens by the header that carried them. An entry outlives neither its token (`exp`, without skew) nor its key, nor the stale limit of
 * its issuer: each hit looks. A class for its state.
 */
export class TokenCache {
  readonly #entries: LRUCache<string, Verified> | undefined
  hits = 0
  misses = 0

  constructor(entries: number = DEFAULT_ENTRIES) {
    this.#entries =
      entries === 0 ? undefined : new LRUCache({ max: entries, maxSize: MAX_CHARACTERS, sizeCalculation: (_verified, header) => header.length })
  }

  get(authorization: string, now: number): Principal | undefined {
    const verified = this.#entries?.get(authorization)
    if (verified !== undefined) {
      if (now < verified.principal.tokenExpiresAt && verified.issuer.keys.stands(verified.key)) {
        this.hits++
        return verified.principal
      }
      this.#entries?.delete(authorization)
    }
    this.misses++
    return undefined
  }

  set(authorization: string, verified: Verified): void {
    this.#entries?.set(authorization, verified)
  }
}
