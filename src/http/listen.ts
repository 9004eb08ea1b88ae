import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { ERRORS } from '../errors.js'
import { close, cutUnread, track } from './connections.js'
import { asking, type ClientCertificates, rememberPeers } from './peer.js'

export interface ListenOptions {
  readonly host: string
  /** 0 takes a free one. */
  readonly port: number
  /** PEM texts. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly clientCertificates?: ClientCertificates }
  /** Time for a request's headers, ms. */
  readonly headersTimeoutMs?: number
  /** Time for a whole request to arrive, ms. */
  readonly requestTimeoutMs?: number
  /** How long an idle connection is kept, ms. */
  readonly keepAliveMs?: number
  readonly maxConnections?: number
  /** How long an answer may wait for its reader, ms. */
  readonly unreadMs?: number
}
export interface Listening {
  readonly url: string
  /** For connections from now on; nothing happens on a listener without TLS. */
  useCertificate(tls: { readonly cert: string; readonly key: string }): void
  /** Of client certificates, PEM; for connections from now on, where the listener asks for some. */
  useAuthorities(authorities: readonly string[]): void
  /**
   * Stops accepting and lets what is in flight end, for at most so long; then cuts it. Each answer says that its connection is over. Idle
   * connections are kept for `lingerMs`, so that a request that is on its way there is answered too.
   */
  close(graceMs: number, lingerMs?: number): Promise<void>
}

const HEADERS_TIMEOUT_MS = 10_000
const REQUEST_TIMEOUT_MS = 30_000
/** Longer than the idle timeout of common load balancers (60 s), so that it is they who close first and no request meets a closed door. */
const KEEP_ALIVE_MS = 65_000
const MAX_CONNECTIONS = 10_000
/** No answer is so large that an honest reader takes longer. */
const UNREAD_MS = 60_000
/** Connections that wait to be accepted; the system has a limit of its own (`somaxconn`). Beyond it callers are not refused but kept waiting, by whole seconds. */
const BACKLOG = 4_096
/** Tokens are 8 kB at most. */
const MAX_HEADER_BYTES = 16 * 1024
const MAX_HEADERS = 100
/** How often slow requests and slow readers are looked for. */
const SLOW_CHECK_MS = 2_000

export async function listen(app: RequestListener, options: ListenOptions): Promise<Listening> {
  const limits = {
    insecureHTTPParser: false,
    maxHeaderSize: MAX_HEADER_BYTES,
    headersTimeout: options.headersTimeoutMs ?? HEADERS_TIMEOUT_MS,
    requestTimeout: options.requestTimeoutMs ?? REQUEST_TIMEOUT_MS,
    keepAliveTimeout: options.keepAliveMs ?? KEEP_ALIVE_MS,
    connectionsCheckingInterval: Math.min(SLOW_CHECK_MS, options.headersTimeoutMs ?? SLOW_CHECK_MS),
  }
  const { host, port, tls } = options
  let secure = tls
  const server = tls ? createTlsServer({ ...limits, ...contextOf(tls), handshakeTimeout: limits.headersTimeout }, app) : createServer(limits, app)
  if (tls?.clientCertificates) rememberPeers(server, tls.clientCertificates.issuer)
  server.maxHeadersCount = MAX_HEADERS
  server.maxConnections = options.maxConnections ?? MAX_CONNECTIONS
  server.on('clientError', answerUnreadable)
  const connections = track(server, tls ? 'secureConnection' : 'connection')
  const unreadMs = options.unreadMs ?? UNREAD_MS
  const unread = setInterval(cutUnread, Math.min(SLOW_CHECK_MS, unreadMs), connections, unreadMs).unref()
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port, backlog: BACKLOG }, () => {
      server.off('error', reject)
      resolve()
    })
  })
  const use = (renewed: NonNullable<ListenOptions['tls']>) => {
    if (!('setSecureContext' in server)) return
    server.setSecureContext(contextOf(renewed))
    secure = renewed
  }
  return {
    url: urlOf(server, host, tls !== undefined),
    useCertificate: ({ cert, key }) => use({ ...secure, cert, key }),
    useAuthorities: (authorities) => {
      if (secure?.clientCertificates) use({ ...secure, clientCertificates: { ...secure.clientCertificates, authorities } })
    },
    close: (graceMs, lingerMs = 0) => close(server, connections, graceMs, lingerMs).finally(() => clearInterval(unread)),
  }
}

function contextOf({ cert, key, clientCertificates }: NonNullable<ListenOptions['tls']>) {
  return { cert, key, minVersion: 'TLSv1.2' as const, ...(clientCertificates && asking(clientCertificates)) }
}

/** What the parser could not read never reaches the app: it is answered here, and the connection is over. */
function answerUnreadable(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy()
    return
  }
  if (error.code === 'HPE_HEADER_OVERFLOW') end(socket, '431 Request Header Fields Too Large')
  else if (error.code === 'ERR_HTTP_REQUEST_TIMEOUT') end(socket, '408 Request Timeout')
  else end(socket, '400 Bad Request', UNREADABLE)
}

function unreadable(): string {
  const { status, title, next } = ERRORS.malformed
  const problem = { type: 'urn:mayfly:problem:malformed', title, status, detail: 'this is not valid HTTP/1.1', code: 'malformed', next }
  return JSON.stringify(problem)
}
const UNREADABLE = unreadable()

function end(socket: Socket, status: string, body = ''): void {
  const type = body === '' ? '' : 'Content-Type: application/problem+json\r\n'
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n${type}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
}

function urlOf(server: Server, host: string, isTls: boolean): string {
  const { port } = server.address() as AddressInfo
  return `${isTls ? 'https' : 'http'}://${host.includes(':') ? `[${host}]` : host}:${port}`
}
