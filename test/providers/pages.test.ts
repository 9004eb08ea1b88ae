import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from '@jest/globals'
import { parse, parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { ConfigFile } from '../../src/config-schema.js'
import { providers } from '../../src/providers/index.js'
import type { ScopeKind } from '../../src/types.js'
import { pageOf } from './facts.js'

/** The examples on the providers' pages, and in the documented configuration, are read as the configuration would be. */
const Example = z.object({
  providers: z.record(z.string(), z.looseObject({ type: z.string() })),
  roles: z.record(z.string(), z.looseObject({ provider: z.string(), params: z.record(z.string(), z.unknown()).default({}) })).default({}),
})
type Example = z.infer<typeof Example>
const roleShape = ConfigFile.shape.roles.valueType
const isReference = (value: unknown): value is string => typeof value === 'string' && /^(env|file):/.test(value)

function problemsOf({ providers: configured, roles }: Example): string[] {
  const problems: string[] = []
  for (const [name, { type, concurrency: _c, timeout: _t, ...options }] of Object.entries(configured)) {
    const module = providers.find((one) => one.type === type)
    if (!module) {
      problems.push(`${name}: there is no provider type "${type}"`)
      continue
    }
    const parsed = module.options.safeParse(options, { reportInput: true })
    // What stands in a file or in the environment is not there to be read.
    const wrong = parsed.success ? [] : parsed.error.issues.filter((issue) => !ofReference(issue, options))
    problems.push(...wrong.map(({ path, message }) => `providers.${[name, ...path].join('.')}: ${message}`))
    for (const secret of module.secrets ?? [])
      if (options[secret] !== undefined && !isReference(options[secret])) problems.push(`providers.${name}.${secret}: is a secret in the file itself`)
  }
  for (const [name, role] of Object.entries(roles)) {
    const whole = roleShape.safeParse(role)
    if (!whole.success) problems.push(...whole.error.issues.map(({ path, message }) => `roles.${[name, ...path].join('.')}: ${message}`))
    const module = providers.find((one) => one.type === configured[role.provider]?.type)
    const params = module?.params.safeParse(role.params, { reportInput: true })
    if (!module || !params) problems.push(`roles.${name}: its provider is not in the example`)
    else if (params.success) problems.push(...checked(module, params.data, role, configured[role.provider]).map((text) => `roles.${name}: ${text}`))
    else
      problems.push(
        ...params.error.issues
          .filter(({ path }) => !isReference(at(role.params, path)))
          .map(({ path, message }) => `roles.${[name, 'params', ...path].join('.')}: ${message}`),
      )
  }
  return problems
}

/** What a check of the whole says may be said of what stands in a reference. */
function ofReference({ path, input, code }: z.core.$ZodIssue, options: object): boolean {
  if (isReference(input) || isReference(at(options, path))) return true
  return path.length === 0 && code === 'custom' && Object.values(options).some(isReference)
}

function checked(module: (typeof providers)[number], params: unknown, role: Record<string, unknown>, provider: unknown): string[] {
  const options = module.options.safeParse(without(provider, ['type', 'concurrency', 'timeout']))
  return options.success ? module.checkRole(params, (role.scope ?? {}) as Record<string, ScopeKind>, options.data) : []
}

function at(value: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>((inner, key) => Object(inner)[key], value)
}
function without(value: unknown, keys: readonly string[]): object {
  return Object.fromEntries(Object.entries(Object(value)).filter(([key]) => !keys.includes(key)))
}

describe('the examples', () => {
  it.each(providers.map(({ type }) => type))('on the page of %s are well-formed', async (type) => {
    const blocks = [...(await pageOf(type)).matchAll(/^```yaml\n([\s\S]*?)^```/gm)].flatMap(([, text = '']) =>
      parseAllDocuments(text).map((document) => Example.safeParse(document.toJS())),
    )
    const examples = blocks.flatMap((block) => (block.success ? [block.data] : []))
    expect(
      examples.some(({ providers: shown, roles }) => Object.values(shown).some((one) => one.type === type) && Object.keys(roles).length > 0),
    ).toBe(true)
    expect(examples.flatMap(problemsOf)).toEqual([])
  })

  it('in config/mayfly.yaml are well-formed, one provider and one role of each type', async () => {
    const file = await readFile(join(import.meta.dirname, '..', '..', 'config', 'mayfly.yaml'), 'utf8')
    const example = Example.parse(parse(file))
    expect(problemsOf(example)).toEqual([])
    const used = Object.values(example.roles).map((role) => example.providers[role.provider]?.type)
    expect([...new Set(used)].sort()).toEqual(providers.map(({ type }) => type).sort())
  })
})
