import { createServer } from 'node:http'
import { generateSigningKeys, openSigner, type TokenSigner } from '../signer.js'

const HOST = '127.0.0.1'
const PATH = '/.well-known/jwks.json'

export interface ServedKeys {
  readonly signer: TokenSigner
  /** What a service is to take as issuer, and where its keys are. */
  readonly issuer: string
  readonly jwksUrl: string
  close(): Promise<void>
}

/** A key made for this run alone, and its public half on loopback, where a service under test can fetch it as from a broker. */
export async function serveEphemeralKeys(port: number): Promise<ServedKeys> {
  const keys = await generateSigningKeys()
  let published = ''
  const server = createServer((request, response) => {
    const known = request.method === 'GET' && request.url === PATH
    response.writeHead(known ? 200 : 404, { 'content-type': 'application/json' }).end(known ? published : '{}')
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, HOST, resolve)
  })
  const address = server.address()
  const issuer = `http://${HOST}:${typeof address === 'object' && address !== null ? address.port : port}`
  const signer = await openSigner({ issuer, keys })
  published = JSON.stringify(signer.jwks())
  return {
    signer,
    issuer,
    jwksUrl: `${issuer}${PATH}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
