import { readFileSync } from 'node:fs'
import { describe, expect, it } from '@jest/globals'
import { ERRORS_DOC, errorsDoc } from '../scripts/errors-doc.js'
import { ERRORS } from '../src/errors.js'

describe('the table of errors', () => {
  it('is what docs/errors.md says; `npx tsx scripts/errors-doc.ts` writes it', () => {
    expect(readFileSync(ERRORS_DOC, 'utf8')).toBe(errorsDoc())
  })

  it.each(Object.entries(ERRORS))('explains %s in sentences that fit a table', (_code, { title, means, next }) => {
    for (const text of [title, means, next]) expect(text).not.toContain('|')
    expect(title).not.toMatch(/\.$/)
    for (const sentence of [means, next]) expect(sentence).toMatch(/^[A-Z].*\.$/)
  })
})
