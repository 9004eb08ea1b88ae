// Preloaded with `--import`: the wall clock of this process is off by MAYFLY_TEST_SKEW_MS; from SIGUSR2 on, by as much the other way. What counts
// time by itself (`performance`, timers) is not.
let skew = Number(process.env.MAYFLY_TEST_SKEW_MS ?? 0)
process.on('SIGUSR2', () => {
  skew = -skew
})
const RealDate = Date
globalThis.Date = class Date extends RealDate {
  constructor(...args) {
    super(...(args.length === 0 ? [RealDate.now() + skew] : args))
  }
  static now() {
    return RealDate.now() + skew
  }
}
