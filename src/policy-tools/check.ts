import { readFile } from 'node:fs/promises'
import { EXIT, type Shell, UsageError } from '../cli/index.js'
import { json, line } from '../cli/text.js'
import { isOpa, located, type OpaOptions, probe, problemsOf } from '../policy/index.js'
import { cedarOnly, configured, opened, policiesAt, standalone } from './read.js'

export interface CheckOptions {
  readonly config?: string
  readonly schema?: string
  readonly json?: boolean
}

/** `mayfly policy check`: everything that a broker would say of the policies when it loads them; of an OPA, whether it decides. */
export async function check(paths: readonly string[], options: CheckOptions, shell: Shell): Promise<void> {
  const policies = await read(paths, options, shell)
  if (isOpa(policies)) return checkOpa(policies, options, shell)
  const problems = await problemsOf(policies)
  if (problems.length > 0) shell.exitWith(EXIT.failed)
  if (options.json)
    return json(shell.stdout, { ok: problems.length === 0, files: policies.files.map(({ name, mode }) => ({ name, mode })), problems })
  for (const problem of problems) line(shell.stdout, located(problem))
  const observed = policies.files.filter(({ mode }) => mode === 'observe').length
  if (problems.length === 0) line(shell.stdout, `${policies.files.length} files${observed > 0 ? ` (${observed} observed)` : ''}: nothing is wrong`)
}

async function read(paths: readonly string[], { config, schema }: CheckOptions, shell: Shell) {
  if (config !== undefined) {
    if (schema !== undefined) throw new UsageError('--config names the schema')
    const options = await configured(config, shell.env)
    if (paths.length === 0) return options
    return { ...cedarOnly(options, 'check files of Rego with `opa check --strict`'), files: await policiesAt(paths) }
  }
  if (schema === undefined || paths.length === 0) throw new UsageError('check what? give --config, or files and --schema')
  const text = await readFile(schema, 'utf8').catch(() => {
    throw new UsageError(`there is no ${schema}`)
  })
  line(shell.stderr, 'without --config the teams, groups, roles, providers, issuers and intents that policies name are taken for known')
  return standalone(text, await policiesAt(paths))
}

/** Nothing of it is read here: what is said of files, `opa check --strict` says. */
async function checkOpa(options: OpaOptions, { json: asJson }: CheckOptions, shell: Shell): Promise<void> {
  const policy = await opened(options)
  try {
    const problems = await probe(policy)
    if (problems.length > 0) shell.exitWith(EXIT.failed)
    if (asJson) return json(shell.stdout, { ok: problems.length === 0, version: policy.version, problems })
    for (const problem of problems) line(shell.stdout, located(problem))
    if (problems.length === 0) line(shell.stdout, `${options.url}, ${options.path}: every action is decided, by version ${policy.version}`)
  } finally {
    policy.close()
  }
}
