import { MayflyError } from '../errors.js'

/** What is wrong where: `path` is a file, with the policy's id where there is one. */
export interface Problem {
  readonly path: string
  /** Of that file, from 1. */
  readonly line?: number
  readonly message: string
}

/** Policies that cannot be used, with everything that is wrong with them. */
export class PolicyProblems extends MayflyError {
  constructor(readonly problems: readonly Problem[]) {
    super('policy_unavailable', `the policies cannot be used: ${problems.map(line).join(' · ')}`, { issues: [...problems] })
  }
}

export function line({ path, message }: Problem): string {
  return `${path}: ${message}`
}

/** `policies/obtain.cedar:12: warehouse-read: @maxTtl is empty`, as editors and other tools read it. */
export function located({ path, line: at, message }: Problem): string {
  if (at === undefined) return line({ path, message })
  const [file = path, ...rest] = path.split(': ')
  return [`${file}:${at}`, ...rest, message].join(': ')
}
