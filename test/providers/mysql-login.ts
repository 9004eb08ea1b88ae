import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/**
 * A login in two steps, as a hostile client would take them: the server knows who is coming and has sent its question, and the answer
 * comes when the caller likes. https://mariadb.com/kb/en/connection/
 */
export async function beginLogin(address: { host: string; port: number }, user: string, password: string, database: string): Promise<HalfLogin> {
  const socket = connect(address)
  socket.on('error', () => socket.destroy())
  await nextPacket(socket)
  // PROTOCOL_41, SECURE_CONNECTION, CONNECT_WITH_DB, PLUGIN_AUTH; an unknown plugin makes the server ask with one that it knows.
  const head = Buffer.alloc(32)
  head.writeUInt32LE(0x1 | 0x8 | 0x200 | 0x8000 | 0x80000)
  head.writeUInt32LE(0xffffff, 4)
  head[8] = 45
  send(socket, 1, Buffer.concat([head, Buffer.from(`${user}\0\0${database}\0no_such_plugin\0`)]))
  const question = await nextPacket(socket)
  const name = Buffer.from('mysql_native_password\0')
  if (question?.[0] !== 0xfe || !question.subarray(1).includes(name)) throw new Error('the server did not ask as expected')
  const scramble = question.subarray(1 + name.length, 1 + name.length + 20)
  return {
    async answer(statement) {
      const once = sha1(Buffer.from(password))
      const mask = sha1(scramble, sha1(once))
      send(socket, 3, Buffer.from(once.map((byte, at) => byte ^ (mask[at] ?? 0))))
      const login = await nextPacket(socket)
      if (login?.[0] !== 0) return 'login refused'
      send(socket, 0, Buffer.concat([Buffer.from([3]), Buffer.from(statement)]))
      const result = await nextPacket(socket)
      return result === undefined || result[0] === 0xff ? 'statement refused' : 'statement done'
    },
    close: () => socket.destroy(),
  }
}
export interface HalfLogin {
  /** Finishes the login and tries a statement. */
  answer(statement: string): Promise<'login refused' | 'statement refused' | 'statement done'>
  close(): void
}

function send(socket: Socket, sequence: number, body: Buffer): void {
  if (!socket.destroyed) socket.write(Buffer.concat([Buffer.from([body.length & 0xff, body.length >> 8, 0, sequence]), body]))
}

/** The first packet of what comes next; `undefined` when the server has closed. */
async function nextPacket(socket: Socket): Promise<Buffer | undefined> {
  if (socket.destroyed || socket.readableEnded) return undefined
  const data = await Promise.race([once(socket, 'data'), once(socket, 'close')])
  const [chunk] = data
  return Buffer.isBuffer(chunk) ? chunk.subarray(4, 4 + chunk.readUIntLE(0, 3)) : undefined
}

function sha1(...parts: Buffer[]): Buffer {
  return createHash('sha1').update(Buffer.concat(parts)).digest()
}
