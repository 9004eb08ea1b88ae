import type {
  Access,
  Approval,
  ApprovalState,
  Assignee,
  Cause,
  Claim,
  Handle,
  HumanProof,
  Lease,
  LeaseState,
  Revocation,
  Scope,
  Sensitivity,
  Task,
  TaskState,
} from '../types.js'
import type { NewTask, TaskChange } from './ledger.js'
import { fieldsOf, listOf, numberOf, textOf } from './reply.js'

/**
 * The records' hashes. Their field names are short because Redis stores them with each record; this file and the scripts are the only
 * ones that know them. `docs/storage.md` has the whole list.
 */
const STATES: Record<string, LeaseState> = { p: 'pending', a: 'active', c: 'closing', r: 'revoked', e: 'expired' }

export function leaseStateOf(letter: string): LeaseState {
  const state = STATES[letter]
  if (!state) throw new Error(`the ledger holds a lease of unknown state "${letter}"`)
  return state
}

export function leaseOf(id: string, fields: Record<string, string>): Lease {
  const get = (name: string): string => fields[name] ?? ''
  const time = (name: string): number | undefined => (fields[name] === undefined ? undefined : Number(fields[name]))
  return {
    id,
    task: get('t'),
    state: leaseStateOf(get('s')),
    agent: get('a'),
    instance: fields.i === undefined ? undefined : decodeURIComponent(fields.i),
    owner: get('o'),
    issuer: get('is'),
    orchestrator: get('or'),
    human: fields.h,
    humanProof: proofOf(fields.hp),
    role: get('ro'),
    provider: get('pr'),
    access: get('ac') as Access,
    sensitivity: get('se') as Sensitivity,
    scope: JSON.parse(fields.sc ?? '{}') as Scope,
    handle: JSON.parse(fields.ha ?? '{}') as Handle,
    revocation: get('rv') as Revocation,
    residualSeconds: Number(get('rs')),
    expiryEndsUse: fields.xe === '1',
    issuedAt: Number(get('ia')),
    expiresAt: Number(get('xa')),
    usableUntil: time('uu'),
    renewableUntil: Number(get('ru')),
    mintUntil: Number(get('mu')),
    contextVersion: Number(get('cv')),
    tokenIssuedAt: time('ti'),
    renewals: fields.rn === undefined ? undefined : Number(fields.rn),
    approval: fields.ap,
    attempts: Number(fields.n ?? 0),
    lastError: fields.le,
    toBeVerified: fields.vf === undefined ? undefined : true,
    cause: fields.ca as Cause | undefined,
    closedAt: time('cl'),
    settledAt: time('st'),
  }
}

const APPROVAL_STATES: Record<string, ApprovalState> = { o: 'open', g: 'granted', b: 'bound', s: 'spent', d: 'denied', x: 'expired' }

export function approvalStateOf(letter: string): ApprovalState {
  const state = APPROVAL_STATES[letter]
  if (!state) throw new Error(`the ledger holds an approval of unknown state "${letter}"`)
  return state
}

/** `over`: why it can no longer be used, where that is not written down yet. */
export function approvalOf(id: string, fields: Record<string, string>, over?: string): Approval {
  const get = (name: string): string => fields[name] ?? ''
  return {
    id,
    state: over ? 'expired' : approvalStateOf(get('s')),
    task: get('t'),
    agent: get('a'),
    instance: fields.i,
    issuer: get('is'),
    role: get('ro'),
    digest: get('dg'),
    needs: JSON.parse(get('ne')) as Approval['needs'],
    consents: JSON.parse(fields.by ?? '[]') as Approval['consents'],
    denial: fields.no === undefined ? undefined : (JSON.parse(fields.no) as Approval['denial']),
    request: JSON.parse(get('sh')) as Approval['request'],
    openers: JSON.parse(get('op')) as Approval['openers'],
    contextVersion: Number(get('cv')),
    askedAt: Number(get('aa')),
    expiresAt: Number(get('xa')),
    lease: fields.le,
    cause: (over || fields.ca) as Cause | undefined,
  }
}

/** Id, record, attempt, until -> claim. */
export function claimOf(reply: unknown): Claim {
  const [id, record, attempt, until] = listOf(reply)
  return { lease: leaseOf(textOf(id), fieldsOf(record)), attempt: numberOf(attempt), until: numberOf(until) }
}

