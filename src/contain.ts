import type { Log } from './house.js'

/**
 * Drivers of upstreams that throw where nobody can catch it when an answer makes no sense: in a socket's listener, or in a tick of their own.
 * Such an answer must not end the broker, which other upstreams need for their revokes: the connection is useless, and whoever waits on it has
 * a deadline. Whatever else is thrown so is a defect of ours, and ends the process, as ever.
 */
const DRIVERS = /[\\/]node_modules[\\/](pg|pg-protocol|pg-pool|mysql2|ioredis|redis-parser)[\\/]/

/** @returns how to stop it */
export function containDrivers(log: Pick<Log, 'error'>): () => void {
  const onUncaught = (error: unknown) => {
    const driver = driverOf(error)
    if (driver === undefined) {
      process.removeListener('uncaughtException', onUncaught)
      throw error
    }
    // Not what it said: an answer may hold anything.
    log.error({ driver, error: error instanceof Error ? error.name : 'unknown' }, 'an upstream gave an answer that its driver cannot read')
  }
  process.on('uncaughtException', onUncaught)
  return () => void process.removeListener('uncaughtException', onUncaught)
}

/** Whose code threw: the nearest frame that is not of Node itself. */
function driverOf(error: unknown): string | undefined {
  const frames = error instanceof Error ? (error.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line)) : []
  const nearest = frames.find((line) => !line.includes('node:'))
  return nearest === undefined ? undefined : DRIVERS.exec(nearest)?.[1]
}
