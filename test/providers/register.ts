import type { Register } from '../../src/types.js'
import { startLedger } from '../ledger/fixture.js'

/** The lists of one provider, in a ledger on a Redis of its own. */
export async function openRegister(provider = 'under-test'): Promise<{ register: Register; stop(): Promise<void> }> {
  const { ledger, stop } = await startLedger()
  return { register: ledger.register(provider), stop }
}
