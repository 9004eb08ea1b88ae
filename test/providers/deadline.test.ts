import { describe, expect, it } from '@jest/globals'
import { deadline, within } from '../../src/providers/deadline.js'

const never = <T>() => new Promise<T>(() => undefined)

describe('a deadline', () => {
  it('is one for all the steps of a call', async () => {
    const time = deadline(30)
    await expect(within(time, never)).rejects.toMatchObject({ name: 'ProviderError', kind: 'timeout' })
    expect(() => time.left()).toThrow(expect.objectContaining({ kind: 'timeout' }))
  })

  it('starts nothing once it has passed', async () => {
    let started = false
    const work = async () => {
      started = true
    }
    await expect(within(deadline(0), work)).rejects.toMatchObject({ kind: 'timeout' })
    expect(started).toBe(false)
  })

  it('aborts the work, and gives back what it brings too late', async () => {
    let bring: (late: string) => void = () => undefined
    let aborted = false
    const abandoned = new Promise((resolve) => {
      const work = (signal: AbortSignal) => {
        signal.addEventListener('abort', () => {
          aborted = true
        })
        return new Promise<string>((done) => {
          bring = done
        })
      }
      within(deadline(10), work, resolve).catch(() => bring('a connection'))
    })
    expect(await abandoned).toBe('a connection')
    expect(aborted).toBe(true)
  })

  it('leaves work alone that ends in time, and its own errors', async () => {
    expect(await within(deadline(1000), async () => 'done')).toBe('done')
    await expect(within(deadline(1000), () => Promise.reject(new Error('its own')))).rejects.toThrow('its own')
  })

  it('is no longer waited for once the work has thrown, even before its first await', async () => {
    const unhandled: unknown[] = []
    const note = (reason: unknown) => void unhandled.push(reason)
    process.on('unhandledRejection', note)
    const work = (): Promise<never> => {
      throw new Error('its own')
    }
    await expect(within(deadline(20), work)).rejects.toThrow('its own')
    // Past the deadline, when a timer that was left would reject.
    await expect(within(deadline(40), never)).rejects.toMatchObject({ kind: 'timeout' })
    process.off('unhandledRejection', note)
    expect(unhandled).toEqual([])
  })
})
