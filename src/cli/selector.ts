import type { Command } from 'commander'
import type { Selector } from '../client/index.js'
import { collect } from './parse.js'
import { UsageError } from './shell.js'

const KEYS = ['agent', 'task', 'role', 'provider', 'issuer', 'owner', 'human', 'orchestrator'] as const

export type SelectorOptions = { readonly [key in (typeof KEYS)[number]]?: string[] } & { readonly all?: boolean }

export function withSelector(command: Command): Command {
  for (const key of KEYS) command.option(`--${key} <id>`, key === 'agent' ? 'whose; several kinds are ANDed, repeats are ORed' : '', collect)
  return command.option('--all', 'everything')
}

/** `undefined`: nothing was named. Naming something and `--all` is a mistake that must not pass as either. */
export function selectorOf(options: SelectorOptions): Selector | undefined {
  const named = Object.fromEntries(KEYS.flatMap((key) => (options[key] === undefined ? [] : [[key, options[key]]])))
  const count = Object.keys(named).length
  if (options.all && count > 0) throw new UsageError('--all is everything: give it alone, or leave it out')
  if (options.all) return { all: true }
  return count === 0 ? undefined : named
}

/** `agent triage, role s3-export`, `everything`. */
export function inWords(selector: object): string {
  if ('all' in selector) return 'everything'
  return Object.entries(selector)
    .map(([key, values]) => `${key} ${[values].flat().join(' or ')}`)
    .join(', ')
}
