import { randomBytes } from 'node:crypto'
import { type AnswerOf, type Description, JSON_TYPE, OPERATIONS, type Operation, PROBLEM_TYPE, type RequestOf } from '../providers/http/wire.js'
import { upstreamName } from '../providers/name.js'
import type { Signers } from './keys.js'
import type { Answer, Service, Twist } from './service.js'

/** One thing that a service must do, or must not. */
export interface Case {
  readonly name: string
  /** Cases without which this one tells nothing: after one of them failed it is not judged. */
  readonly after?: readonly string[]
  /** Why it does not apply to a service that describes itself so; undefined: it does. */
  unless?(description: Description): string | undefined
  /** @throws Unmet, in words for whoever writes the service */
  run(trial: Trial): Promise<void>
}

/** The service did otherwise than the contract says. Holds nothing of what it answered but statuses, kinds and outcomes. */
export class Unmet extends Error {
  override readonly name = 'Unmet'
}

/** Names of everything that the suite makes begin with `mf-conformance-`. */
export const INSTANCE = 'conformance'
const SHORT_LIFE_MS = 2_000
const LIFE_MS = 60_000
const MINT_MS = 20_000
const REMEMBER_MS = 60_000

export interface TrialOptions {
  readonly params?: RequestOf<'mint'>['params']
  readonly scope?: RequestOf<'mint'>['scope']
  readonly shortLifeMs?: number
}

/** One run against one service: what it says of itself, and requests as Mayfly makes them. */
export class Trial {
  /** A class for its state: names that may have been made, so that none is left behind. */
  readonly #made = new Set<string>()
  /** Whether the revoke of what is not there is told from the revoke of what is. */
  absenceTells = false
  constructor(
    readonly service: Service,
    readonly signers: Signers,
    readonly signal: AbortSignal,
    readonly description: Description,
    private readonly options: TrialOptions,
  ) {}

  /** The operations that it has. */
  get operations(): readonly Operation[] {
    const has = { describe: true, mint: true, revoke: this.revocable, renew: this.description.renewable, verify: this.description.verifiable }
    return (Object.keys(OPERATIONS) as Operation[]).filter((operation) => has[operation])
  }
  get revocable(): boolean {
    return this.description.revocation !== 'at-expiry'
  }

  /** Long enough to be minted in, short enough to be waited for. */
  get shortLifeMs(): number {
    return this.options.shortLifeMs ?? SHORT_LIFE_MS
  }

  /** A mint for a lease that nobody has heard of. */
  mintBody(change: Partial<RequestOf<'mint'>> = {}, now = Date.now()): RequestOf<'mint'> {
    const id = `lease_17${[...randomBytes(26)].map((byte) => BASE32[byte % BASE32.length]).join('')}`
    const name = upstreamName(INSTANCE, id)
    return {
      lease: { id, task: `task_17${'b'.repeat(26)}`, agent: 'conformance/agent', owner: 'conformance@example.com', role: 'conformance' },
      name,
      params: this.options.params ?? {},
      scope: this.options.scope ?? {},
      issued_at: at(now),
      expires_at: at(now + LIFE_MS),
      until: at(now + MINT_MS),
      idempotency: id,
      ...change,
    }
  }

  /** A whole request, of a name that nobody has heard of. */
  bodyOf(operation: Operation): { readonly name: string; readonly body: Readonly<Record<string, unknown>> } {
    const mint = this.mintBody()
    const { name, expires_at } = mint
    const until = at(Date.now() + REMEMBER_MS)
    const bodies = { describe: {}, mint, revoke: { name, until }, renew: { name, expires_at, until }, verify: { name } }
    return { name, body: bodies[operation] }
  }

  async mint(body: RequestOf<'mint'> = this.mintBody()): Promise<AnswerOf<'mint'> & { name: string }> {
    return { ...(await this.ask('mint', body)), name: body.name }
  }
  async revoke(name: string): Promise<'revoked' | 'absent'> {
    const { outcome } = await this.ask('revoke', { name, until: at(Date.now() + REMEMBER_MS) })
    return outcome
  }
  async verify(name: string): Promise<'alive' | 'dead'> {
    return (await this.ask('verify', { name })).state
  }

