import type { Credential, MintRequest, Provider, ProviderModule, Register } from '../../src/providers/provider.js'
import { type Harness, type Opened, open, requestOf } from './harness.js'

/** A provider that signs, opened by itself: what its own tests need beyond the contract's. */
export interface OpenedAuthority extends Opened {
  /** A credential of a life of one's own choice, in ms from now; the mint itself is in time. */
  mintFor(life: { readonly from: number; readonly to: number }, params?: unknown): Promise<Credential>
  document(name: string): Promise<Buffer>
}

export async function openAuthority(
  module: ProviderModule,
  options: unknown,
  register: Register | undefined,
  params: unknown,
): Promise<OpenedAuthority> {
  const opened = await open({ module, options, register, params } as Harness)
  const { provider } = opened
  return {
    ...opened,
    mint: (more = {}) => opened.mint({ params, ...more }),
    async mintFor({ from, to }, its = params) {
      const request = requestOf(provider, opened.plan(), module.params.parse(its), 5000)
      const now = Date.now()
      const changed: MintRequest<unknown> = { ...request, issuedAt: now + from, expiresAt: now + to }
      return (await provider.mint(changed)).credential
    },
    document: (name) => documentOf(provider, name),
  }
}

export async function documentOf(provider: Provider, name: string): Promise<Buffer> {
  const document = provider.documents?.find((one) => one.name === name)
  if (document === undefined) throw new Error(`there is no document ${name}`)
  return document.read()
}
