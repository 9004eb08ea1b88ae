import { constants } from 'node:crypto'
import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'
import type { DetailedPeerCertificate, TLSSocket } from 'node:tls'
import type { PeerCertificate } from '../identity/certificate.js'

/** Client certificates that a listener asks for, and does not insist on: callers with a token need none. */
export interface ClientCertificates {
  /** Name of the trust domain's issuer in the configuration. */
  readonly issuer: string
  /** PEM. None: nobody's certificate is taken. */
  readonly authorities: readonly string[]
}

/** A leaf, those between, and an authority: more is no chain of a mesh. */
const MAX_CHAIN = 10

const peers = new WeakMap<Socket, PeerCertificate>()

/** What the connection of a request showed when it was made. Never a header: whoever sends one may write anything into it. */
export function peerOf({ socket }: IncomingMessage): PeerCertificate | undefined {
  return peers.get(socket)
}

/**
 * How a server asks. `ca` is never absent, or the system's authorities would be taken. A session that is resumed would bring back the verdict of
 * the handshake before it, on authorities and at a time that are gone; a renegotiation would change who is at the other side under a request. Neither is done.
 */
export function asking({ authorities }: ClientCertificates) {
  return {
    ca: [...authorities],
    requestCert: true,
    rejectUnauthorized: false,
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  }
}

/** Remembers what each connection showed, as soon as it is made. */
export function rememberPeers(server: Server, issuer: string): void {
  server.on('secureConnection', (socket: TLSSocket) => {
    const chain = chainOf(socket)
    // Not expected, and not to be believed: see `asking`.
    if (chain.length === 0 || socket.isSessionReused()) return
    peers.set(socket, { issuer, chain, ...(!socket.authorized && { refused: reasonOf(socket) }) })
  })
}

function chainOf(socket: TLSSocket): Uint8Array[] {
  const chain: Uint8Array[] = []
  let certificate: Partial<DetailedPeerCertificate> | undefined = socket.getPeerCertificate(true)
  while (certificate?.raw !== undefined && chain.length < MAX_CHAIN) {
    chain.push(certificate.raw)
    // A root is its own issuer.
    certificate = certificate.issuerCertificate === certificate ? undefined : certificate.issuerCertificate
  }
  return chain
}

/** A code of OpenSSL, such as `CERT_HAS_EXPIRED`: its type says that it is an error, and it is a text. */
function reasonOf({ authorizationError }: TLSSocket): string {
  return String(authorizationError ?? 'unknown').replace(/[^A-Z_]/g, '')
}
