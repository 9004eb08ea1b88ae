import { median, round } from '../support.js'

export interface Trend {
  /** Of the middle of all slopes between two samples (Theil and Sen): a few that are far off do not move it. */
  readonly slope_per_hour: number
  /** Bounds of that slope, 95 % of such runs. */
  readonly between: readonly [number, number]
  readonly median: number
  /** What the slope makes over the time that was looked at, in percent of the median. */
  readonly growth_percent: number
  /** How much of that is taken for none. */
  readonly tolerance_percent: number
  readonly grows: boolean
}

/** Of the standard normal distribution, for 95 % on both sides. */
const Z = 1.96

/** Whether something grows: only if its slope is above zero for certain, and makes more than is tolerated. `at` in seconds. */
export function trendOf(at: readonly number[], values: readonly number[], tolerance_percent: number): Trend {
  const slopes: number[] = []
  for (let i = 0; i < at.length; i++)
    for (let j = i + 1; j < at.length; j++) slopes.push(((values[j] ?? 0) - (values[i] ?? 0)) / ((at[j] ?? 0) - (at[i] ?? 0)))
  slopes.sort((a, b) => a - b)
  const n = at.length
  // Kendall's variance of the number of rising pairs gives the ranks of the bounds.
  const spread = Z * Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18)
  const rank = (of: number) => slopes[Math.min(slopes.length - 1, Math.max(0, Math.round(of)))] ?? 0
  const lowest = rank((slopes.length - spread) / 2)
  const highest = rank((slopes.length + spread) / 2)
  const slope = median(slopes)
  const middle = median(values)
  const seconds = (at.at(-1) ?? 0) - (at[0] ?? 0)
  const growth_percent = middle === 0 ? 0 : round((100 * slope * seconds) / middle)
  return {
    slope_per_hour: round(slope * 3_600),
    between: [round(lowest * 3_600), round(highest * 3_600)],
    median: round(middle),
    growth_percent,
    tolerance_percent,
    grows: lowest > 0 && growth_percent > tolerance_percent,
  }
}
