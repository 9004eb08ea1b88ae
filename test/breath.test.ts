import { describe, expect, it } from '@jest/globals'
import { createBreath } from '../src/breath.js'

describe('a breath', () => {
  it('lets others have their turn of the event loop while work goes on that never waits', async () => {
    let turns = 0
    let isOver = false
    const count = () => {
      turns++
      if (!isOver) setImmediate(count)
    }
    setImmediate(count)
    const breathe = createBreath(2)
    for (const end = performance.now() + 60; performance.now() < end; ) await breathe()
    isOver = true
    expect(turns).toBeGreaterThan(2)
  })

  it('is not taken before it is time', () => {
    const breathe = createBreath(60_000)
    expect([breathe(), breathe()]).toEqual([undefined, undefined])
  })
})
