import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'

const dist = join(import.meta.dirname, '..', '..', 'dist')

/** Says the name of each package that is loaded; a loader runs on a thread of its own, so it says so on the file descriptor. */
const LOADER = `
import { writeSync } from 'node:fs'
export async function load(url, context, next) {
  const name = /\\/node_modules\\/((?:@[^/]+\\/)?[^/]+)\\//.exec(url)?.[1]
  if (name) writeSync(1, name + '\\n')
  return next(url, context)
}`
const REGISTER = `import { register } from 'node:module'; register('data:text/javascript,${encodeURIComponent(LOADER).replaceAll("'", '%27')}')`

function packagesLoadedBy(module: string): string[] {
  const args = [
    '--import',
    `data:text/javascript,${encodeURIComponent(REGISTER)}`,
    '--input-type=module',
    '-e',
    `await import(${JSON.stringify(module)})`,
  ]
  const said = execFileSync(process.execPath, args, { encoding: 'utf8', timeout: 20_000 })
  return [...new Set(said.split('\n').filter(Boolean))].sort()
}

describe('the catalogue', () => {
  it('loads no client library of an upstream before it is configured', () => {
    const loaded = packagesLoadedBy(join(dist, 'providers', 'index.js'))
    expect(loaded).toContain('zod')
    const clients = [
      '@aws-sdk',
      '@azure',
      '@kubernetes',
      '@octokit',
      '@peculiar',
      'google-',
      'ioredis',
      'mysql2',
      'openid-client',
      'pg',
      'sshpk',
      'undici',
    ]
    expect(loaded.filter((name) => clients.some((client) => name.startsWith(client)))).toEqual([])
  })

  it('would see it if one were', () => {
    expect(packagesLoadedBy(join(dist, '..', 'node_modules', 'ioredis', 'built', 'index.js'))).toContain('ioredis')
  })
})
