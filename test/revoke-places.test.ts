import { describe, expect, it } from '@jest/globals'
import { createRevokePlaces } from '../src/revoke-places.js'

/** Revokes that end when they are told to. */
function revokes() {
  const places = createRevokePlaces(2)
  const ends: (() => void)[] = []
  let begun = 0
  const start = () =>
    places.run(() => {
      begun++
      return new Promise<void>((resolve) => ends.push(resolve))
    })
  return { places, start, begun: () => begun, end: () => ends.shift()?.(), turn: () => new Promise((resolve) => setImmediate(resolve)) }
}

describe('the places of an upstream for revokes', () => {
  it('are no more than it may have at once, and the next in line takes what comes free', async () => {
    const { start, begun, end, turn } = revokes()
    const all = [start(), start(), start()]
    expect(begun()).toBe(2)
    end()
    await turn()
    expect(begun()).toBe(3)
    end()
    end()
    await Promise.all(all)
  })

  it('have no line where the upstream ends nothing: what hangs there is left for others', async () => {
    const { places, start } = revokes()
    expect(places.free()).toBe(2)
    void start()
    void start()
    expect(places.free()).toBe(0)
  })

  it('have a line as long as what the upstream did a moment ago', async () => {
    const { places, start, end } = revokes()
    for (let n = 0; n < 10; n++) {
      const one = start()
      end()
      await one
    }
    expect(places.free()).toBe(12)
  })

  it('tell when there is room, and nothing to wait for while none is taken', async () => {
    const { places, start, end } = revokes()
    expect(places.room()).toBeUndefined()
    const all = [start(), start()]
    const room = places.room()
    end()
    await room
    end()
    await Promise.all(all)
    expect(places.room()).toBeUndefined()
  })

  it('come free after a failure, too', async () => {
    const { places } = revokes()
    await expect(places.run(() => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(places.room()).toBeUndefined()
  })
})