/** Task, its root's facts (obtained, counts), and the state of an ancestor that ended. */
export function taskOf(id: string, fields: Record<string, string>, root: unknown, endedAbove?: unknown): Task {
  const get = (name: string): string => fields[name] ?? ''
  const time = (name: string): number | undefined => (fields[name] === undefined ? undefined : Number(fields[name]))
  const [obtained, reads, writes, escalations] = listOf(root).map(textOf)
  return {
    id,
    root: get('rt'),
    parent: fields.pa,
    depth: Number(get('de')),
    orchestrator: fields.or || undefined,
    chain: fields.ch === undefined ? undefined : fields.ch.split(' '),
    state: (endedAbove ? textOf(endedAbove) : get('s')) as TaskState,
    openedBy: { kind: get('ok') as Task['openedBy']['kind'], id: get('oi'), issuer: get('os'), instance: fields.on },
    intent: get('in'),
    classified: fields.cl === '1' || fields.cl === '2',
    classifiedBy: fields.cl === '1' ? 'orchestrator' : fields.cl === '2' ? 'classifier' : undefined,
    statedIntent: fields.si || undefined,
    confidence: Number(get('co')),
    classification: get('ca') as Sensitivity,
    environment: get('en'),
    assignees: boundIn(JSON.parse(get('as')) as Assignee[], fields),
    envelope: JSON.parse(get('ev')) as Task['envelope'],
    tools: fields.tl === undefined ? undefined : (JSON.parse(fields.tl) as Task['tools']),
    check: fields.ck as Task['check'],
    plan: fields.pl === undefined ? undefined : (JSON.parse(fields.pl) as Task['plan']),
    labels: JSON.parse(get('la')) as Task['labels'],
    human: fields.hu,
    humanProof: proofOf(fields.hp),
    externalId: fields.ex,
    openedAt: Number(get('oa')),
    deadlineAt: Number(get('dl')),
    heartbeatSeconds: time('hb'),
    heartbeatDueAt: time('hd'),
    endedAt: time('ea'),
    reason: fields.re || undefined,
    contextVersion: Number(get('cv')),
    obtained: obtained ? obtained.split(',') : [],
    counts: { read: Number(reads || 0), write: Number(writes || 0), escalate: Number(escalations || 0) },
  }
}

/** What a change of context writes. */
export function changeFields(change: TaskChange): string[] {
  const fields: string[] = []
  const put = (name: string, value: string | undefined) => value !== undefined && fields.push(name, value)
  put('in', change.intent)
  put('si', change.intent === undefined ? undefined : (change.statedIntent ?? ''))
  put('cl', change.classified === undefined ? undefined : classifiedFlag({ classified: change.classified, classifiedBy: change.classifiedBy }))
  put('co', change.confidence?.toString())
  put('ca', change.classification)
  put('en', change.environment)
  put('la', change.labels && JSON.stringify(change.labels))
  return fields
}

/** Whether, and by whom: 0 nobody, 1 an orchestrator, 2 the classifier. */
export function classifiedFlag({ classified, classifiedBy }: Pick<NewTask, 'classified' | 'classifiedBy'>): string {
  return classified ? (classifiedBy === 'classifier' ? '2' : '1') : '0'
}

export const flag = (value: boolean): string => (value ? '1' : '0')

/**
 * Which copies of each agent may act, for the scripts: `*` any, `=<instance>` that one, `?` the first that comes; percent-encoded,
 * separated by spaces.
 */
export function bindingsOf(assignees: NewTask['assignees']): string[] {
  const bindings = new Map<string, string[]>()
  for (const { agent, instance, bindInstance } of assignees) {
    const binding = instance !== undefined ? `=${encodeURIComponent(instance)}` : bindInstance ? '?' : '*'
    bindings.set(agent, [...(bindings.get(agent) ?? []), binding])
  }
  return [...bindings].flatMap(([agent, list]) => [agent, list.join(' ')])
}

/** The assignees with the copies that were bound meanwhile, which stand in the order in which `bindingsOf` wrote their places. */
function boundIn(assignees: readonly Assignee[], fields: Record<string, string>): Assignee[] {
  const places = new Map<string, string[]>()
  return assignees.map((one) => {
    const left = places.get(one.agent) ?? (fields[`A:${one.agent}`] ?? '').split(' ')
    places.set(one.agent, left)
    const place = left.shift()
    return one.bindInstance && one.instance === undefined && place?.startsWith('=') ? { ...one, instance: decodeURIComponent(place.slice(1)) } : one
  })
}

/** What a human's token showed, as it is kept: never the token. */
export function proofText(proof: HumanProof | undefined): string {
  if (!proof) return ''
  const { issuer, subject, team, groups, tokenFingerprint, tokenIssuedAt, tokenExpiresAt } = proof
  return JSON.stringify({ issuer, subject, team, groups, tokenFingerprint, tokenIssuedAt, tokenExpiresAt })
}

function proofOf(text: string | undefined): HumanProof | undefined {
  return text === undefined ? undefined : (JSON.parse(text) as HumanProof)
}

/** Sorted, so that equal facts are equal text. */
export const obtainedText = (obtained: readonly string[]): string => (obtained.length === 0 ? '' : [...obtained].sort().join(','))

export const countsText = (counts: Readonly<Record<Access, number>> | undefined): string =>
  counts ? `${counts.read},${counts.write},${counts.escalate}` : ''
