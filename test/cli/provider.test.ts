import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { serveEphemeralKeys } from '../../src/conformance/keys.js'
import { AUDIENCE, type SampleService, startSampleService } from '../providers/http-service.js'
import { closedPort } from '../support/faulty-upstream.js'
import { mayfly } from './mayfly.js'

const PARAMS = ['--params', '{"regions": ["eu", "us"]}']
let folder: string
let keysPort: number
let service: SampleService
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mayfly-provider-'))
  keysPort = await closedPort()
  const issuer = `http://127.0.0.1:${keysPort}`
  service = await startSampleService({ issuer, jwksUrl: `${issuer}/.well-known/jwks.json` })
})
afterAll(async () => {
  await service.stop()
  rmSync(folder, { recursive: true, force: true })
})
const test = (...args: string[]) => mayfly(['provider', 'test', '--audience', AUDIENCE, ...args])

describe('mayfly provider test', () => {
  it('says which key to trust, what each case came to, and what to write into the configuration', async () => {
    const { code, out, err } = await test('--url', service.url, '--port', String(keysPort), ...PARAMS)
    expect({ code, failed: out.match(/^(FAIL|-) .*/gm) }).toEqual({ code: 0, failed: null })
    expect(err).toContain(`key set   http://127.0.0.1:${keysPort}/.well-known/jwks.json`)
    expect(out).toMatch(/^ok {4}revoking twice is success$/m)
    expect(out).toMatch(/^\d+ passed, 0 failed, 0 do not apply, 0 not judged$/m)
    expect(out).toContain(`    url: ${service.url}\n    audience: ${AUDIENCE}\n    credential_type: partner-key\n`)
  })

  it('says in JSON, and by exit code 1, what failed', async () => {
    const { code, out } = await test('--url', service.url, '--port', String(keysPort), '--json')
    const verdict = JSON.parse(out)
    expect({ code, ok: verdict.ok }).toEqual({ code: 1, ok: false })
    const failed = verdict.cases.filter((one: { outcome: string }) => one.outcome === 'failed')
    expect(failed).toEqual([
      { name: 'a mint is answered with a credential', outcome: 'failed', detail: expect.stringContaining('422 invalid: give the suite') },
    ])
  })

  it('signs with the keys that the service trusts already', async () => {
    const keys = await serveEphemeralKeys(0)
    const trusting = await startSampleService(keys)
    try {
      const file = join(folder, 'keys.json')
      writeFileSync(file, JSON.stringify(keys.keys))
      const ended = await test('--url', trusting.url, '--signing-keys', `file:${file}`, '--issuer', keys.issuer, ...PARAMS)
      expect(ended).toMatchObject({ code: 0, err: '' })
    } finally {
      await trusting.stop()
      await keys.close()
    }
  })

  it('gives up on a service that takes no signature of it, and says what to look at', async () => {
    const { code, out } = await test('--url', service.url, '--port', '0', '--wait', '1', ...PARAMS)
    expect(code).toBe(1)
    expect(out).toMatch(/^FAIL .*\n.*answered 401.* Check the issuer, the key set, the audience and the clock$/m)
    expect(out.match(/^(FAIL|-) /gm)).toHaveLength(1)
  })

  it('says by exit code 5 that nobody is there', async () => {
    const { code, out } = await test('--url', `http://127.0.0.1:${await closedPort()}`, '--port', '0', '--wait', '0')
    expect({ code, reached: /could not be reached.*ECONNREFUSED/.test(out) }).toEqual({ code: 5, reached: true })
  })

  it.each([
    ['no service', []],
    ['parameters that are no object', ['--url', 'http://127.0.0.1:1', '--params', '[]']],
    ['keys without an issuer', ['--url', 'http://127.0.0.1:1', '--signing-keys', 'file:keys.json']],
    ['keys on the command line', ['--url', 'http://127.0.0.1:1', '--signing-keys', '{"keys": []}', '--issuer', 'https://mayfly.example']],
    ['keys that are not there', ['--url', 'http://127.0.0.1:1', '--signing-keys', 'env:NO_SUCH_KEYS', '--issuer', 'https://mayfly.example']],
  ])('is not begun with %s', async (_what, args) => {
    expect(await test(...args)).toMatchObject({ code: 2, out: '' })
  })
})
