import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname } from 'node:path'
import { compileFunction } from 'node:vm'

export type Cedar = typeof import('@cedar-policy/cedar-wasm/nodejs')
export type { PolicyJson, Schema, StatefulAuthorizationCall } from '@cedar-policy/cedar-wasm/nodejs'

const local = createRequire(import.meta.url)

/**
 * A new instance of the engine: its own WebAssembly memory, nothing shared, freed when it is let go. The library's module holds one
 * instance for good, so its text is run once more, as `require` would, beside the module cache. About 5 ms.
 */
export function newCedar(): Cedar {
  const path = local.resolve('@cedar-policy/cedar-wasm/nodejs')
  const module: { exports: unknown } = { exports: {} }
  const run = compileFunction(readFileSync(path, 'utf8'), ['exports', 'require', 'module', '__filename', '__dirname'], { filename: path })
  run(module.exports, createRequire(path), module, path, dirname(path))
  return module.exports as Cedar
}

/** Where the first of a list of the library's errors points at in `text`: the line, from 1. The library counts octets. */
export function lineOf(
  errors: readonly { readonly sourceLocations?: readonly { readonly start: number }[] | null }[],
  text: string,
): number | undefined {
  const start = errors.flatMap(({ sourceLocations }) => sourceLocations ?? [])[0]?.start
  return start === undefined ? undefined : Buffer.from(text).subarray(0, start).toString().split('\n').length
}

/** Everything that a list of the library's errors says, in one line. */
export function told(errors: readonly { readonly message: string; readonly help: string | null }[]): string {
  return errors.map((error) => (error.help ? `${error.message} (${error.help})` : error.message)).join('; ')
}
