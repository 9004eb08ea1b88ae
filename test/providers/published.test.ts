import { describe, expect, it } from '@jest/globals'
import { duration } from '../../src/providers/duration.js'
import { published } from '../../src/providers/published.js'
import { waitFor } from '../support/wait.js'

describe('a published document', () => {
  it('is made anew when its list has changed, and not before', async () => {
    let version = 1
    const built: number[] = []
    const read = published(
      async () => ({ version, entries: [] }),
      (withdrawn) => built.push(withdrawn.version),
    )
    await read()
    await read()
    expect(built).toEqual([1])
    version = 2
    await read()
    expect(built).toEqual([1, 2])
    // A ledger that was lost counts from elsewhere.
    version = 1
    await read()
    expect(built).toEqual([1, 2, 1])
  })

  it('is made anew when it has been kept for long enough', async () => {
    let built = 0
    const read = published(
      async () => ({ version: 1, entries: [] }),
      () => ++built,
      50,
    )
    expect([await read(), await read()]).toEqual([1, 1])
    await waitFor('another', async () => (await read()) > 1)
  })

  it('is not what it was when the list cannot be read', async () => {
    let isAway = false
    const read = published(
      async () => {
        if (isAway) throw new Error('away')
        return { version: 1, entries: [] }
      },
      () => 'document',
    )
    expect(await read()).toBe('document')
    isAway = true
    await expect(read()).rejects.toThrow('away')
  })
})

describe('a duration', () => {
  it('is a number with its unit, between its bounds, as seconds', () => {
    const schema = duration(60, 86_400)
    expect(['60s', '1m', '2h', '1d'].map((text) => schema.parse(text))).toEqual([60, 60, 7200, 86_400])
    for (const text of ['59s', '2d', '60', 'm', '-1h', '1.5h', '1h ', '1ms', 60, null]) expect(schema.safeParse(text).success).toBe(false)
  })
})
