import { describe, expect, it } from '@jest/globals'
import { FAULTS, planOf } from './plan.js'

const TWO_MINUTES = { ms: 120_000, brokers: 3, perSecond: 20 }

describe('a plan', () => {
  it('follows from its seed alone', () => {
    expect(planOf(7, TWO_MINUTES)).toEqual(planOf(7, TWO_MINUTES))
    expect(planOf(7, TWO_MINUTES)).not.toEqual(planOf(8, TWO_MINUTES))
  })

  it('has more than twenty faults of each kind in twenty seeds of two minutes', () => {
    const planned = Array.from({ length: 20 }, (_, seed) => planOf(seed + 1, TWO_MINUTES)).flatMap(({ faults }) => faults.map(({ kind }) => kind))
    const rare = FAULTS.filter((kind) => planned.filter((one) => one === kind).length < 24)
    expect(rare).toEqual([])
  })

  it('mends everything while the run lasts, and breaks no broker that is stopped', () => {
    for (const { faults } of Array.from({ length: 20 }, (_, seed) => planOf(seed, TWO_MINUTES))) {
      expect(faults.filter(({ at, forMs }) => at + forMs >= TWO_MINUTES.ms)).toEqual([])
      const pauses = faults.filter(({ kind }) => kind === 'broker-pause')
      const onStopped = faults.filter(
        ({ kind, at, broker }) =>
          kind.startsWith('broker-') &&
          kind !== 'broker-pause' &&
          pauses.some((one) => one.broker === broker && at >= one.at && at < one.at + one.forMs),
      )
      expect(onStopped).toEqual([])
    }
  })
})
