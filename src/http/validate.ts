import type { z } from 'zod'
import { MayflyError } from '../errors.js'

const MOST_ISSUES = 20

/**
 * The edge: what comes in becomes a typed value or a 422 that says what is wrong where. Without a schema there is nothing to take.
 * @throws MayflyError `request_invalid`
 */
export function parse<S extends z.ZodType>(schema: S | undefined, value: unknown): z.output<S> {
  if (!schema) return undefined as z.output<S>
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issues = result.error.issues.slice(0, MOST_ISSUES).map(({ path, message }) => ({ path: path.join('.'), message }))
  const [first] = issues
  const words = first ? `${first.path === '' ? 'the request' : first.path}: ${first.message}` : 'the request is not valid'
  throw new MayflyError('request_invalid', words, { issues })
}
