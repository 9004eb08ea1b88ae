import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { openPolicy, runCases, type SyncPolicy } from '../../src/policy/index.js'
import { development, obtain, shipped } from './fixtures.js'

let policy: SyncPolicy
beforeAll(async () => {
  policy = await openPolicy(shipped)
})
afterAll(() => policy.close())

describe('the shipped policies', () => {
  it('answer every case as its folder says', async () => {
    const results = await runCases(policy, import.meta.dirname)
    expect(results.filter(({ passed }) => !passed)).toEqual([])
    expect(new Set(results.map(({ file }) => file.split('/')[0]))).toEqual(new Set(['allow', 'deny', 'step-up']))
  })

  it('have a case in which each of them decides', async () => {
    const results = await runCases(policy, import.meta.dirname)
    const deciding = new Set(results.flatMap(({ decision }) => decision?.policies ?? []))
    const ids = shipped.files.flatMap(({ text }) => [...text.matchAll(/^@id\("(.+)"\)$/gm)].map(([, id]) => id))
    expect(ids.length).toBeGreaterThan(15)
    // It decides only once a human has consented; till then it shows in the limits of the step-up.
    expect(ids.filter((id) => id === undefined || !deciding.has(id))).toEqual(['escalate'])
  })

  it('for development let the team dev have what its envelope names, and nobody else', async () => {
    const dev = await openPolicy(development)
    expect(dev.decide(obtain({ agent: { team: 'dev' } }))).toMatchObject({ outcome: 'allow', policies: ['dev-obtain'], maxTtlSeconds: 900 })
    expect(dev.decide(obtain({ agent: { team: 'analytics' } }))).toMatchObject({ outcome: 'deny' })
    dev.close()
  })
})

describe('cases', () => {
  const folder = mkdtempSync(join(tmpdir(), 'cases-'))
  afterAll(() => rmSync(folder, { recursive: true }))
  const write = (file: string, text: string) => {
    mkdirSync(join(folder, file, '..'), { recursive: true })
    writeFileSync(join(folder, file), text)
  }

  it('fail where the outcome, the obligations or the form is another', async () => {
    const read = { about: 'a read', action: 'read', agent: { team: 'analytics', autonomy: 'supervised' }, role: { name: 'r', sensitivity: 'public' } }
    const task = { intent: 'deploy', classified: true }
    write('deny/allowed.json', JSON.stringify({ ...read, task }))
    write('allow/limit.json', JSON.stringify({ ...read, task, expect: { max_ttl: 60 } }))
    write('allow/typo.json', JSON.stringify({ ...read, task, expct: {} }))
    write('allow/broken.json', '{')
    write('allow/good.json', JSON.stringify({ ...read, task }))
    const results = new Map((await runCases(policy, folder)).map((result) => [result.file, result]))
    expect(results.get('deny/allowed.json')?.problem).toContain('outcome: expected "deny", got "allow"')
    expect(results.get('allow/limit.json')?.problem).toContain('max_ttl: expected 60, got 1800')
    expect(results.get('allow/typo.json')).toMatchObject({ passed: false })
    expect(results.get('allow/broken.json')).toMatchObject({ passed: false })
    expect(results.get('allow/good.json')).toMatchObject({ passed: true })
  })
})
