import { z } from 'zod'
import type { Decision } from '../../types.js'

/** What was asked of an OPA has no answer, or none that can be read: the decision is a no. `unavailable`: it may have one another time. */
export class NoAnswer extends Error {
  override readonly name = 'NoAnswer'
  constructor(
    message: string,
    readonly unavailable = false,
  ) {
    super(message)
  }
}

/** A decision, and what only the engine needs of it. */
export interface OpaAnswer {
  readonly decision: Decision
  /** For how long it may be given again, seconds. */
  readonly maxAgeSeconds: number
}

const MOST = 256
const UNVERSIONED = 'unversioned'

const wellFormed = (text: string) => text.isWellFormed()
const text = (most: number) => z.string().min(1).max(most).refine(wellFormed, 'is not well-formed Unicode')
const count = z.int().min(1).max(999_999_999)
const about = {
  /** Ids of the policies that decided. */
  policies: z.array(text(128)).max(MOST),
  /** For who asked to read. */
  reasons: z.array(text(1_024)).max(MOST).default([]),
  /** Of the policies; absent: the revisions of the bundles that they came in. */
  version: text(128).optional(),
  /** False: no policy of this action reads `task.counts`. */
  reads_counts: z.boolean().default(true),
  /** Seconds for which the same question has the same answer, whatever happens elsewhere. */
  max_age: z.int().min(0).max(86_400).default(0),
}
const allows = { max_ttl: count.optional(), max_live: count.optional() }
const someone = about.policies.min(1, 'names no policy: nobody could tell later what allowed it')

/** The decision document: what stands at the configured path. */
export const Document = z.discriminatedUnion('outcome', [
  z.strictObject({ outcome: z.literal('allow'), ...about, ...allows, policies: someone }),
  z.strictObject({
    outcome: z.literal('deny'),
    ...about,
    on_deny: z
      .array(z.enum(['close-task', 'suspend-agent']))
      .min(1)
      .optional(),
  }),
  z.strictObject({
    outcome: z.literal('step-up'),
    ...about,
    ...allows,
    policies: someone,
    step_up: z
      .array(z.strictObject({ group: text(128), approvals: count }))
      .min(1)
      .max(MOST),
  }),
])
type Document = z.output<typeof Document>

/** https://www.openpolicyagent.org/docs/rest-api#get-a-document-with-input */
const Envelope = z.looseObject({
  result: z.unknown().optional(),
  decision_id: z.string().max(256).optional(),
  provenance: z
    .looseObject({ revision: z.string().optional(), bundles: z.record(z.string(), z.looseObject({ revision: z.string().optional() })).optional() })
    .optional(),
})

/** @throws NoAnswer for anything but a decision, whole and as described */
export function answerIn(body: string, known: { readonly groups: readonly string[] }): OpaAnswer {
  const envelope = Envelope.safeParse(json(body))
  if (!envelope.success) throw new NoAnswer('it did not answer as OPA does')
  const { result, decision_id: id, provenance } = envelope.data
  if (result === undefined) throw new NoAnswer('there is no decision at this path: the policies are not loaded, or leave it undefined')
  const read = Document.safeParse(result)
  if (!read.success) throw new NoAnswer(`the decision cannot be read: ${firstOf(read.error)}`)
  const { data } = read
  const stranger = 'step_up' in data ? data.step_up.find(({ group }) => !known.groups.includes(group)) : undefined
  if (stranger) throw new NoAnswer(`step_up names the group ${JSON.stringify(stranger.group)}, which the configuration does not know`)
  return { decision: { ...decisionOf(data, provenance), ...(id !== undefined && { decisionIds: [id] }) }, maxAgeSeconds: data.max_age }
}

function decisionOf(data: Document, provenance: z.output<typeof Envelope>['provenance']): Decision {
  const { outcome, policies, reasons, version, reads_counts: readsCounts } = data
  const decision = { outcome, policies: [...new Set(policies)].sort(), reasons, policyVersion: version ?? revisionOf(provenance), readsCounts }
  if (data.outcome === 'deny') return data.on_deny ? { ...decision, onDeny: data.on_deny } : decision
  const obliged = { maxTtlSeconds: data.max_ttl, maxLive: data.max_live }
  return data.outcome === 'allow' ? { ...decision, ...obliged } : { ...decision, ...obliged, stepUp: data.step_up }
}

/** `main@4f0c1a`: which bundle, and which of its builds. */
function revisionOf(provenance: z.output<typeof Envelope>['provenance']): string {
  const bundles = Object.entries(provenance?.bundles ?? {}).map(([name, { revision = UNVERSIONED }]) => `${name}@${revision}`)
  const found = bundles.length > 0 ? bundles.sort().join(' ') : provenance?.revision || UNVERSIONED
  return found.toWellFormed().slice(0, MOST)
}

function json(body: string): unknown {
  try {
    return JSON.parse(body)
  } catch {
    throw new NoAnswer('it did not answer with JSON')
  }
}

/** What is wrong may quote the policy's own words: bounded, and without control characters. */
function firstOf({ issues: [issue] }: z.ZodError): string {
  const { path = [], message = 'unknown' } = issue ?? {}
  return `${path.map(String).join('.') || 'the document'}: ${message}`
    .replace(/\p{Cc}/gu, ' ')
    .slice(0, 300)
    .toWellFormed()
}
