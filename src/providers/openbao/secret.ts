import { z } from 'zod'
import { ProviderError } from '../provider.js'
import { BaoError, type Client } from './client.js'
import type { SecretRequest } from './request.js'
import type { Token } from './session.js'

/** A secret and its lease, as OpenBao answered. https://openbao.org/docs/concepts/lease/ */
export interface Leased {
  readonly lease: string
  readonly data: Readonly<Record<string, unknown>>
  readonly seconds: number
  readonly renewable: boolean
}

const secretShape = z.object({
  lease_id: z.string().nullish(),
  lease_duration: z.number().min(0).nullish(),
  renewable: z.boolean().nullish(),
  data: z.record(z.string(), z.unknown()).nullish(),
  auth: z.unknown(),
  wrap_info: z.unknown(),
})
const renewedShape = z.object({ lease_duration: z.number().min(0) })

/** @throws ProviderError `invalid` for what has no lease: nothing could take it back, so it is dropped here */
export async function makeSecret(client: Client, { path, data }: SecretRequest, token: Token, signal: AbortSignal): Promise<Leased> {
  const method = data === undefined ? 'GET' : 'POST'
  const answer = secretShape.safeParse(await client.call({ method, path, body: data, token: token.value, signal }))
  if (!answer.success) throw new ProviderError('broken', 'OpenBao answered with what is no secret')
  const { lease_id: lease, lease_duration: seconds, renewable, data: fields, auth, wrap_info: wrapped } = answer.data
  if (wrapped) throw new ProviderError('invalid', 'OpenBao wrapped the answer: the policy must not ask for wrapping at this path')
  if (auth) throw new ProviderError('invalid', 'this path makes tokens of OpenBao itself, which are not handed out')
  if (!lease)
    throw new ProviderError(
      'invalid',
      'this secret has no lease, so that nothing could take it back: a static one, or an engine that must be told to lease',
    )
  return { lease, data: fields ?? {}, seconds: seconds ?? 0, renewable: renewable ?? false }
}

/**
 * Lets a lease end in `seconds` from now: asking for less than it has is how a lease is made shorter, "easy for users to reduce the length of
 * leases" (https://openbao.org/docs/concepts/lease/#lease-durations-and-renewal).
 * @returns the seconds that it has now, which an engine may choose otherwise
 */
export async function shorten(client: Client, lease: string, seconds: number, token: Token, signal: AbortSignal): Promise<number> {
  const answer = renewedShape.safeParse(await onLease(client, 'renew', { lease_id: lease, increment: `${seconds}s` }, token, signal))
  if (!answer.success) throw new ProviderError('broken', 'OpenBao answered a renewal with something else')
  return answer.data.lease_duration
}

const UNKNOWN = Symbol('unknown lease')
const lookupShape = z.object({ data: z.object({ id: z.string() }) })

/** `invalid lease` is all by which OpenBao tells that a lease is gone: to revoke one that never was is success too. */
export async function isKnown(client: Client, lease: string, token: Token, signal: AbortSignal): Promise<boolean> {
  const answer = await onLease(client, 'lookup', { lease_id: lease }, token, signal).catch((error: unknown) => {
    if (error instanceof BaoError && error.unknownLease) return UNKNOWN
    throw error
  })
  if (answer === UNKNOWN) return false
  if (lookupShape.safeParse(answer).data?.data.id !== lease) throw notOpenBao('lookup')
  return true
}

/** Synchronous: the answer would otherwise only mean that it was queued. */
export async function revokeLease(client: Client, lease: string, token: Token, signal: AbortSignal): Promise<void> {
  const answer = await onLease(client, 'revoke', { lease_id: lease, sync: true }, token, signal).catch((error: unknown) => {
    // What the engine behind it says comes as 400 as well.
    if (error instanceof BaoError && error.status === 400)
      throw new ProviderError('broken', 'OpenBao could not take the secret back from the engine that made it', { cause: error.cause })
    throw error
  })
  // It says 204 and nothing else; a page of somebody in between would say 200.
  if (answer !== undefined) throw notOpenBao('revoke')
}

function notOpenBao(question: string): ProviderError {
  return new ProviderError('broken', `what answered a ${question} did not answer as OpenBao does: check url, and what stands between`)
}

function onLease(client: Client, verb: 'lookup' | 'renew' | 'revoke', body: object, token: Token, signal: AbortSignal): Promise<unknown> {
  return client.call({ method: 'POST', path: ['sys', 'leases', verb], body, token: token.value, signal })
}
