import { readdirSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, it } from '@jest/globals'

const root = resolve(import.meta.dirname, '..')
const manifest: { engines: Record<string, string>; dependencies: Record<string, string>; devDependencies: Record<string, string> } = JSON.parse(
  readFileSync(join(root, 'package.json'), 'utf8'),
)
const lock: { packages: Record<string, { resolved?: string; integrity?: string; link?: boolean; version?: string }> } = JSON.parse(
  readFileSync(join(root, 'package-lock.json'), 'utf8'),
)
const declared = Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })

describe('package.json', () => {
  it('names the exact version of every dependency', () => {
    expect(declared.length).toBeGreaterThan(20)
    expect(declared.filter(([, version]) => !/^\d+\.\d+\.\d+(-[\w.]+)?$/.test(version))).toEqual([])
  })

  it('supports Node from 20.19, and says so in the lock file', () => {
    expect(manifest.engines).toEqual({ node: '>=20.19' })
    expect(lock.packages['']).toMatchObject({ engines: manifest.engines })
  })
})

describe('package-lock.json', () => {
  const installed = Object.entries(lock.packages).filter(([path]) => path !== '')

  it('holds what package.json declares, at that version', () => {
    expect(declared.filter(([name, version]) => lock.packages[`node_modules/${name}`]?.version !== version)).toEqual([])
  })

  it('binds every package to its content and to no registry', () => {
    expect(installed.filter(([, entry]) => entry.resolved !== undefined).map(([path]) => path)).toEqual([])
    expect(installed.filter(([, entry]) => !entry.integrity).map(([path]) => path)).toEqual([])
  })
})

describe('the sources', () => {
  const files = ['src', 'test', 'bench', 'scripts'].flatMap((folder) => filesBelow(folder))

  it('import each other by the name that Node will load', () => {
    const relativeImport = /(?:from|import)\s*\(?\s*'(\.[^']*)'/g
    const wrong = files.flatMap((file) =>
      [...readFileSync(join(root, file), 'utf8').matchAll(relativeImport)]
        .map(([, specifier = '']) => specifier)
        .filter((specifier) => !/\.(js|json)$/.test(specifier))
        .map((specifier) => `${file}: ${specifier}`),
    )
    expect(files.length).toBeGreaterThan(50)
    expect(wrong).toEqual([])
  })

  it('test files stay below 500 lines', () => {
    const tooLong = files.filter((file) => file.endsWith('.test.ts') && readFileSync(join(root, file), 'utf8').split('\n').length > 501)
    expect(tooLong).toEqual([])
  })
})

function filesBelow(folder: string): string[] {
  const path = join(root, folder)
  try {
    return readdirSync(path, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => join(folder, file))
  } catch {
    return []
  }
}
