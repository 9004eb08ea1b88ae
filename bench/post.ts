import { request } from 'node:http'

/** One `POST` on a connection of its own, as somebody does who comes for the first time. @returns the status */
export function post(port: number, { path, token, body }: { path: string; token: string; body: object }): Promise<number> {
  const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' }
  return new Promise((resolve, reject) => {
    const asked = request({ port, host: '127.0.0.1', method: 'POST', path, headers, agent: false, timeout: 10_000 }, (answer) => {
      answer.resume().once('end', () => resolve(answer.statusCode ?? 0))
    })
    asked.once('timeout', () => asked.destroy(new Error('no answer')))
    asked.once('error', reject)
    asked.end(JSON.stringify(body))
  })
}
