import { z } from 'zod'

/**
 * The one inline policy that denies a role's withdrawn sessions everything: written from, and read back into, what is denied.
 * A session tag or source identity is told by its last 16 characters: about 500 of them fit where 270 ids would.
 */
export interface Denied {
  /** Patterns of `aws:PrincipalTag/mayfly-lease`. */
  readonly leases: readonly string[]
  /** Patterns of `aws:SourceIdentity`. */
  readonly tasks: readonly string[]
  /** Sessions issued before this second (Unix time) are denied whatever they are. */
  readonly before?: number
}

/**
 * Which write a document is of. `number` is also kept in the register, and written there before the document is: a register that does not
 * reach up to it has lost what was added since, and is completed from the document.
 */
export interface Stamp {
  readonly lineage: string
  readonly number: number
}

/** What is live; `stamp` is absent where something else wrote it. */
export interface Live extends Denied {
  readonly stamp?: Stamp
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html: all inline policies of a role, without white space. */
export const MAX_INLINE_CHARACTERS = 10_240
/** What one `Denied` may still be when it denies a whole role by its time of issue. */
export const SMALLEST_DOCUMENT_CHARACTERS = 300

const KEYS = { leases: 'aws:PrincipalTag/mayfly-lease', tasks: 'aws:SourceIdentity', before: 'aws:TokenIssueTime' } as const
/** 16 of the 26 random characters: 78 bits, so that no other session of the role has the same by chance. */
const TOLD_CHARACTERS = 16
const ENDS_IN = new RegExp(`[a-z0-9]{${TOLD_CHARACTERS}}$`)
/** IAM takes letters and digits in a Sid. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_sid.html */
const STAMPED = /^Mayfly[A-Za-z]+?(?<lineage>[a-z0-9]{8})T(?<number>\d{1,15})$/

/** The pattern that tells a lease or a task; `undefined` where the id has too little of its own. */
export function patternOf(id: string): string | undefined {
  const end = ENDS_IN.exec(id)?.[0]
  return end === undefined ? undefined : `*${end}`
}

/** The document without white space; `undefined` when nothing is denied, since a policy has at least one statement. */
export function documentOf({ leases, tasks, before }: Denied, { lineage, number }: Stamp): string | undefined {
  const deny = (what: string, Condition: object) => ({
    Sid: `Mayfly${what}${lineage}T${number}`,
    Effect: 'Deny',
    Action: '*',
    Resource: '*',
    Condition,
  })
  const Statement = [
    ...(leases.length > 0 ? [deny('Leases', { StringLike: { [KEYS.leases]: leases } })] : []),
    ...(tasks.length > 0 ? [deny('Tasks', { StringLike: { [KEYS.tasks]: tasks } })] : []),
    ...(before !== undefined ? [deny('AllIssuedBefore', { DateLessThan: { [KEYS.before]: textOf(before) } })] : []),
  ]
  return Statement.length === 0 ? undefined : JSON.stringify({ Version: '2012-10-17', Statement })
}

const texts = z.union([z.string().transform((one) => [one]), z.array(z.string())])
const statement = z.object({
  Sid: z.string().optional(),
  Effect: z.literal('Deny'),
  Condition: z.union([
    z.strictObject({ StringLike: z.strictObject({ [KEYS.leases]: texts }) }),
    z.strictObject({ StringLike: z.strictObject({ [KEYS.tasks]: texts }) }),
    z.strictObject({ DateLessThan: z.strictObject({ [KEYS.before]: z.string() }) }),
  ]),
})

/** What a live document denies. Statements that are not of this form are not Mayfly's, and are left out. */
export function readDocument(text: string): Live {
  const leases: string[] = []
  const tasks: string[] = []
  const times: number[] = []
  const stamps: (Stamp | undefined)[] = []
  for (const raw of statementsOf(text)) {
    const parsed = statement.safeParse(raw)
    if (!parsed.success) continue
    const { Sid = '', Condition } = parsed.data
    if ('DateLessThan' in Condition) times.push(...[secondsOf(Condition.DateLessThan[KEYS.before] ?? '')].filter((time) => !Number.isNaN(time)))
    else {
      for (const [key, values] of Object.entries(Condition.StringLike)) (key === KEYS.leases ? leases : tasks).push(...values)
    }
    stamps.push(stampOf(Sid))
  }
  const [stamp] = stamps
  const isOneWrite = stamps.every((one) => one?.lineage === stamp?.lineage && one?.number === stamp?.number)
  return { leases, tasks, ...(times.length > 0 ? { before: Math.max(...times) } : {}), ...(stamp && isOneWrite ? { stamp } : {}) }
}

export function sameDenied(one: Denied, other: Denied): boolean {
  const told = ({ leases, tasks, before }: Denied) => JSON.stringify([[...leases].sort(), [...tasks].sort(), before])
  return told(one) === told(other)
}

function statementsOf(text: string): unknown[] {
  try {
    return [Object(JSON.parse(text)).Statement].flat()
  } catch {
    return []
  }
}

function stampOf(sid: string): Stamp | undefined {
  const { lineage, number } = STAMPED.exec(sid)?.groups ?? {}
  return lineage === undefined ? undefined : { lineage, number: Number(number) }
}

function textOf(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('.000Z', 'Z')
}

function secondsOf(text: string): number {
  return Math.ceil(Date.parse(text) / 1000)
}
