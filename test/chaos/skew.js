// Loaded into a broker before anything else (`node --import`): its wall clock is wrong by MAYFLY_CHAOS_SKEW_MS, as after a failed NTP.
const by = Number(process.env.MAYFLY_CHAOS_SKEW_MS ?? 0)
const RealDate = globalThis.Date
const now = () => RealDate.now() + by

class SkewedDate extends RealDate {
  constructor(...args) {
    if (args.length === 0) super(now())
    else super(...args)
  }
  static now() {
    return now()
  }
}
globalThis.Date = SkewedDate
