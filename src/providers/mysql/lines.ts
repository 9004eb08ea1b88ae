import { connect, type Socket } from 'node:net'
import { type Connection, type ConnectionOptions, createConnection } from 'mysql2'
import { z } from 'zod'
import { type Deadline, within } from '../deadline.js'
import { ProviderError } from '../provider.js'
import { asProviderError } from './error.js'
import type { Server } from './servers.js'
import { begin } from './statements.js'

const row = z.record(z.string(), z.unknown())
type Row = z.infer<typeof row>
/** Sends one batch, made when it is sent with the milliseconds left; answers the rows of its last statement. */
export type Send = (batch: (leftMs: number) => readonly string[]) => Promise<Row[]>

/** Connections that are each one caller's while it works: a lock belongs to a connection. */
export interface Lines {
  use<T>(time: Deadline, work: (send: Send) => Promise<T>): Promise<T>
  close(): void
}
interface Line {
  readonly connection: Connection
  readonly socket: Socket
}

/**
 * Keeps at most `spare` idle connections; how many are in use at once is the caller's matter. Not the driver's pool: that ends a
 * connection only in order, and waits for a server that does not answer.
 */
export function openLines(options: ConnectionOptions & { host: string; port: number }, server: Server, spare: number): Lines {
  const idle: Line[] = []
  const all = new Set<Line>()
  let closed = false

  const dial = async (time: Deadline): Promise<Line> => {
    const socket = connect({ host: options.host, port: options.port, keepAlive: true, noDelay: true })
    // Deadlines are ours: the driver has no timer of its own.
    const connection = createConnection({ ...options, connectTimeout: 0, stream: () => socket, multipleStatements: true })
    const line = { connection, socket }
    all.add(line)
    socket.on('close', () => all.delete(line))
    // One that breaks while it is idle is replaced by the next use; without a listener it would end the process.
    connection.on('error', () => hangUp(line))
    const connected = new Promise<void>((resolve, reject) => connection.connect((error) => (error ? reject(error) : resolve())))
    await within(time, () => connected).catch((error: unknown) => {
      hangUp(line)
      throw error
    })
    return line
  }
  const hangUp = (line: Line): void => {
    line.connection.destroy()
    line.socket.destroy()
  }
  const send = async ({ connection }: Line, time: Deadline, batch: (leftMs: number) => readonly string[]): Promise<Row[]> => {
    const left = time.left()
    const statements = [begin(server, left), ...batch(left)]
    // One packet, so that it arrives whole or not at all.
    const text = statements.join(';\n')
    const answers = await within(
      time,
      () => new Promise<unknown>((resolve, reject) => connection.query(text, (error, result) => (error ? reject(error) : resolve(result)))),
    )
    return rowsOf(answers, statements)
  }

  return {
    async use(time, work) {
      let line: Line | undefined
      let healthy = false
      try {
        while (idle.length > 0 && line?.socket.writable !== true) line = idle.pop()
        if (line?.socket.writable !== true) line = await dial(time)
        const own = line
        const result = await work((batch) =>
          send(own, time, batch).catch((error: unknown) => {
            throw asProviderError(error)
          }),
        )
        healthy = true
        return result
      } catch (error) {
        throw asProviderError(error)
      } finally {
        // After any failure it is closed and not used again: with it go the locks that it holds.
        if (line !== undefined) {
          if (healthy && !closed && idle.length < spare) idle.push(line)
          else hangUp(line)
        }
      }
    },
    close() {
      closed = true
      for (const line of all) hangUp(line)
    },
  }
}

/**
 * Of the last statement. One answer each: rows, or a header where it has none; who answers otherwise has carried out nothing, and no rows of
 * theirs mean that there are none.
 */
function rowsOf(answers: unknown, statements: readonly string[]): Row[] {
  const last = Array.isArray(answers) && answers.length === statements.length ? answers.at(-1) : undefined
  const rows = z.array(row).safeParse(last).data
  if (last === undefined || (rows === undefined && /^(SELECT|SHOW)\b/.test(statements.at(-1) ?? '')))
    throw new ProviderError('broken', 'what is there did not answer as MariaDB or MySQL does: check the url, and what stands between')
  return rows ?? []
}
