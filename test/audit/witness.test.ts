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

it('knows of what came into the log since it was written, of each partition the last, a torn line aside', async () => {
  const before = await openWitness(folder, 'prod')
  await before.note({ ledger: 'one', beat: 100_005 })
  const json = JSON.stringify({ type: 'task.opened', detail: { text: '\n{"partition":5,"stream_id":"9-9","at":"x",' } })
  const entry = (partition: number, streamId: string) => ({ partition, streamId, json })
  await createJsonlSink('file', folder).write([
    ...[entry(2, '90004-9'), entry(3, '100005-1'), entry(4, '100006-0'), entry(3, '100007-0')],
    ...[entry(5, '100007-10'), entry(5, '100007-9')],
  ])
  await appendFile(join(folder, 'events.jsonl'), '{"partition":4,"stream_id":"100008-')
  const held = new Map([
    [3, '100007-0'],
    [4, '100006-0'],
    [5, '100007-9'],
  ])
  const after = await openWitness(folder, 'prod')
  expect(after.kept()?.held).toEqual(held)
  // What it holds it does not let go, and is there for the next once it is closed.
  after.hold(new Map([[4, '100005-7']]))
  after.hold(new Map([[5, '100007-11']]))
  await after.close()
  await rm(join(folder, 'events.jsonl'))
  expect((await openWitness(folder, 'prod')).kept()?.held).toEqual(held.set(5, '100007-11'))
})

it('takes nothing for the ledger that it knows which a ledger before it has told', async () => {
  const entry = { partition: 3, streamId: '100005-1', json: '{"type":"task.opened"}' }
  await createJsonlSink('file', folder).write([entry])
  const first = await openWitness(folder, 'prod')
  await first.note({ ledger: 'two', beat: 0 })
  expect((await openWitness(folder, 'prod')).kept()?.held).toEqual(new Map())
  await first.note({ beat: 200_000 })
  expect((await openWitness(folder, 'prod')).kept()?.held).toEqual(new Map())
  first.hold(new Map([[3, '200000-0']]))
  await first.note({ ledger: 'three', beat: 0 })
  expect((await openWitness(folder, 'prod')).kept()).toEqual({ ledger: 'three', generation: 1, beat: 0, held: new Map() })
})

it('reads the end of a long log from its first whole line', async () => {
  await (await openWitness(folder, 'prod')).note({ ledger: 'one', beat: 1 })
  const sink = createJsonlSink('file', folder)
  const padding = `{"partition":7,"stream_id":"9-9","at":"x",${'x'.repeat(9_000_000)}`
  await writeFile(join(folder, 'events.jsonl'), `${padding}\n`)
  await sink.write([{ partition: 3, streamId: '5-1', json: '{"type":"task.opened"}' }])
  expect((await openWitness(folder, 'prod')).kept()?.held).toEqual(new Map([[3, '5-1']]))
})
