import type { DevClient } from './issuer.js'

/** Who `config/dev.yaml` knows. Secrets that protect nothing: the issuer listens on loopback, and its tokens open a development broker. */
export const SAMPLE_CLIENTS: readonly DevClient[] = [
  { id: 'triage', secret: 'triage-secret' },
  { id: 'reporter', secret: 'reporter-secret' },
  { id: 'flows', secret: 'flows-secret' },
  { id: 'oncall', secret: 'oncall-secret', claims: { groups: ['sre-oncall'] } },
]

/** People come through the device flow, with any password; whoever is not named here is nobody to the broker. */
export const SAMPLE_PEOPLE: Readonly<Record<string, Readonly<Record<string, unknown>>>> = { oncall: { groups: ['sre-oncall'] } }
