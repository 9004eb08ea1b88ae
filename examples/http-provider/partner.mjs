// A toy that stands for your own system, so that service.mjs can be tried: an API whose keys may read the orders of some regions.
// Replace it by calls to yours. What service.mjs needs of it: make, remove, extend and find a credential by a name that Mayfly gives.
import { createHash, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { setTimeout as pause } from 'node:timers/promises'

const DELAY_MS = Number(process.env.PARTNER_DELAY_MS ?? 5)
/** name -> {hash, regions, expiresAt}; keys themselves are not kept. */
const keys = new Map()
const hashOf = (key) => createHash('sha256').update(key).digest('hex')
const alive = (name) => (keys.get(name)?.expiresAt > Date.now() ? keys.get(name) : undefined)

export const partner = {
  regions: ['eu', 'us'],
  async create(name, { regions, expiresAt }) {
    await pause(DELAY_MS)
    const key = randomBytes(24).toString('base64url')
    keys.set(name, { hash: hashOf(key), regions, expiresAt })
    return key
  },
  async remove(name) {
    const had = alive(name) !== undefined
    keys.delete(name)
    return had
  },
  async extend(name, expiresAt) {
    const found = alive(name)
    if (found) found.expiresAt = expiresAt
    return found !== undefined
  },
  async exists(name) {
    return alive(name) !== undefined
  },
}

/** GET /orders/<region> with the key; GET /keys, for whoever wants to look inside the toy. */
export function servePartner(port) {
  const server = createServer((request, response) => {
    const [, what, region] = request.url.split('/')
    const hash = hashOf((request.headers.authorization ?? '').replace('Bearer ', ''))
    const mine = [...keys.keys()].map(alive).find((key) => key?.hash === hash)
    const answer = (status, body) => response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    if (what === 'keys') {
      const names = [...keys.keys()].filter(alive)
      const listed = names.map((name) => ({ name, expiresAt: keys.get(name).expiresAt }))
      return answer(200, listed)
    }
    if (what !== 'orders') return answer(404, {})
    if (!mine) return answer(401, {})
    return mine.regions.includes(region) ? answer(200, { region, orders: 3 }) : answer(403, {})
  })
  return new Promise((resolve) => server.listen(port, '127.0.0.1', () => resolve(server.address().port)))
}
