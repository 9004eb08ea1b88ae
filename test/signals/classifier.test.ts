import { describe, expect, it } from '@jest/globals'
import { type Ask, openClassifier, type Verdict } from '../../src/signals/classifier.js'

const OPTIONS = {
  url: 'https://classifier.test',
  secret: `whsec_${'a'.repeat(44)}`,
  concurrency: 2,
  minConfidence: 0,
  catalogue: [{ name: 'deploy' }],
}
const YES = { status: 200, answer: { intent: 'deploy', confidence: 0.9 } }
const question = (opener: string) => ({ opener, data: {} })

/** A classifier whose service answers when it is told to, and how many questions it has at once. */
function held(timeoutMs = 60_000) {
  const answers: (() => void)[] = []
  let [now, most] = [0, 0]
  const ask: Ask = () => {
    most = Math.max(most, ++now)
    return new Promise((done) => {
      answers.push(() => {
        now--
        done(YES)
      })
    })
  }
  const verdicts: Verdict[] = []
  const { classify } = openClassifier({ ...OPTIONS, timeoutMs }, { ask, now: () => 0, onVerdict: (verdict) => verdicts.push(verdict) })
  const answerAll = async (all: Promise<unknown>) => {
    let over = false
    const ended = all.finally(() => {
      over = true
    })
    while (!over) {
      answers.shift()?.()
      await new Promise(setImmediate)
    }
    return ended
  }
  return { classify, answerAll, verdicts, most: () => most, asked: () => answers.length }
}

describe('questions at once', () => {
  it('no opener has more than half of the places and of the queue, however many it asks', async () => {
    const { classify, answerAll, most, asked } = held()
    const greedy = Array.from({ length: 100 }, () => classify(question('greedy')))
    const others = ['one', 'two', 'three', 'four', 'five'].map((opener) => classify(question(opener)))
    // Ten in all: five for the one, five for the others. What comes after finds no place.
    const late = await classify(question('late'))
    expect([late.outcome, asked(), most()]).toEqual(['busy', 2, 2])
    await answerAll(Promise.all([...greedy, ...others]))
    const outcomes = (await Promise.all(greedy)).map(({ outcome }) => outcome)
    expect([outcomes.filter((one) => one === 'classified').length, outcomes.filter((one) => one === 'busy').length]).toEqual([5, 95])
    expect((await Promise.all(others)).map(({ outcome }) => outcome)).toEqual(Array.from({ length: 5 }, () => 'classified'))
    expect(most()).toBe(2)
    // A place that was given back is one again.
    const again = classify(question('greedy'))
    await answerAll(again)
    expect((await again).outcome).toBe('classified')
  })

  it('who waits for a place waits no longer than who has one, and is not asked about any more', async () => {
    const { classify, asked, verdicts } = held(50)
    const all = await Promise.all(['a', 'b', 'c', 'd'].map((opener) => classify(question(opener))))
    expect(all.map(({ outcome }) => outcome)).toEqual(['timeout', 'timeout', 'timeout', 'timeout'])
    expect(asked()).toBe(2)
    expect(verdicts).toEqual(all)
  })
})
