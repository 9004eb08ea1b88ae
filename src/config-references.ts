import { readFile } from 'node:fs/promises'
import { isAbsolute, relative, resolve } from 'node:path'
import { glob } from 'tinyglobby'

/**
 * References in the configuration: a string `env:NAME` or `file:PATH` stands for what is there. Secrets are given so and never in the
 * file itself; a URL with a password in the file is an error.
 */
export interface References {
  /** The same tree with every reference replaced. */
  resolve(value: unknown, path?: readonly string[]): Promise<unknown>
  read(file: string, path: string): Promise<string | undefined>
  glob(patterns: readonly string[], path: string): Promise<{ name: string; text: string }[]>
  /** Files read so far. */
  readonly files: readonly string[]
}

const LARGEST_FILE = 1_048_576

export function createReferences(base: string, env: Readonly<Record<string, string | undefined>>, problems: string[]): References {
  const files: string[] = []

  const read = async (file: string, path: string): Promise<string | undefined> => {
    const absolute = isAbsolute(file) ? file : resolve(base, file)
    try {
      const text = await readFile(absolute, 'utf8')
      if (text.length > LARGEST_FILE) throw new Error('it is larger than 1 MB')
      files.push(absolute)
      return text
    } catch (error) {
      problems.push(`${path}: cannot read ${file}: ${error instanceof Error ? error.message.split(',')[0] : 'unknown'}`)
      return undefined
    }
  }

  const resolveString = async (value: string, path: string): Promise<string | undefined> => {
    if (value.startsWith('file:')) return (await read(value.slice('file:'.length), path))?.replace(/\r?\n$/, '')
    if (value.startsWith('env:')) {
      const name = value.slice('env:'.length)
      const found = env[name]
      if (found === undefined || found === '') problems.push(`${path}: the environment variable ${name} is not set`)
      return found
    }
    if (hasPassword(value)) problems.push(`${path}: holds a password; give the URL as env:NAME or file:PATH instead`)
    return value
  }

  const walk = async (value: unknown, path: readonly string[] = []): Promise<unknown> => {
    if (typeof value === 'string') return resolveString(value, path.join('.'))
    if (Array.isArray(value)) return Promise.all(value.map((inner, index) => walk(inner, [...path, String(index)])))
    if (typeof value !== 'object' || value === null) return value
    const entries = Object.entries(value).map(async ([key, inner]) => [key, await walk(inner, [...path, key])] as const)
    return Object.fromEntries(await Promise.all(entries))
  }

  return {
    resolve: walk,
    read,
    glob: async (patterns, path) => {
      const found: { name: string; text: string }[] = []
      for (const pattern of patterns) {
        const names = await matching(base, pattern)
        if (names.length === 0) problems.push(`${path}: nothing matches ${pattern}`)
        for (const name of names) {
          const text = await read(name, path)
          if (text !== undefined) found.push({ name: relative(base, resolve(base, name)), text })
        }
      }
      return found
    },
    files,
  }
}

async function matching(base: string, pattern: string): Promise<string[]> {
  if (!pattern.includes('*')) return [pattern]
  return (await glob(pattern, { cwd: base, expandDirectories: false })).sort()
}

function hasPassword(value: string): boolean {
  if (!value.includes('://')) return false
  try {
    return new URL(value).password !== ''
  } catch {
    return false
  }
}
