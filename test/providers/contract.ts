import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type Minted, type Provider, ProviderError } from '../../src/providers/provider.js'
import type { Handle } from '../../src/types.js'
import { closedPort, startPausingProxy, startStallingServer } from '../support/faulty-upstream.js'
import { startHoldingProxy } from '../support/holding-proxy.js'
import { waitFor } from '../support/wait.js'
import { factsOf, pageOf, reasonLine, rowOf, shownRows, tell } from './facts.js'
import { type Harness, HOSTILE_TEXTS, newLeaseId, type Opened, open, requestOf, SHORT_MS, TIMEOUT_MS, TTL_MS } from './harness.js'

type Can = Pick<Provider, 'inProcess' | 'revocation' | 'handle' | 'cutsSessions' | 'renew' | 'verify' | 'list'>
interface Case {
  /** Whether a provider that can this must pass it: then no reason excuses it. */
  readonly due: (can: Can, harness: Harness) => boolean
  run(given: Given): Promise<void>
}
interface Given {
  readonly harness: Harness
  readonly opened: Opened
  /** Done when the case has ended, however it ended. */
  later(close: () => Promise<unknown>): void
}
const always = (): boolean => true
const upstream = (can: Can): boolean => !can.inProcess
const revocable = (can: Can): boolean => !can.inProcess && can.revocation !== 'at-expiry'
/** Revocable by a name that was known before the mint. */
const planned = (can: Can): boolean => revocable(can) && can.handle === 'planned'
/** There is something to reach: a mint that is signed by the broker itself has no upstream that could be slow. */
const remote = (can: Can, harness: Harness): boolean => upstream(can) && harness.address !== undefined

