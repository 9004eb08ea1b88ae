import type { IncomingMessage, ServerResponse } from 'node:http'
import { MayflyError } from '../errors.js'
import type { Identity } from '../identity/identity.js'
import type { Principal } from '../types.js'
import { peerOf } from './peer.js'

/** Headers that mean something to us once: of two, a proxy may have judged one and we the other. */
const ONCE = new Set(['authorization', 'host', 'content-type', 'content-length', 'content-encoding', 'idempotency-key', 'dpop'])

/**
 * Refuses a request that could be read in two ways. Node silently keeps the first of a repeated header.
 * @throws MayflyError `malformed`; `token_invalid` when it is the token that is repeated
 */
export function refuseAmbiguous({ headers, rawHeaders }: IncomingMessage): void {
  // As many names as lines: nothing is repeated, and nothing has to be compared.
  if (Object.keys(headers).length * 2 === rawHeaders.length) return
  let seen = ''
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index]?.toLowerCase() ?? ''
    if (!ONCE.has(name)) continue
    if (seen.includes(`|${name}|`)) throw repeated(name)
    seen += `|${name}|`
  }
}

function repeated(name: string): MayflyError {
  if (name === 'authorization') return new MayflyError('token_invalid', 'the token was not accepted', { internal: 'repeated Authorization header' })
  return new MayflyError('malformed', `the header "${name}" is repeated`)
}

/**
 * By the token, or by the certificate of the connection. Whose certificate was refused is to come again on a new connection: with a newer one, or to be
 * verified against newer authorities.
 * @throws MayflyError `token_missing|token_invalid|token_expired|token_replayed|issuer_unavailable`
 */
export async function authenticate(request: IncomingMessage, response: Pick<ServerResponse, 'setHeader'>, identity: Identity): Promise<Principal> {
  const certificate = peerOf(request)
  try {
    return await identity.verify(request.headers.authorization, certificate)
  } catch (error) {
    if (certificate !== undefined) response.setHeader('connection', 'close')
    throw error
  }
}
