import type { IAMClient } from '@aws-sdk/client-iam'
import { z } from 'zod'
import { deadline, within } from '../deadline.js'
import { ProviderError } from '../provider.js'
import { MAX_INLINE_CHARACTERS, SMALLEST_DOCUMENT_CHARACTERS } from './document.js'
import { asProviderError } from './error.js'
import type { RolePolicy } from './rewrite.js'

/** What early revocation needs of IAM: one inline policy of each AWS role. */
export interface Iam {
  policyOf(role: string): RolePolicy
  /** @throws ProviderError that says what the broker may not do, or that the role has no room */
  check(role: string, ms: number): Promise<void>
  close(): void
}

/** How far the broker's clock may be off AWS's, for an answer that has no date. */
const CLOCK_DIFFERENCE_MS = 5000
const dated = z.object({ headers: z.object({ date: z.string() }) })

/** https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html and its neighbours; one attempt each. */
export async function openIam(options: { readonly region: string; readonly endpoint?: string }, timeoutMs: number, PolicyName: string): Promise<Iam> {
  const sdk = await import('@aws-sdk/client-iam')
  const client: IAMClient = new sdk.IAMClient({
    ...options,
    maxAttempts: 1,
    requestHandler: { connectionTimeout: timeoutMs, requestTimeout: timeoutMs, throwOnRequestTimeout: true },
  })
  /** `expected`: errors that are answers, by their names. */
  const call = <Answer, const Expected extends string>(
    ms: number,
    expected: readonly Expected[],
    send: (signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer | Expected> =>
    within(deadline(ms), send).catch((error: unknown) => {
      const known = expected.find((name) => error instanceof Error && error.name === name)
      if (known !== undefined) return known
      throw asProviderError(error, 'iam')
    })

  return {
    policyOf: (RoleName) => ({
      async read(ms) {
        const command = new sdk.GetRolePolicyCommand({ RoleName, PolicyName })
        let at = Date.now() + CLOCK_DIFFERENCE_MS
        command.middlewareStack.add(
          (next) => async (args) => {
            const result = await next(args)
            const date = Date.parse(dated.safeParse(result.response).data?.headers.date ?? '')
            if (!Number.isNaN(date)) at = date
            return result
          },
          { step: 'deserialize', priority: 'low' },
        )
        const answer = await call(ms, ['NoSuchEntityException'], (abortSignal) => client.send(command, { abortSignal }))
        return typeof answer === 'string' ? { at } : { at, text: textOf(answer) }
      },

      async write(PolicyDocument, ms, isOurs) {
        const command = new sdk.PutRolePolicyCommand({ RoleName, PolicyName, PolicyDocument })
        command.middlewareStack.add(onlyWhile(isOurs), { step: 'deserialize', priority: 'low' })
        const expected = ['NoSuchEntityException', 'LimitExceededException', LATE] as const
        const answer = await call(ms, expected, (abortSignal) => client.send(command, { abortSignal }))
        if (typeof answer !== 'string') return 'written'
        return answer === 'NoSuchEntityException' ? 'gone' : answer === 'LimitExceededException' ? 'full' : 'late'
      },

      async remove(ms, isOurs) {
        const command = new sdk.DeleteRolePolicyCommand({ RoleName, PolicyName })
        command.middlewareStack.add(onlyWhile(isOurs), { step: 'deserialize', priority: 'low' })
        const answer = await call(ms, ['NoSuchEntityException', LATE], (abortSignal) => client.send(command, { abortSignal }))
        return answer === LATE ? 'late' : 'written'
      },
    }),

    async check(RoleName, ms) {
      const time = deadline(ms)
      const send = <Answer>(ask: (signal: AbortSignal) => Promise<Answer>) => call(time.left(), ['NoSuchEntityException'], ask)
      await send((abortSignal) => client.send(new sdk.GetRolePolicyCommand({ RoleName, PolicyName }), { abortSignal }))
      // A policy that is never there: whether it may be deleted is told without deleting anything.
      const absent = `${PolicyName}.check`
      await send((abortSignal) => client.send(new sdk.DeleteRolePolicyCommand({ RoleName, PolicyName: absent }), { abortSignal }))
      let others = 0
      for (let Marker: string | undefined, isMore = true; isMore; ) {
        const listed = await send((abortSignal) => client.send(new sdk.ListRolePoliciesCommand({ RoleName, Marker }), { abortSignal }))
        if (typeof listed === 'string') throw new ProviderError('invalid', `there is no role "${RoleName}" in the broker's AWS account`)
        for (const name of listed.PolicyNames ?? []) {
          if (name === PolicyName) continue
          const one = await send((abortSignal) => client.send(new sdk.GetRolePolicyCommand({ RoleName, PolicyName: name }), { abortSignal }))
          if (typeof one !== 'string') others += charactersOf(textOf(one))
        }
        Marker = listed.Marker
        isMore = listed.IsTruncated === true
      }
      const room = MAX_INLINE_CHARACTERS - others
      if (room < SMALLEST_DOCUMENT_CHARACTERS)
        throw new ProviderError(
          'invalid',
          `the inline policies of role "${RoleName}" leave ${room} characters for revocations: make one a managed policy`,
        )
    },

    close: () => client.destroy(),
  }
}

const LATE = 'LateWriteError'

/** Asked at the last moment: after credentials were looked for and the request was signed. */
function onlyWhile(isOurs: () => boolean) {
  return <Args, Result>(next: (args: Args) => Promise<Result>) =>
    async (args: Args): Promise<Result> => {
      if (!isOurs()) throw Object.assign(new Error('the right to write had ended'), { name: LATE })
      return next(args)
    }
}

/** "The policy document returned in this structure is URL-encoded compliant with RFC 3986": API_GetRolePolicy. */
function textOf({ PolicyDocument = '' }: { PolicyDocument?: string }): string {
  try {
    return decodeURIComponent(PolicyDocument)
  } catch {
    return PolicyDocument
  }
}

/** At least what AWS counts: white space outside of strings is not, inside of them it might be. */
function charactersOf(text: string): number {
  try {
    return JSON.stringify(JSON.parse(text)).length
  } catch {
    return text.length
  }
}
