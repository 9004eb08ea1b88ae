import type { X509Certificate } from 'node:crypto'
import { MayflyError } from '../../errors.js'
import type { Fetching } from '../options.js'
import type { OutboundRules } from '../outbound.js'
import { parseBundle } from './bundle.js'
import { parseSpiffeId } from './id.js'
import { svidReader } from './svid.js'

/**
 * SPIFFE Federation §5.2.2, https_spiffe: a bundle endpoint that is itself a workload of its trust domain. Its certificate is verified against the
 * authorities of the bundle that was fetched last, or of the one to begin with, and must be the SVID of that workload; the name in the URL says nothing. Throws
 * an `Error` on a beginning that vouches for nobody.
 */
export function endpointRules(
  options: Fetching & { readonly trustDomain: string },
  { spiffeId, bootstrap }: { readonly spiffeId: string; readonly bootstrap: object },
): (held: readonly X509Certificate[]) => Promise<OutboundRules> {
  const id = parseSpiffeId(spiffeId)
  if ('refused' in id) throw new Error(`the SPIFFE ID of its endpoint ${id.refused}`)
  if (id.trustDomain !== options.trustDomain) throw new Error('the SPIFFE ID of its endpoint is of another trust domain')
  const { authorities } = parseBundle(bootstrap, [])
  if (authorities.length === 0) throw new Error('the bundle to begin with has no X.509 authority')
  return async (held) => {
    const read = await svidReader()
    return {
      ...options,
      ca: (held.length > 0 ? held : authorities).join(''),
      checkServerIdentity: (_host, { raw }) => refusalOf(() => read(raw), id.path, options.trustDomain),
    }
  }
}

function refusalOf(read: () => { readonly trustDomain: string; readonly path: string }, path: string, trustDomain: string): Error | undefined {
  try {
    const shown = read()
    return shown.trustDomain === trustDomain && shown.path === path
      ? undefined
      : new Error('the bundle endpoint is another workload than the one configured')
  } catch (error) {
    const why = error instanceof MayflyError ? error.details.internal : undefined
    return new Error(`the bundle endpoint has shown no X.509-SVID: ${why ?? 'unknown'}`)
  }
}
