import { published } from '../documents.js'
import { notFound } from '../operator.js'
import { NOTHING, OCTETS, openRoute, type Route } from '../route.js'

/** A revocation list is worth as much as it is new; this spares us who asks at each handshake. */
const CACHE = 'max-age=5'

const document = openRoute({
  method: 'get',
  path: '/v1/providers/{provider}/{document}',
  surfaces: ['public'],
  summary: 'What a provider publishes for whoever checks its credentials: a revocation list, the certificate of an authority.',
  answers: { 200: OCTETS, 304: NOTHING },
  contentType: 'application/octet-stream',
  codes: ['not_found', 'ledger_unavailable', 'document_unavailable'],
}).handle(async ({ house, path: { provider = '', document: name = '' }, headers: { 'if-none-match': known } }) => {
  const served = await published(house, provider, name)
  if (!served) throw notFound('document')
  const headers = { 'cache-control': CACHE, etag: served.etag }
  if (isKnown(served.etag, known)) return { status: 304, body: undefined, headers }
  return { status: 200, body: served.bytes, headers: { ...headers, 'content-type': served.contentType } }
})

export const documentRoutes: readonly Route[] = [document]

/** RFC 9110 §13.1.2: a list of tags, compared weakly, or `*`. Ours hold no comma. */
function isKnown(etag: string, header: string | undefined): boolean {
  const known = (header ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''))
  return known.includes(etag) || header?.trim() === '*'
}
