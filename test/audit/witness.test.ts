import { appendFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from '@jest/globals'
import { createJsonlSink } from '../../src/audit/jsonl.js'
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

it('knows of what is in the log since it was written, of each partition the last, a torn line aside', async () => {
  await (await openWitness(folder, 'prod')).note({ ledger: 'one' })
  const json = JSON.stringify({ type: 'task.opened', detail: { text: '\n{"partition":5,"stream_id":"9-9","at":"x",' } })
  const entry = (partition: number, streamId: string) => ({ partition, streamId, json })
  await createJsonlSink('file', folder).write([entry(3, '5-1'), entry(4, '6-0'), entry(3, '7-0')])
  await appendFile(join(folder, 'events.jsonl'), '{"partition":4,"stream_id":"8-')
  expect((await openWitness(folder, 'prod')).kept()?.held).toEqual(
    new Map([
      [3, '7-0'],
      [4, '6-0'],
    ]),
  )
})
