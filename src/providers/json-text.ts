import { z } from 'zod'

/** JSON given as text, as a reference to a file or the environment makes it; pipe it into the shape that it is to have. */
export const jsonText = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text)
  } catch {
    context.addIssue({ code: 'custom', message: 'is not JSON' })
    return z.NEVER
  }
})
