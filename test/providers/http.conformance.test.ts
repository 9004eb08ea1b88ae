import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import pLimit from 'p-limit'
import { type ServedKeys, serveEphemeralKeys } from '../../src/conformance/keys.js'
import { CASES, type CaseResult, conformance, type Verdict } from '../../src/conformance/run.js'
import { DEFECTS } from './http-defects.js'
import { AUDIENCE, type SampleOptions, startSampleService } from './http-service.js'

let keys: ServedKeys
beforeAll(async () => {
  keys = await serveEphemeralKeys(0)
})
afterAll(() => keys.close())

async function tried(changes: SampleOptions['changes'] = []): Promise<Verdict> {
  const service = await startSampleService({ ...keys, changes, partnerDelayMs: 15 })
  const signal = new AbortController().signal
  const common = { audience: AUDIENCE, signing: keys, params: { regions: ['eu', 'us'] }, timeoutMs: 10_000, shortLifeMs: 700, signal }
  return conformance({ ...common, url: service.url }).finally(() => service.stop())
}
const named = (verdict: Verdict, outcome: CaseResult['outcome']) => verdict.cases.filter((one) => one.outcome === outcome).map(({ name }) => name)

describe('the sample service', () => {
  it('passes every case, and has nothing left', async () => {
    const verdict = await tried()
    expect(verdict.cases.filter(({ outcome }) => outcome !== 'passed')).toEqual([])
    expect(verdict).toMatchObject({ ok: true, left: [] })
    expect(verdict.cases).toHaveLength(CASES.length + 1)
  })
})

describe('a service that can less, and says so,', () => {
  it('passes what applies to it, and is told why the rest does not', async () => {
    const verdict = await tried([
      ["  revocation: 'immediate',", "  revocation: 'at-expiry',"],
      ['  renewable: true,\n  verifiable: true,', '  renewable: false,\n  verifiable: false,'],
    ])
    const rest = verdict.cases.filter(({ outcome }) => outcome !== 'passed')
    expect(rest.filter(({ outcome }) => outcome !== 'not-applicable')).toEqual([])
    expect(rest.map(({ detail = '' }) => detail.length > 10)).not.toContain(false)
    expect(rest.map(({ name }) => name)).toContain('revoking twice is success')
    expect(verdict).toMatchObject({ ok: true, left: [] })
  })
})

describe('a service whose revoke stops working', () => {
  it('is told which credentials are left there', async () => {
    const { ok, left } = await tried([['remember(revokedNames, name, Date.parse(until))', "if (mintedNames.has(name)) throw new Error('down')"]])
    expect({ ok, first: left[0] }).toEqual({ ok: false, first: expect.stringMatching(/^mf-conformance-17[a-z2-7]{26}$/) })
  })
})

describe('a service with one defect', () => {
  const AT_ONCE = 4
  const verdicts = new Map<string, Promise<Verdict>>()
  beforeAll(() => {
    const limit = pLimit(AT_ONCE)
    for (const { what, changes } of DEFECTS) verdicts.set(what, limit(tried, changes))
    for (const verdict of verdicts.values()) verdict.catch(() => undefined)
  })

  it.each(DEFECTS)(
    'which $what, is found by the case for it alone: $foundBy',
    async ({ what, foundBy }) => {
      const verdict = await verdicts.get(what)
      expect(verdict?.ok).toBe(false)
      expect(verdict && named(verdict, 'failed')).toEqual([foundBy])
      // In words that say what was seen, and nothing that was answered.
      expect(verdict?.cases.find(({ name }) => name === foundBy)?.detail).toMatch(/ .* /)
      expect(JSON.stringify(verdict)).not.toMatch(/eyJ|one-key-for-everybody/)
    },
    120_000,
  )

  it('is there for each case', () => {
    const found = new Set(DEFECTS.map(({ foundBy }) => foundBy))
    expect(CASES.map(({ name }) => name).filter((name) => !found.has(name))).toEqual([])
  })
})
