import type { Config, ProviderConfig } from '../config.js'
import { type Provider, ProviderError } from '../providers/provider.js'
import { openSigner } from '../signer.js'
import { type Finding, messageOf } from './finding.js'

/** Each provider's own least-privilege self-test, all at once. */
export async function providerFindings(config: Config): Promise<Finding[]> {
  return (await Promise.all(config.providers.map((provider) => check(provider, config)))).flat()
}

async function check({ name, module, options, concurrency, timeoutMs }: ProviderConfig, config: Config): Promise<Finding[]> {
  let provider: Provider | undefined
  try {
    const signer = config.signing && (await openSigner(config.signing))
    provider = await module.open(options, { name, instance: config.instance, timeoutMs, concurrency, signer })
    await provider.check(config.roles.filter((role) => role.provider === name))
    return [{ area: 'providers', level: 'ok', what: `${name} (${module.type}): ${revocationOf(provider)}` }, ...blindWindow(name, provider)]
  } catch (error) {
    // A provider's own words say how to mend it.
    const what = `${name} (${module.type}): ${error instanceof ProviderError ? `${error.kind}: ${error.message}` : messageOf(error)}`
    return [{ area: 'providers', level: 'fail', what, mend: `see docs/providers/${module.type}.md: what the broker's own access must be allowed` }]
  } finally {
    await provider?.close()
  }
}

function revocationOf({ revocation, residualSeconds }: Provider): string {
  if (revocation === 'at-expiry') return 'what it issues cannot be taken back before it expires'
  return residualSeconds === 0 ? `revokes ${revocation}` : `revokes ${revocation}, usable up to ${residualSeconds} s after`
}

function blindWindow(name: string, { handle, blindWindowSeconds = 0 }: Provider): Finding[] {
  if (handle === 'planned') return []
  const what = `${name}: a crash while it mints can leave an unrecorded credential for up to ${blindWindowSeconds} s`
  return [{ area: 'providers', level: 'warn', what, mend: 'keep the max_ttl of its roles short' }]
}
