import { describe, expect, it } from '@jest/globals'
import { deadline } from '../../src/providers/deadline.js'
import { openGiveBack } from '../../src/providers/give-back.js'
import { waitFor } from '../support/wait.js'

describe('giving back', () => {
  const given: string[] = []
  const open = (failures = 0) => {
    given.length = 0
    return openGiveBack(async (made: string) => {
      given.push(made)
      if (given.length <= failures) throw new Error('not now')
    })
  }

  it('leaves what is made in time alone', async () => {
    const giveBack = open()
    expect(await giveBack.mint(deadline(5000), async () => 'made')).toBe('made')
    await giveBack.close()
    expect(given).toEqual([])
  })

  it('waits for what is late without aborting it, and gives it back', async () => {
    const giveBack = open()
    let answer: (made: string) => void = () => undefined
    let signal: AbortSignal | undefined
    const mint = giveBack.mint(deadline(10), (until) => {
      signal = until
      return new Promise((resolve) => {
        answer = resolve
      })
    })
    await expect(mint).rejects.toMatchObject({ kind: 'timeout' })
    expect(signal?.aborted).toBe(false)
    answer('late')
    await waitFor('it to be given back', () => given.includes('late'))
    await giveBack.close()
  })

  it('says whether the first attempt did, and tries on where it did not', async () => {
    const giveBack = open(2)
    expect(await giveBack.now('made')).toBe(false)
    await waitFor('the third attempt', () => given.length === 3)
    expect(await giveBack.now('other')).toBe(true)
    await giveBack.close()
    expect(given).toEqual(['made', 'made', 'made', 'other'])
  })

  it('aborts what is unanswered when it closes, and gives up what is not given back', async () => {
    const giveBack = open(Number.POSITIVE_INFINITY)
    let aborted = false
    const mint = giveBack.mint(
      deadline(10),
      (signal) =>
        new Promise((_resolve, reject) => {
          signal.addEventListener('abort', () => {
            aborted = true
            reject(new Error('aborted'))
          })
        }),
    )
    await expect(mint).rejects.toMatchObject({ kind: 'timeout' })
    await giveBack.now('made')
    await giveBack.close()
    expect([aborted, given]).toEqual([true, ['made']])
  })
})
