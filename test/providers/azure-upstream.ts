import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { generateSigningKeys, openSigner, type TokenSigner } from '../../src/signer.js'
import { type FakeEntra, startFakeEntra } from './fake-entra.js'

export const TENANT = 'a8990e1f-ff32-408a-9f8e-78d3b9139b95'
export const CLIENT = '97e0a5b7-d745-40b6-94fe-5f77d35c6e05'
export const SUBJECT = 'mayfly:Contract'
export const STORAGE = 'https://storage.azure.com'
export const ARM = 'https://management.azure.com'

/** A tenant with one application that trusts a signer of ours, whose keys are published as Mayfly publishes them. */
export interface AzureUpstream {
  readonly entra: FakeEntra
  readonly signer: TokenSigner
  /** The private half of the key that signs assertions. */
  readonly secret: string
  readonly options: { readonly tenant: string; readonly subject: string; readonly authority: string }
  stop(): Promise<void>
}

export async function startAzureUpstream(): Promise<AzureUpstream> {
  const server = createServer((request, response) => {
    const found = { '/.well-known/openid-configuration': { issuer, jwks_uri: `${issuer}/jwks` }, '/jwks': signer.jwks() }[request.url ?? '']
    response.writeHead(found ? 200 : 404).end(JSON.stringify(found))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const [tokens, assertions] = await Promise.all([generateSigningKeys(), generateSigningKeys('RS256')])
  const signer = await openSigner({ issuer, keys: { keys: [...tokens.keys, ...assertions.keys] } })
  const federated = [{ issuer, subject: SUBJECT, audience: 'api://AzureADTokenExchange' }]
  const entra = await startFakeEntra({ tenant: TENANT, applications: { [CLIENT]: { federated } }, resources: [STORAGE, ARM] })
  return {
    entra,
    signer,
    secret: assertions.keys[0]?.d ?? '',
    options: { tenant: TENANT, subject: SUBJECT, authority: entra.authority },
    async stop() {
      server.closeAllConnections()
      server.close()
      await entra.stop()
    },
  }
}
