import { connect } from 'node:net'

export interface Request {
  readonly token: string
  readonly body: string
  /** Where it goes, if not where the others do. */
  readonly path?: string
  /** `POST` where absent. */
  readonly method?: string
}
export interface Answer {
  readonly status: string
  readonly body: string
  /** From when it was sent. */
  readonly ms: number
}
export interface Connection {
  /** One at a time: the next after the answer to this. */
  send(path: string, request: Request): void
  end(): void
}

/**
 * A keep-alive connection on a raw socket, because the generator shares its core with Redis: a general client would take more CPU than what is
 * measured. Answers need a content-length.
 */
export function openConnection(
  port: number,
  onAnswer: (answer: Answer) => void,
  onError: (error: Error) => void,
  onClose: () => void = () => undefined,
): Connection {
  const socket = connect(port, '127.0.0.1')
  socket.setNoDelay(true)
  let sentAt = 0
  let received = ''
  socket.on('error', onError)
  socket.on('close', onClose)
  socket.on('data', (chunk) => {
    received += chunk.toString('latin1')
    const end = received.indexOf('\r\n\r\n')
    if (end < 0) return
    const length = /content-length: (\d+)/i.exec(received.slice(0, end))
    if (!length) return onError(new Error(`an answer without content-length: ${received.slice(0, 200)}`))
    if (received.length < end + 4 + Number(length[1])) return
    const answer = { status: received.slice(9, 12), body: received.slice(end + 4), ms: performance.now() - sentAt }
    received = ''
    onAnswer(answer)
  })
  return {
    send(path, request) {
      sentAt = performance.now()
      socket.write(
        `${request.method ?? 'POST'} ${request.path ?? path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${request.token}\r\nContent-Type: application/json\r\nContent-Length: ${request.body.length}\r\n\r\n${request.body}`,
      )
    },
    end: () => socket.end(),
  }
}
