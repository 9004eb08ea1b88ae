import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from '@jest/globals'
import { openWitness, WITNESS_FILE } from '../../src/audit/witness.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mayfly-witness-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

it('is what it was when it is opened again, and keeps its name', async () => {
  const first = await openWitness(folder, 'prod')
  expect(first.kept()).toBeUndefined()
  await first.note({ ledger: 'one', generation: 2, beat: 7 })
  await Promise.all([first.hold(new Map([[3, '5-1']])), first.hold(new Map([[4, '6-0']])), first.note({ beat: 8 })])
  const next = await openWitness(folder, 'prod')
  expect(next.name).toBe(first.name)
  expect(next.kept()).toEqual({
    ledger: 'one',
    generation: 2,
    beat: 8,
    held: new Map([
      [3, '5-1'],
      [4, '6-0'],
    ]),
  })
  expect(await readdir(folder)).toEqual([WITNESS_FILE])
})

it('is refused where it is of another instance, or cannot be read', async () => {
  await (await openWitness(folder, 'prod')).note({ ledger: 'one' })
  await expect(openWitness(folder, 'staging')).rejects.toThrow('instance "prod"')
  for (const text of ['', '{', '{"instance": 7}', '{"instance": "prod", "name": "x", "held": {"1": "soon"}}']) {
    await writeFile(join(folder, WITNESS_FILE), text)
    await expect(openWitness(folder, 'prod')).rejects.toThrow('cannot be read')
  }
})
