import { z } from 'zod'

const UNIT_SECONDS = { s: 1, m: 60, h: 3_600, d: 86_400 } as const
const DURATION = /^(\d{1,9})([smhd])$/

/** An option such as 30s, 15m, 1h or 7d, as whole seconds. */
export function duration(least: number, most: number): z.ZodType<number, string> {
  return z
    .string()
    .regex(DURATION, 'must be a duration such as 30s, 15m, 1h or 7d')
    .transform((text) => {
      const [, count = '0', unit = 's'] = DURATION.exec(text) ?? []
      return Number(count) * UNIT_SECONDS[unit as keyof typeof UNIT_SECONDS]
    })
    .refine((seconds) => seconds >= least && seconds <= most, `must be between ${least} s and ${most} s`)
}
