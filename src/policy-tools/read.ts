import { readdir, readFile, stat } from 'node:fs/promises'
import { dirname, join, relative, resolve } from 'node:path'
import { CommandError, UsageError } from '../cli/index.js'
import { loadPolicyOptions } from '../config.js'
import { openChannel } from '../identity/channel.js'
import { type EngineOptions, isOpa, located, openEngine, PolicyProblems } from '../policy/index.js'
import type { PolicyFile, PolicyOptions } from '../policy/options.js'
import type { Policy } from '../policy/policy.js'

export type Env = Readonly<Record<string, string | undefined>>

/** What the configuration says of policies; names of files are as seen from here. */
export async function configured(config: string, env: Env): Promise<EngineOptions> {
  const options = await loadPolicyOptions(config, env)
  if (isOpa(options)) return options
  const fromHere = (name: string) => relative('.', join(dirname(resolve(config)), name))
  return { ...options, files: options.files.map((file) => ({ ...file, name: fromHere(file.name) })) }
}

/** What only policies that are files here can be used for. */
export function cedarOnly(options: EngineOptions, instead: string): PolicyOptions {
  if (isOpa(options)) throw new UsageError(`the policies of this configuration are in an OPA: ${instead}`)
  return options
}

/** What decides, an OPA where the configuration says so. */
export function opened(options: EngineOptions): Promise<Policy> {
  return inLines(openEngine(options, { open: openChannel }))
}

/** Files and folders (their `*.cedar`, and those of the folders in them) as policies, by name. */
export async function policiesAt(paths: readonly string[]): Promise<PolicyFile[]> {
  const names = (await Promise.all(paths.map(cedarBelow))).flat()
  if (names.length === 0) throw new UsageError(`there are no *.cedar files in ${paths.join(', ')}`)
  return Promise.all([...new Set(names)].sort().map(async (name) => ({ name, text: await readFile(name, 'utf8') })))
}

async function cedarBelow(path: string): Promise<string[]> {
  const found = await stat(path).catch(() => undefined)
  if (!found) throw new UsageError(`there is no ${path}`)
  if (!found.isDirectory()) return [path]
  const names = await readdir(path, { recursive: true, encoding: 'utf8' })
  return names.filter((name) => name.endsWith('.cedar')).map((name) => join(path, name))
}

/** Policies without a configuration: every id that they name is taken for known. */
export function standalone(schema: string, files: readonly PolicyFile[]): PolicyOptions {
  const text = files.map((file) => file.text).join('\n')
  const named = (type: string) => [...new Set([...text.matchAll(new RegExp(`\\b${type}::"([^"\\\\]*)"`, 'g'))].map(([, id = '']) => id))]
  const steppedUp = [...text.matchAll(/@stepUp\("([^"\\]*)"\)/g)].map(([, id = '']) => id)
  return {
    schema,
    files,
    vocabulary: { intents: named('Intent'), environments: named('Environment') },
    known: {
      teams: named('Team'),
      groups: [...new Set([...named('Group'), ...steppedUp])],
      providers: named('Provider'),
      roles: named('Role'),
      tools: named('Tool'),
      issuers: named('Issuer'),
    },
  }
}

/** What is wrong with policies, each in a line. */
export async function inLines<T>(work: Promise<T>): Promise<T> {
  return work.catch((error: unknown) => {
    if (!(error instanceof PolicyProblems)) throw error
    const lines = error.problems.map((problem) => `  ${located(problem)}`)
    throw new CommandError('policy', ['the policies cannot be used:', ...lines].join('\n'), 'mayfly policy check')
  })
}
