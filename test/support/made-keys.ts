import { createServer } from 'node:http'

/** A service of the `http` provider that keeps names, and lies about them where a test says so. */
export interface KeyService {
  readonly url: string
  /** Names that exist. */
  readonly names: Set<string>
  /** Says that it took back what it goes on taking. */
  ignoresRevokes: boolean
  /** Answers no question about one name. */
  answersVerify: boolean
  /** Operations asked for, in their order: `revoke mf-…`. */
  readonly asked: string[]
  stop(): Promise<void>
}

export async function startKeyService(): Promise<KeyService> {
  const names = new Set<string>()
  const asked: string[] = []
  const answer = (operation: string, body: { name: string }): object | undefined => {
    const { name } = body
    if (operation === 'describe') return { ...DESCRIPTION, type: 'made-key' }
    asked.push(`${operation} ${name}`)
    if (operation === 'mint') {
      names.add(name)
      return { credential: { fields: { key: `secret of ${name}` }, env: {} } }
    }
    if (operation === 'verify') return self.answersVerify ? { state: names.has(name) ? 'alive' : 'dead' } : undefined
    const there = self.ignoresRevokes ? names.has(name) : names.delete(name)
    return { outcome: there ? 'revoked' : 'absent' }
  }
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk)
    const said = answer((request.url ?? '').split('/').at(-1) ?? '', JSON.parse(Buffer.concat(chunks).toString() || '{}'))
    const problem = { type: 'about:blank', title: 'busy', status: 503, kind: 'unavailable' }
    response.writeHead(said ? 200 : 503, { 'content-type': said ? 'application/json' : 'application/problem+json' })
    response.end(JSON.stringify(said ?? problem))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const self: KeyService = {
    url: `http://127.0.0.1:${port}/keys`,
    names,
    ignoresRevokes: false,
    answersVerify: true,
    asked,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
  return self
}

const DESCRIPTION = {
  version: 1,
  revocation: 'immediate',
  residual_seconds: 0,
  shortest_life_seconds: 0,
  renewable: false,
  verifiable: true,
  cuts_sessions: false,
  expiry_ends_use: true,
  scope_keys: [],
  env: [],
}

/** The provider `keys` and its role `made-key`, as YAML. */
export function keyProvider({ url }: KeyService): { providers: string; roles: string } {
  return {
    providers: `  keys: {type: http, url: "${url}", credential_type: made-key, revocation: immediate, residual_seconds: 0, renewable: false, verifiable: true, cuts_sessions: false, expiry_ends_use: true, scope_keys: [], env: []}`,
    roles: '  made-key: {provider: keys, access: read, sensitivity: internal, max_ttl: 5m, params: {}}',
  }
}