const CASES = {
  'a minted credential works': {
    due: always,
    async run({ harness, opened }) {
      const { credential } = await opened.mint()
      expect(await harness.works(credential)).toBe(true)
      expect(Object.values(credential.env).every((value) => typeof value === 'string')).toBe(true)
    },
  },
  'after revoke it does not work, and nothing is left': {
    due: revocable,
    async run({ harness, opened }) {
      const { credential, handle } = await opened.mint()
      expect(await harness.works(credential)).toBe(true)
      expect(await opened.provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      await harness.afterResidual?.()
      expect(await harness.works(credential)).toBe(false)
      await expectNothingOf(harness, handle)
    },
  },
  'after its expiry it does not work': {
    due: (can) => can.revocation === 'at-expiry',
    async run({ harness, opened }) {
      const { credential, request, usableUntil = request.expiresAt } = await opened.mint()
      expect(await harness.works(credential, usableUntil - 2000)).toBe(true)
      expect(await harness.works(credential, usableUntil + 1000)).toBe(false)
    },
  },
  'what cannot be taken back is not called revoked': {
    due: (can) => can.revocation === 'at-expiry',
    async run({ opened }) {
      const { handle } = await opened.mint()
      await expect(opened.provider.revoke(handle, TIMEOUT_MS)).rejects.toBeInstanceOf(ProviderError)
    },
  },
  'a session opened before the revoke is cut': {
    due: (can) => can.cutsSessions,
    async run({ harness, opened }) {
      const { credential, handle } = await opened.mint()
      const sessions = await Promise.all([0, 1, 2].map(() => harness.openSession?.(credential)))
      for (const session of sessions) expect(await session?.usable()).toBe(true)
      await opened.provider.revoke(handle, TIMEOUT_MS)
      await harness.afterResidual?.()
      for (const session of sessions) expect(await session?.usable()).toBe(false)
      await Promise.all(sessions.map((session) => session?.close()))
    },
  },
  'revoking twice is success': {
    due: (can) => can.revocation !== 'at-expiry',
    async run({ opened }) {
      const { handle } = await opened.mint()
      await opened.provider.revoke(handle, TIMEOUT_MS)
      const again = await opened.provider.revoke(handle, TIMEOUT_MS)
      // A deny-list holds what it was told: there is nothing whose absence could be seen.
      if (opened.provider.revocation === 'immediate') expect(again).toBe(opened.provider.inProcess ? 'revoked' : 'absent')
      else expect(['revoked', 'absent']).toContain(again)
    },
  },
  'revoking at once from four sides is success on each': {
    due: (can) => can.revocation !== 'at-expiry',
    async run({ harness, opened }) {
      const { handle, credential } = await opened.mint()
      const outcomes = await Promise.all([1, 2, 3, 4].map(() => opened.provider.revoke(handle, TIMEOUT_MS)))
      expect(outcomes).toContain('revoked')
      if (opened.provider.inProcess) return
      await harness.afterResidual?.()
      expect(await harness.works(credential)).toBe(false)
      await expectNothingOf(harness, handle)
    },
  },
  'revoking before the mint is success': {
    due: planned,
    async run({ opened, harness }) {
      const handle = opened.provider.plan(opened.plan(), harness.module.params.parse(harness.params))
      const answer = await opened.provider.revoke(handle, TIMEOUT_MS)
      if (opened.provider.revocation === 'immediate') expect(answer).toBe('absent')
      else expect(['revoked', 'absent']).toContain(answer)
    },
  },
  'a handle that only the mint knows is not guessed, and its blind window is told': {
    due: (can) => can.handle === 'returned',
    async run({ opened, harness }) {
      const { provider } = opened
      const handle = provider.plan(opened.plan(), harness.module.params.parse(harness.params))
      expect(handle).toEqual({})
      await expect(provider.revoke(handle, TIMEOUT_MS)).rejects.toMatchObject({ name: 'ProviderError', kind: 'invalid' })
      expect(provider.blindWindowSeconds).toBeGreaterThan(0)
      expect(provider.expiryEndsUse).toBe(true)
    },
  },
  'revoking during the mint, and once more after its end, leaves nothing': {
    due: planned,
    async run({ harness, opened }) {
      for (let round = 0; round < 10; round++) {
        const request = requestOf(opened.provider, opened.plan(), harness.module.params.parse(harness.params), TIMEOUT_MS)
        const mint = opened.provider.mint(request).catch((error: unknown) => error)
        const [minted] = await Promise.all([mint, opened.provider.revoke(request.handle, TIMEOUT_MS)])
        await opened.provider.revoke(request.handle, TIMEOUT_MS)
        await expectNothingOf(harness, request.handle)
        if (minted instanceof Error) continue
        await harness.afterResidual?.()
        expect(await harness.works((minted as Minted).credential)).toBe(false)
      }
    },
  },
  'a mint that lost its answer leaves nothing after revoke': {
    due: (can, harness) => planned(can) && remote(can, harness),
    async run({ harness, opened, later }) {
      const proxy = await startHoldingProxy(addressOf(harness))
      later(proxy.close)
      const behind = await open(harness, { port: proxy.port })
      later(() => behind.provider.close())
      await behind.provider.revoke((await behind.mint()).handle, TIMEOUT_MS)
      proxy.holdAfter(signOf(harness))
      const request = requestOf(behind.provider, behind.plan(), harness.module.params.parse(harness.params), HELD_MS)
      const mint = behind.provider.mint(request)
      const failed = expect(mint).rejects.toMatchObject({ name: 'ProviderError', kind: 'timeout' })
      await proxy.held()
      await failed
      await opened.provider.revoke(request.handle, TIMEOUT_MS)
      await expectNothingOf(harness, request.handle)
    },
  },
  'a mint asked for with its end in the past makes nothing': {
    due: upstream,
    async run({ harness, opened }) {
      const request = requestOf(opened.provider, opened.plan(), harness.module.params.parse(harness.params), -1000)
      await expect(opened.provider.mint(request)).rejects.toMatchObject({ name: 'ProviderError', kind: 'timeout' })
      await expectNothingOf(harness, request.handle)
    },
  },
  'a mint that arrives after its end makes nothing': {
    due: (can, harness) => planned(can) && remote(can, harness),
    async run({ harness, later }) {
      const proxy = await startPausingProxy(addressOf(harness))
      later(proxy.close)
      const behind = await open(harness, { port: proxy.port })
      later(() => behind.provider.close())
      await behind.provider.revoke((await behind.mint()).handle, TIMEOUT_MS)
      proxy.pauseAt(signOf(harness))
      const request = requestOf(behind.provider, behind.plan(), harness.module.params.parse(harness.params), HELD_MS)
      const failed = expect(behind.provider.mint(request)).rejects.toMatchObject({ name: 'ProviderError', kind: 'timeout' })
      await proxy.paused()
      await failed
      expect(Date.now()).toBeGreaterThanOrEqual(request.until)
      // The upstream's own clock may be read in whole milliseconds, and a turn before.
      await waitFor('its end to have passed', () => Date.now() > request.until + 20)
      await proxy.resume()
      await expectNothingOf(harness, request.handle)
    },
  },
  "the upstream's own expiry is set": {
    due: (can) => can.revocation === 'at-expiry',
    async run({ harness, opened }) {
      const { credential, handle, request, usableUntil = request.expiresAt } = await opened.mint()
      const expiry = await harness.expiry?.(credential, handle)
      expect(expiry).toBeGreaterThan(usableUntil - 1001)
      expect(expiry).toBeLessThanOrEqual(usableUntil)
    },
  },
  'a scope narrows': {
    due: always,
    async run({ harness, opened }) {
      const { narrowing } = harness
      if (narrowing === undefined) throw new Error('the harness has no narrowing scope')
      const { credential } = await opened.mint({ scope: narrowing.scope })
      expect(await narrowing.allows(credential)).toBe(true)
      expect(await narrowing.denies(credential)).toBe(true)
    },
  },
  'a scope cannot widen': {
    due: always,
    async run({ harness, opened }) {
      expect(harness.widening.length).toBeGreaterThan(0)
      for (const scope of harness.widening) {
        const before = await harness.made()
        await expect(opened.mint({ scope })).rejects.toMatchObject({ name: 'ProviderError', kind: 'invalid' })
        expect(await harness.made()).toEqual(before)
      }
    },
  },
  'hostile parameters are refused': {
    due: always,
    async run({ harness, opened }) {
      const { module } = harness
      const options = module.options.parse(harness.options)
      expect(harness.hostileParams.length).toBeGreaterThan(0)
      for (const params of harness.hostileParams) {
        const parsed = module.params.safeParse(params)
        const problems = parsed.success ? module.checkRole(parsed.data, {}, options) : parsed.error.issues
        expect({ params, refused: problems.length > 0 }).toEqual({ params, refused: true })
      }
      for (const params of harness.refusedParams ?? []) {
        const before = await harness.made()
        await expect(opened.mint({ params })).rejects.toBeInstanceOf(ProviderError)
        expect(await harness.made()).toEqual(before)
      }
    },
  },
  'hostile names are inert': {
    due: always,
    async run({ harness, opened }) {
      for (const text of HOSTILE_TEXTS) {
        const { credential, handle } = await opened.mint({ lease: opened.plan({ agent: text, owner: text, human: text, role: text }) })
        expect(await harness.works(credential)).toBe(true)
        if (opened.provider.list) expect(await listed(opened.provider)).toContainEqual(expect.objectContaining({ handle }))
        if (revocable(opened.provider)) await opened.provider.revoke(handle, TIMEOUT_MS)
      }
    },
  },
  'a lease id of another form makes no name': {
    due: upstream,
    async run({ harness, opened }) {
      const params = harness.module.params.parse(harness.params)
      for (const id of [...HOSTILE_TEXTS, '', 'lease_', `lease_17${'A'.repeat(26)}`, `${newLeaseId()}-x`, `${newLeaseId()}\n`])
        expect(() => opened.provider.plan(opened.plan({ id }), params)).toThrow(ProviderError)
    },
  },
  'list finds exactly what this instance made': {
    due: (can) => can.list !== undefined,
    async run({ harness, opened, later }) {
      // Its names begin as this one's do.
      const other = await open(harness, { instance: 'contract-2' })
      later(() => other.provider.close())
      const mine = await Promise.all([1, 2, 3].map(() => opened.mint()))
      const theirs = await other.mint()
      const found = await listed(opened.provider)
      for (const { handle, request } of mine) expect(found).toContainEqual(expect.objectContaining({ lease: request.lease.id, handle }))
      expect(found.map(({ lease }) => lease)).not.toContain(theirs.request.lease.id)
      // What was lost is known by its listing alone: that is enough to take it back.
      for (const { handle } of found) expect(await opened.provider.revoke(handle, TIMEOUT_MS)).toBe('revoked')
      await harness.afterResidual?.()
      for (const { credential, handle } of mine) {
        expect(await harness.works(credential)).toBe(false)
        await expectNothingOf(harness, handle)
      }
      expect(await listed(opened.provider)).toEqual([])
      expect(await harness.works(theirs.credential)).toBe(true)
      await other.provider.revoke(theirs.handle, TIMEOUT_MS)
    },
  },
  'verify tells dead from alive': {
    due: (can) => can.verify !== undefined,
    async run({ opened }) {
      const { handle } = await opened.mint()
      expect(await opened.provider.verify?.(handle, TIMEOUT_MS)).toBe('alive')
      await opened.provider.revoke(handle, TIMEOUT_MS)
      expect(await opened.provider.verify?.(handle, TIMEOUT_MS)).toBe('dead')
    },
  },
  'renew extends it, and revives nothing': {
    due: (can) => can.renew !== undefined,
    async run({ harness, opened }) {
      const { handle, credential, request } = await opened.mint()
      await opened.provider.renew?.(handle, request.expiresAt + TTL_MS, TIMEOUT_MS)
      expect(await harness.expiry?.(credential, handle)).toBe(request.expiresAt + TTL_MS)
      await opened.provider.revoke(handle, TIMEOUT_MS)
      await harness.afterResidual?.()
      await expect(opened.provider.renew?.(handle, request.expiresAt + TTL_MS, TIMEOUT_MS)).rejects.toBeInstanceOf(ProviderError)
      expect(await harness.works(credential)).toBe(false)
    },
  },
  'an unreachable upstream is an error inside the deadline': {
    due: remote,
    run: (given) => closedPort().then((port) => expectTrouble(given, port, ['unreachable', 'timeout'])),
  },
  'an upstream that takes the connection and says nothing is a timeout inside the deadline': {
    due: remote,
    run: (given) => atStalling(given, undefined, ['timeout']),
  },
  'half an answer is an error inside the deadline': {
    due: remote,
    run: (given) => atStalling(given, given.harness.halfAnswer, ['timeout', 'unreachable', 'broken']),
  },
  'a throttling upstream is told apart': {
    due: remote,
    // It is answered at once: the time is there for a busy machine.
    run: (given) => atStalling(given, given.harness.busyAnswer, ['throttled'], BUSY_MS),
  },
  'the secret is in no handle, listing, error or log': {
    due: always,
    async run({ harness, opened }) {
      const { credential, handle, request } = await opened.mint()
      const again = await opened.provider.mint(request).catch((error: unknown) => error)
      // A sensitive handle is stored encrypted, and shown to nobody.
      const kept = opened.provider.sensitiveHandle ? {} : handle
      const told = [kept, again instanceof Error ? again : 'minted again', opened.provider.list ? await listed(opened.provider) : []]
      const text = `${inspect(told, { depth: Number.POSITIVE_INFINITY, showHidden: true, maxStringLength: null })}\n${harness.log?.() ?? ''}`
      const secrets = harness.secretsOf(credential)
      expect(secrets.length).toBeGreaterThan(0)
      for (const secret of secrets)
        for (const form of [secret, ...['base64', 'base64url', 'hex'].map((to) => Buffer.from(secret).toString(to as BufferEncoding))])
          expect(text.includes(form)).toBe(false)
    },
  },
} as const satisfies Record<string, Case>
export type CaseName = keyof typeof CASES

/** Holds one provider to its contract. A case that does not apply needs its reason, and is counted; one that is due has no excuse. */
export function contract(name: string, start: () => Promise<Harness>, notApplicable: Partial<Record<CaseName, string>> = {}): void {
  describe(`${name} keeps the provider contract`, () => {
    let harness: Harness
    let opened: Opened
    let ran = 0
    beforeAll(async () => {
      harness = await start()
      opened = await open(harness)
    })
    const not_applicable = Object.keys(notApplicable).length
    const cases = Object.keys(CASES).length - not_applicable
    afterAll(async () => {
      const facts = opened && factsOf(name, opened.provider, harness, { cases, not_applicable })
      if (facts) await tell(process.env.MAYFLY_CONTRACT_FACTS, name, { ...facts, passed: ran, failed: cases - ran, reasons: notApplicable })
      await opened?.provider.close()
      await harness?.stop()
    })

    it('can tell about itself', async () => {
      await opened.provider.check([{ name: 'a-role', params: harness.module.params.parse(harness.params) }])
      const { provider } = opened
      expect(provider.type).toBe(harness.module.type)
      expect(provider.residualSeconds).toBeGreaterThanOrEqual(0)
      expect(provider.handle === 'returned').toBe(provider.blindWindowSeconds !== undefined)
      expect(harness.module.target(harness.module.options.parse(harness.options))).not.toContain(harness.brokerSecret ?? '\0')
    })

    // `npm run providers -- --write` brings both up to date.
    it('is told of in the README and on its page as it is', async () => {
      expect(await shownRows()).toContain(rowOf(factsOf(name, opened.provider, harness, { cases, not_applicable })))
      const page = await pageOf(opened.provider.type)
      for (const [title, reason] of Object.entries(notApplicable)) expect(page).toContain(reasonLine(title, reason))
    })

    for (const [title, { due, run }] of Object.entries<Case>(CASES)) {
      const reason = notApplicable[title as CaseName]
      if (reason === undefined)
        it(title, async () => {
          const closing: (() => Promise<unknown>)[] = []
          try {
            await run({ harness, opened, later: (close) => closing.unshift(close) })
            ran++
          } finally {
            for (const close of closing) await close()
          }
        })
      else
        it(`${title} (does not apply: ${reason})`, () => {
          expect(reason.length).toBeGreaterThan(20)
          expect(due(opened.provider, harness)).toBe(false)
        })
    }
  })
}

async function listed(provider: Provider): Promise<{ lease: string; handle: Handle }[]> {
  const found: { lease: string; handle: Handle }[] = []
  for await (const one of provider.list?.() ?? []) found.push({ lease: one.lease, handle: one.handle })
  return found
}

async function expectNothingOf(harness: Harness, handle: Handle): Promise<void> {
  const made = await harness.made()
  for (const name of Object.values(handle)) expect(made).not.toContain(name)
}

async function atStalling(given: Given, answer: string | Buffer | undefined, kinds: ProviderError['kind'][], withinMs = SHORT_MS): Promise<void> {
  const server = await startStallingServer(answer, given.harness.speaksFirst)
  given.later(server.close)
  await expectTrouble(given, server.port, kinds, withinMs)
  expect(server.connections()).toBeGreaterThan(0)
}

/** Each call to this upstream ends inside its deadline, with a typed error that holds no secret. */
async function expectTrouble({ harness, later }: Given, port: number, kinds: ProviderError['kind'][], withinMs = SHORT_MS): Promise<void> {
  const { provider, plan } = await open(harness, { port, timeoutMs: withinMs })
  later(() => provider.close())
  const request = requestOf(provider, plan(), harness.module.params.parse(harness.params), withinMs)
  const calls: (() => Promise<unknown>)[] = [() => provider.mint(request), () => provider.check()]
  const handle = provider.handle === 'planned' ? request.handle : harness.someHandle
  if (revocable(provider) && handle) calls.push(() => provider.revoke(handle, withinMs))
  if (provider.verify && handle) calls.push(() => provider.verify?.(handle, withinMs) ?? Promise.resolve())
  if (provider.renew && handle) calls.push(() => provider.renew?.(handle, request.expiresAt, withinMs) ?? Promise.resolve())
  for (const call of calls) {
    const started = performance.now()
    const error = await call().then(
      () => 'it succeeded',
      (thrown: unknown) => thrown,
    )
    expect(performance.now() - started).toBeLessThan(withinMs + GRACE_MS)
    expect(error).toBeInstanceOf(ProviderError)
    expect(kinds).toContain(error instanceof ProviderError ? error.kind : error)
    expect(inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true })).not.toContain(harness.brokerSecret ?? '\0')
  }
}

/** Long enough to get as far as the upstream on a busy machine; then the answer, or the request, is kept back. */
const HELD_MS = 1000
/** For an upstream that answers at once. */
const BUSY_MS = 2000
/** A busy machine's own delays. */
const GRACE_MS = 1000

function addressOf(harness: Harness): { host: string; port: number } {
  if (harness.address === undefined) throw new Error('the harness has no address')
  return harness.address
}

function signOf(harness: Harness): string {
  if (harness.mintSign === undefined) throw new Error('the harness does not say what a mint looks like')
  return harness.mintSign
}
