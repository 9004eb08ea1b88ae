import { z } from 'zod'
import { ProviderError } from '../provider.js'
import type { Client } from './client.js'
import type { Params } from './options.js'
import { pathsOf } from './request.js'
import type { Token } from './session.js'

const answerShape = z.object({ data: z.record(z.string(), z.unknown()) })

/** That there is an OpenBao which takes requests: https://openbao.org/api-docs/system/health/. */
export async function checkHealth(client: Client, signal: AbortSignal): Promise<void> {
  await client.call({ method: 'GET', path: ['sys', 'health'], query: 'standbyok=true&perfstandbyok=true', atRoot: true, signal })
}

/** What the broker's token may not do and must, or may do and should not. */
export async function problemsOf(client: Client, token: Token, longest: number, params: readonly Params[], signal: AbortSignal): Promise<string[]> {
  const needed = new Map([
    ...['lookup', 'renew', 'revoke'].map((verb): [string, string] => [`sys/leases/${verb}`, 'update']),
    ...params.flatMap((one) => pathsOf(one).map((path): [string, string] => [path, one.method === 'write' ? 'update' : 'read'])),
  ])
  const body = { paths: [...needed.keys()] }
  const answer = answerShape.safeParse(await client.call({ method: 'POST', path: ['sys', 'capabilities-self'], body, token: token.value, signal }))
  if (!answer.success) throw new ProviderError('broken', 'OpenBao answered a question for capabilities with something else')
  const has = (path: string): unknown[] => [answer.data.data[path]].flat()
  return [
    ...[...needed].filter(([path, verb]) => !has(path).includes(verb)).map(([path, verb]) => `the broker's token may not ${verb} ${path}`),
    ...[...needed].filter(([path]) => has(path).includes('sudo')).map(([path]) => `the broker's token has sudo at ${path}, which it does not need`),
    ...(token.lifeMs < longest * 1000
      ? [`the broker's token lives ${Math.round(token.lifeMs / 1000)} s and its leases die with it: give it more than lease_ttl (${longest} s)`]
      : []),
  ]
}