  /** As Mayfly asks, answered as the contract says; else Unmet. */
  async ask<O extends Operation>(operation: O, body: RequestOf<O>): Promise<AnswerOf<O>> {
    return answered(operation, await this.send(operation, body))
  }
  async send(operation: Operation, body: unknown, twist?: Twist): Promise<Answer> {
    const name = nameIn(body)
    if (name === undefined) return this.service.send(operation, body, twist)
    const answer = await this.service.send(operation, body, twist).catch((error: unknown) => {
      // What nobody answered may have been made.
      if (operation === 'mint') this.#made.add(name)
      throw error
    })
    const isRefused = answer.status >= 400 && answer.status < 500
    if (operation === 'mint' && !isRefused) this.#made.add(name)
    if (operation === 'revoke' && answer.status === 200) this.#made.delete(name)
    return answer
  }

  /** Where it can be told: a refused mint made nothing. What else a revoke does wrong is found by its own cases. */
  async nothingOf(name: string, what: string): Promise<void> {
    if (!this.absenceTells) return
    const { status, json } = await this.send('revoke', { name, until: at(Date.now() + REMEMBER_MS) })
    if (status === 200 && OPERATIONS.revoke.answer.safeParse(json).data?.outcome === 'revoked')
      throw new Unmet(`${what} was refused, and was made all the same: a revoke found it`)
  }

  /** Dead, at the latest once what a revoke may leave has passed. */
  async dead(name: string, what: string): Promise<void> {
    const waitMs = (this.description.residual_seconds + 1) * 1000
    if (!(await within(waitMs, this.signal, async () => (await this.verify(name)) === 'dead')))
      throw new Unmet(`${what}, and verify still answers "alive"`)
  }

  /** Takes back what is left. @returns names that could not be */
  async clean(service: Service): Promise<string[]> {
    const left: string[] = []
    for (const name of this.revocable ? this.#made : []) {
      const answer = await service.send('revoke', { name, until: at(Date.now() + REMEMBER_MS) }).catch(() => undefined)
      if (answer?.status !== 200) left.push(name)
    }
    return left
  }
}

/** The answer in the form of the contract. */
export function answered<O extends Operation>(operation: O, answer: Answer): AnswerOf<O> {
  if (answer.status !== 200) throw new Unmet(`${operation} was answered ${told(answer)} where 200 was due`)
  if (answer.type !== JSON_TYPE) throw new Unmet(`${operation} was answered with another content type than ${JSON_TYPE}`)
  const parsed = OPERATIONS[operation].answer.safeParse(answer.json)
  if (parsed.success) return parsed.data as AnswerOf<O>
  const wrong = parsed.error.issues.map(({ path, code }) =>
    code === 'unrecognized_keys' ? 'a field too many' : path.slice(0, 2).join('.') || 'not an object',
  )
  throw new Unmet(`${operation} was answered in another form than ${operation}.answer.schema.json: ${[...new Set(wrong)].join(', ')}`)
}

/** Refused in words: RFC 9457, and with one of the statuses that are due. */
export function refusedWith(what: string, answer: Answer, statuses: readonly number[] = []): void {
  if (answer.status < 400 || answer.status >= 500) throw new Unmet(`${what} was answered ${told(answer)} where a refusal (4xx) was due`)
  if (statuses.length > 0 && !statuses.includes(answer.status))
    throw new Unmet(`${what} was answered ${told(answer)} where ${statuses.join(' or ')} was due`)
}

/** `409 refused`, and never more. */
export function told({ status, type, kind }: Answer): string {
  return kind === undefined ? `${status}${type === PROBLEM_TYPE ? ' without a known kind' : ''}` : `${status} ${kind}`
}

/** Looks until it is so. */
export async function within(ms: number, signal: AbortSignal, look: () => Promise<boolean>): Promise<boolean> {
  const { setTimeout: pause } = await import('node:timers/promises')
  const end = performance.now() + ms
  for (;;) {
    if (await look()) return true
    if (performance.now() > end) return false
    await pause(PAUSE_MS, undefined, { signal })
  }
}

function nameIn(body: unknown): string | undefined {
  return typeof body === 'object' && body !== null && 'name' in body && typeof body.name === 'string' ? body.name : undefined
}

export function at(ms: number): string {
  return new Date(Math.floor(ms)).toISOString()
}

const PAUSE_MS = 100
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567'
