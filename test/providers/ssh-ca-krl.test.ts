import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { encodeKrl } from '../../src/providers/ssh-ca/krl.js'
import { sshCa } from '../../src/providers/ssh-ca.js'
import { openAuthority } from './ca-opened.js'
import { newKeys } from './sshd.js'

const execute = promisify(execFile)
const CERTIFICATES = 24

let folder: string
/** Files of certificates, half of them by another authority, by their key ids. */
const files = new Map<string, string>()
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mayfly-krl-'))
  const keys = await newKeys([], ['-t', 'ecdsa'])
  const params = { principals: ['deploy'] }
  const authorities = await Promise.all(keys.map((key) => openAuthority(sshCa, { keys: key }, undefined, params)))
  for (let n = 0; n < CERTIFICATES; n++) {
    const { credential, handle } = (await authorities[n % 2]?.mint()) ?? {}
    const file = join(folder, `${n}-cert.pub`)
    await writeFile(file, `${credential?.fields.certificate}\n`)
    files.set(String(handle?.key_id), file)
  }
})
afterAll(() => rm(folder, { recursive: true, force: true }))

/** The key ids that `ssh-keygen` says are revoked by this list. It fails when any is. */
async function revokedBy(krl: Buffer): Promise<string[]> {
  const file = join(folder, 'krl')
  await writeFile(file, krl)
  const { stdout } = await execute('ssh-keygen', ['-Q', '-f', file, ...files.values()]).catch((error: { stdout: string; stderr: string }) => error)
  const lines = stdout.trim().split('\n')
  expect(lines).toHaveLength(files.size)
  return [...files].filter(([, path]) => lines.find((line) => line.startsWith(path))?.endsWith('REVOKED')).map(([keyId]) => keyId)
}
async function listed(krl: Buffer): Promise<string> {
  const file = join(folder, 'listed')
  await writeFile(file, krl)
  return (await execute('ssh-keygen', ['-Q', '-l', '-f', file])).stdout
}

describe('a key revocation list', () => {
  it('revokes exactly its entries, of every authority, as ssh-keygen reads it', async () => {
    const strangers = fc.array(fc.stringMatching(/^mf-[a-z0-9-]{1,20}-17[a-z2-7]{26}$/), { maxLength: 40 })
    const some = fc.subarray([...files.keys()])
    await fc.assert(
      fc.asyncProperty(some, strangers, fc.nat({ max: 2 ** 48 }), async (mine, others, version) => {
        const keyIds = [...new Set([...others, ...mine])]
        expect(await revokedBy(encodeKrl({ version, keyIds }))).toEqual([...files.keys()].filter((one) => mine.includes(one)))
      }),
      { numRuns: 40 },
    )
  })

  it('says its version, and has neither comment nor entries when there is nothing', async () => {
    const told = await listed(encodeKrl({ version: 1_790_000_000_123, keyIds: [] }))
    expect(told).toContain('# KRL version 1790000000123\n')
    expect(told).not.toMatch(/comment|id:/)
    expect(await revokedBy(encodeKrl({ version: 0, keyIds: [] }))).toEqual([])
  })

  it('is read with 5,000 entries, and made in a moment', async () => {
    const keyIds = Array.from({ length: 5000 }, (_, n) => `mf-a-17${String(n).padStart(26, 'a')}`)
    const started = performance.now()
    const krl = encodeKrl({ version: 1, keyIds })
    const took = performance.now() - started
    console.info(JSON.stringify({ krl_entries: keyIds.length, bytes: krl.length, ms: Math.round(took) }))
    expect(took).toBeLessThan(1000)
    expect((await listed(krl)).match(/^id: /gm)).toHaveLength(keyIds.length)
  })
})
