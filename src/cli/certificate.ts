import { readFile } from 'node:fs/promises'
import { Agent, fetch, type RequestInit } from 'undici'
import { type Shell, UsageError } from './shell.js'

export interface CertificateOptions {
  readonly clientCert?: string
  readonly clientKey?: string
}

/** `fetch` that shows a client certificate; undefined where none is named. The files are read anew each time, because an SVID rotates. */
export function certificateFetch({ clientCert, clientKey }: CertificateOptions, { env }: Shell): typeof globalThis.fetch | undefined {
  const certFile = clientCert ?? (env.MAYFLY_CLIENT_CERT || undefined)
  const keyFile = clientKey ?? (env.MAYFLY_CLIENT_KEY || undefined)
  if (certFile === undefined && keyFile === undefined) return undefined
  if (certFile === undefined || keyFile === undefined)
    throw new UsageError('a client certificate is a file and its key: give --client-cert and --client-key')
  let held: { readonly text: string; readonly agent: Agent } | undefined
  const agentOf = async (): Promise<Agent> => {
    const [cert, key] = await Promise.all([read(certFile, '--client-cert'), read(keyFile, '--client-key')])
    const text = cert + key
    if (held?.text !== text) held = { text, agent: new Agent({ connect: { cert, key } }) }
    return held.agent
  }
  return async (input, init) => {
    const asked: RequestInit = { ...(init as RequestInit), dispatcher: await agentOf() }
    return (await fetch(String(input), asked)) as Response
  }
}

async function read(file: string, option: string): Promise<string> {
  return readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new Error(`cannot read ${file} (${error.code}): check ${option}`)
  })
}
