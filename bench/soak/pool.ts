import { type Answer, type Connection, openConnection, type Request } from '../connection.js'

export interface Pool {
  ask(request: Request): Promise<Answer>
  end(): void
}

const MOST = 64

/** Keep-alive connections; the one used last is used next, the others are closed by the broker in time. */
export function openPool(port: () => number): Pool {
  type Waiting = { resolve(answer: Answer): void; reject(error: Error): void }
  const idle: { send(request: Request, waiting: Waiting): void }[] = []
  const open = new Set<Connection>()
  const line: { request: Request; waiting: Waiting }[] = []
  const serve = () => {
    while (line.length > 0) {
      const one = idle.pop() ?? (open.size < MOST ? connect() : undefined)
      if (!one) return
      const next = line.shift()
      if (next) one.send(next.request, next.waiting)
    }
  }

  const connect = () => {
    let asked: Waiting | undefined
    const fail = (error: Error) => {
      asked?.reject(error)
      asked = undefined
    }
    const connection = openConnection(
      port(),
      (answer) => {
        const told = asked
        asked = undefined
        idle.push(one)
        told?.resolve(answer)
        serve()
      },
      fail,
      () => {
        open.delete(connection)
        const at = idle.indexOf(one)
        if (at >= 0) idle.splice(at, 1)
        fail(new Error('the connection was closed'))
        serve()
      },
    )
    const one = {
      send(request: Request, waiting: Waiting) {
        asked = waiting
        connection.send('', request)
      },
    }
    open.add(connection)
    return one
  }
  return {
    ask: (request) =>
      new Promise<Answer>((resolve, reject) => {
        line.push({ request, waiting: { resolve, reject } })
        serve()
      }),
    end() {
      for (const connection of open) connection.end()
    },
  }
}
