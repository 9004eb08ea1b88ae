import { isUtf8 } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { MayflyError } from '../errors.js'
import { parseJson } from './json.js'
import type { Route } from './route.js'

export const MAX_BODY_BYTES = 64 * 1024
const MEDIA_TYPES = {
  json: /^application\/json(?:[ \t]*;[ \t]*charset="?utf-8"?)?$/i,
  form: /^application\/x-www-form-urlencoded(?:[ \t]*;[ \t]*charset="?utf-8"?)?$/i,
}

type Takes = Pick<Route, 'body' | 'bodyType' | 'bodyOptional' | 'bodyBytes'>

/**
 * The body in the one form that the route takes, before its schema. Strict, because what one of us reads and a proxy in front reads
 * otherwise is a way around it.
 * @throws MayflyError `too_large|unsupported_media_type|malformed`
 */
export async function readBody(request: IncomingMessage, { body, bodyType = 'json', bodyOptional, bodyBytes }: Takes): Promise<unknown> {
  const { headers } = request
  const isEmpty = headers['transfer-encoding'] === undefined && (headers['content-length'] ?? '0') === '0'
  if (!body) {
    if (isEmpty) return undefined
    throw new MayflyError('malformed', 'this call takes no body')
  }
  if (isEmpty && bodyOptional) return {}
  if (!MEDIA_TYPES[bodyType].test(headers['content-type'] ?? '') || headers['content-encoding'] !== undefined)
    throw new MayflyError('unsupported_media_type', bodyType === 'json' ? 'send application/json' : 'send application/x-www-form-urlencoded')
  const text = await readText(request, bodyBytes ?? MAX_BODY_BYTES)
  return bodyType === 'json' ? parseJson(text) : parseForm(text)
}

/** RFC 6749 §3.1: a parameter is sent once. */
function parseForm(text: string): Record<string, string> {
  const form = new URLSearchParams(text)
  const values = Object.fromEntries(form)
  if (Object.keys(values).length !== form.size) throw new MayflyError('malformed', 'a parameter is repeated')
  return values
}

function readText(request: IncomingMessage, most: number): Promise<string> {
  if (Number(request.headers['content-length'] ?? 0) > most) return Promise.reject(tooLarge(most))
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let size = 0
    const take = (chunk: Buffer): void => {
      size += chunk.length
      chunks.push(chunk)
      if (size <= most) return
      request.off('data', take).pause()
      reject(tooLarge(most))
    }
    request.on('data', take)
    request.on('end', () => {
      const [first] = chunks
      const whole = first && chunks.length === 1 ? first : Buffer.concat(chunks)
      if (isUtf8(whole)) resolve(whole.toString('utf8'))
      else reject(new MayflyError('malformed', 'the body is not UTF-8'))
    })
    // Comes after every request; an error is made only for the ones that were cut.
    request.on('close', () => {
      if (!request.readableEnded) reject(new MayflyError('malformed', 'the body ended early'))
    })
  })
}

function tooLarge(most: number): MayflyError {
  return new MayflyError('too_large', `the body is larger than ${most} bytes`)
}
