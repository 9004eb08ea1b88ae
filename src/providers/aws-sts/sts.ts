import type { AssumeRoleCommandInput } from '@aws-sdk/client-sts'
import { type Deadline, within } from '../deadline.js'
import { ProviderError } from '../provider.js'
import { asProviderError } from './error.js'

export interface Session {
  readonly id: string
  readonly secret: string
  readonly token: string
  /** By AWS's clock, ms. */
  readonly issuedAt: number
  readonly expiresAt: number
}
export interface Sts {
  assume(input: AssumeRoleCommandInput & { readonly DurationSeconds: number }, time: Deadline): Promise<Session>
  /** The AWS account that the broker itself is of. */
  account(time: Deadline): Promise<string>
  close(): void
}

/** The SDK would wait between attempts, for longer than a mint may take: the caller is told at once, and knows whether to come again. */
const ATTEMPTS = 1

export async function openSts(options: { readonly region: string; readonly endpoint?: string }, timeoutMs: number): Promise<Sts> {
  const sdk = await import('@aws-sdk/client-sts')
  // Credentials: the SDK's default chain (environment, files, the platform's identity).
  const client = new sdk.STSClient({
    ...options,
    maxAttempts: ATTEMPTS,
    requestHandler: { connectionTimeout: timeoutMs, requestTimeout: timeoutMs, throwOnRequestTimeout: true },
  })
  const call = <Answer>(time: Deadline, send: (abortSignal: AbortSignal) => Promise<Answer>): Promise<Answer> =>
    within(time, send).catch((error: unknown) => {
      throw asProviderError(error)
    })
  return {
    async assume(input, time) {
      const { Credentials: made } = await call(time, (abortSignal) => client.send(new sdk.AssumeRoleCommand(input), { abortSignal }))
      const { AccessKeyId: id, SecretAccessKey: secret, SessionToken: token, Expiration: end } = made ?? {}
      if (id === undefined || secret === undefined || token === undefined || end === undefined)
        throw new ProviderError('broken', 'AWS answered without credentials')
      return { id, secret, token, issuedAt: end.getTime() - input.DurationSeconds * 1000, expiresAt: end.getTime() }
    },
    async account(time) {
      const { Account } = await call(time, (abortSignal) => client.send(new sdk.GetCallerIdentityCommand({}), { abortSignal }))
      if (Account === undefined) throw new ProviderError('broken', 'AWS does not say whose credentials the broker has')
      return Account
    },
    close: () => client.destroy(),
  }
}
