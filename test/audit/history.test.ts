import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { readHistory } from '../../src/audit/history.js'
import { createJsonlSink } from '../../src/audit/jsonl.js'
import { reachThen } from '../../src/reach-then.js'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mayfly-history-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const T = Date.parse('2030-01-31T12:00:00Z')
const lineOf = (at: number, id: string, more: object = { chain: [] }, partition = 0) =>
  `{"partition":${partition},"stream_id":"${at}-0","at":"${new Date(at).toISOString()}","id":"${id}","type":"lease.issued",${JSON.stringify(more).slice(1)}\n`
const write = (name: string, ...lines: string[]) => writeFileSync(join(folder, name), lines.join(''))
const read = async (fits: (line: string) => boolean = () => true, deadlineMs = 10_000) => {
  const ids: string[] = []
  const extent = await readHistory(folder, { fits, read: ({ event }) => ids.push(event.id) }, { deadlineMs })
  return { ids, extent }
}

describe('the record', () => {
  it('is read from its first event to its last, through files that were renamed and packed, whatever they are called', async () => {
    write('events.jsonl', lineOf(T + 5, 'e'), lineOf(T + 6, 'f'))
    write('events.jsonl.1', lineOf(T + 3, 'c'), lineOf(T + 4, 'd'))
    writeFileSync(join(folder, 'events-2030-01-30.jsonl.gz'), gzipSync(lineOf(T + 1, 'a') + lineOf(T + 2, 'b')))
    write('notes.txt', 'not an event')
    write('other.jsonl', lineOf(T, 'x'))
    const { ids, extent } = await read()
    expect(ids).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
    expect(extent).toEqual({ files: 3, from: T + 1, to: T + 6, unreadable: 0, complete: true })
  })

  it('tells an event once that a crash had written twice, and each partition has its own order', async () => {
    write(
      'events.jsonl',
      lineOf(T + 2, 'a'),
      lineOf(T + 1, 'b', undefined, 1),
      lineOf(T + 2, 'a'),
      lineOf(T + 3, 'c'),
      lineOf(T + 2, 'a'),
      lineOf(T + 1, 'b', undefined, 1),
    )
    expect((await read()).ids).toEqual(['a', 'b', 'c'])
  })

  it('says what it could not read, and goes on', async () => {
    write('events.jsonl', lineOf(T, 'a'), '{"partition":0,"stream', '\n', lineOf(T + 1, 'b').replace('}\n', '\n'), lineOf(T + 2, 'c'), 'nonsense\n')
    const { ids, extent } = await read()
    expect(ids).toEqual(['a', 'c'])
    expect(extent).toMatchObject({ unreadable: 3, from: T, to: T + 2, complete: true })
  })

  it('says that time was up, and that there is none', async () => {
    write('events.jsonl', lineOf(T, 'a'))
    expect((await read(undefined, -1)).extent).toMatchObject({ complete: false })
    rmSync(folder, { recursive: true })
    expect((await read()).extent).toEqual({ files: 0, from: undefined, to: undefined, unreadable: 0, complete: true })
  })

  it('reads what the sink writes', async () => {
    const json = JSON.stringify({ id: 'a', type: 'lease.issued', detail: { text: '\u2028"}' } })
    await createJsonlSink('local', folder).write([{ partition: 7, streamId: `${T}-3`, json }])
    expect((await read()).ids).toEqual(['a'])
  })
})

describe('what an agent could touch, from the record', () => {
  const extent = { files: 1, from: T - 90_000_000, to: T + 1_000, unreadable: 0, complete: true }
  const about = { extent, elsewhere: 0, partitions: 4, longestTaskSeconds: 86_400 }
  const lease = (id: string) => `lease_00${id.repeat(26)}`
  const task = (id: string) => `task_00${id.repeat(26)}`
  const issued = (id: string, agent: string, chain?: string[]) => ({
    ...{ lease: lease(id), task: task(id), role: 'r', provider: 'p', chain },
    principal: { kind: 'agent' as const, id: agent, issuer: 'i', token: 't' },
  })
  type Told = Parameters<ReturnType<typeof reachThen>['read']>[0]['event']
  const tell = (reader: ReturnType<typeof reachThen>, at: number, type: Told['type'], more: Partial<Told>) => {
    const event = { id: 'x', type, ...more } as Told
    if (reader.fits(JSON.stringify({ partition: 0, ...event }))) reader.read({ at, event })
  }

  it('holds what was issued and not settled by then, through whatever chain, and nothing of others', () => {
    const reader = reachThen('a', T)
    tell(reader, T - 9, 'lease.issued', issued('a', 'a'))
    tell(reader, T - 9, 'lease.issued', issued('b', 'b', ['a', 'c', 'b']))
    tell(reader, T - 9, 'lease.issued', issued('c', 'other'))
    tell(reader, T - 9, 'lease.issued', issued('d', 'other', ['x', 'other']))
    tell(reader, T - 9, 'lease.reserved', issued('e', 'a'))
    tell(reader, T - 9, 'lease.issued', issued('f', 'a'))
    // What is told without its agent's name.
    tell(reader, T - 5, 'lease.revoked', { lease: lease('f'), task: task('f') })
    tell(reader, T - 5, 'lease.closing', { lease: lease('a'), task: task('a') })
    tell(reader, T + 5, 'lease.revoked', { lease: lease('a'), task: task('a') })
    tell(reader, T + 5, 'lease.issued', issued('g', 'a'))
    expect(reader.answer(about).leases.map(({ id, state, through }) => [id, state, through])).toEqual([
      [lease('a'), 'closing', []],
      [lease('b'), 'active', ['a', 'c']],
      [lease('e'), 'pending', []],
    ])
    expect(reader.answer(about).gaps).toEqual([])
  })

  it('is not confused by an agent whose name is part of another, or stands in its own words', () => {
    const reader = reachThen('a', T)
    tell(reader, T - 9, 'lease.issued', issued('a', 'aa'))
    tell(reader, T - 9, 'lease.issued', { ...issued('b', 'b'), detail: { claimed_reason: '"a"', agent: 'a' } })
    expect(reader.answer(about).leases).toEqual([])
  })

  it('says each reason why there may have been more', () => {
    const gaps = (more: object, at = T) => reachThen('a', at).answer({ ...about, ...more }).gaps
    expect(gaps({})).toEqual([])
    expect(gaps({ extent: { files: 0, unreadable: 0, complete: true } })).toEqual(['there is no record'])
    expect(gaps({ extent: { ...extent, from: T + 1 } })).toEqual([expect.stringContaining('after the time that was asked about')])
    expect(gaps({ extent: { ...extent, from: T - 1 } })).toEqual([expect.stringContaining('lived on is not in it')])
    expect(gaps({ extent: { ...extent, complete: false, unreadable: 2 } })).toHaveLength(2)
    expect(gaps({ elsewhere: 3 })).toEqual(['the events of 3 of 4 partitions are written elsewhere now: ask the other brokers too'])
  })

  it('says of tasks that were opened by an earlier version that what they allowed was not recorded', () => {
    const reader = reachThen('a', T)
    tell(reader, T - 9, 'task.opened', { task: task('a'), detail: { parent: task('b'), assignees: [{ agent: 'a' }] } })
    expect(reader.answer(about)).toMatchObject({ own: [], gaps: [expect.stringContaining('1 of its tasks')] })
  })
})
