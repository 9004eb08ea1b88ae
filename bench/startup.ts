import { measureStartup } from './scale/startup.js'
import { MEASURING, pinSelf } from './support.js'

/** What a start costs with a million live leases; as in `scale`, alone. */
export async function run(options: { quick: boolean; say: (line: string) => void }): Promise<object> {
  pinSelf(MEASURING)
  return measureStartup(options)
}
