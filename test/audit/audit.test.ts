import { mkdtemp, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { type EventSource, type SourceEntry, startAudit } from '../../src/audit/audit.js'
import { createJsonlSink, EVENTS_FILE } from '../../src/audit/jsonl.js'
import { waitFor } from '../support/wait.js'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mayfly-audit-'))
})
afterEach(() => rm(folder, { recursive: true, force: true }))

/** An outbox in memory, with the same fence: what the pump is given in place of the ledger's. */
function outboxOf(count: number): EventSource & { left(): number } {
  let entries: SourceEntry[] = Array.from({ length: count }, (_, n) => ({
    partition: n % 3,
    streamId: `${1000 + n}-0`,
    json: JSON.stringify({ id: `e${n}`, type: 'lease.denied', detail: { claimed_reason: 'a\u2028b\r\n\u001b[31m' } }),
  }))
  return {
    hold: () => Promise.resolve([0, 1, 2]),
    read: (partition, most) => Promise.resolve(entries.filter((entry) => entry.partition === partition).slice(0, most)),
    confirm: (partition, _reader, streamId) => {
      entries = entries.filter((entry) => entry.partition !== partition || Number.parseInt(entry.streamId, 10) > Number.parseInt(streamId, 10))
      return Promise.resolve(true)
    },
    left: () => entries.length,
  }
}
const options = { reader: 'r', pollMs: 5, onWritten: () => {}, onFailed: () => {} }
const lines = async (file: string) => (await readFile(file, 'utf8')).split('\n').filter(Boolean)

describe('the audit pump', () => {
  it('writes every event once, one line each, and trims what is written', async () => {
    const outbox = outboxOf(1_700)
    const audit = startAudit(outbox, { ...options, sinks: [createJsonlSink('local', folder)] })
    await waitFor('the outbox to be empty', () => outbox.left() === 0)
    await audit.stop()
    const events = (await lines(join(folder, EVENTS_FILE))).map((line) => JSON.parse(line))
    expect(new Set(events.map((event) => event.id)).size).toBe(1_700)
    expect(events).toHaveLength(1_700)
    expect(events[0]).toMatchObject({ at: new Date(1000).toISOString(), stream_id: '1000-0', type: 'lease.denied' })
  })

  it('escapes text from outside, so that one event is one line to every reader', async () => {
    await createJsonlSink('local', folder).write(await outboxOf(1).read(0, 1))
    const text = await readFile(join(folder, EVENTS_FILE), 'utf8')
    expect(text).not.toMatch(/[\p{Zl}\p{Zp}\r]/u)
    expect(text).not.toContain(String.fromCharCode(27))
    expect(text.match(/\n/g)).toHaveLength(1)
  })

  it('trims nothing while a sink is down, and drains by itself when it is back', async () => {
    const outbox = outboxOf(10)
    let down = true
    const written: string[] = []
    const sink = {
      name: 'flaky',
      write: (entries: readonly SourceEntry[]) => {
        if (down) return Promise.reject(new Error('down'))
        written.push(...entries.map((entry) => entry.json))
        return Promise.resolve()
      },
    }
    let failures = 0
    const audit = startAudit(outbox, { ...options, sinks: [sink], onFailed: () => failures++ })
    await waitFor('two failures', () => failures >= 2)
    expect(outbox.left()).toBe(10)
    down = false
    await waitFor('the outbox to be empty', () => outbox.left() === 0)
    await audit.stop()
    expect(written).toHaveLength(10)
  })

  it('begins a new line after one that was torn', async () => {
    await writeFile(join(folder, EVENTS_FILE), '{"id":"whole"}\n{"id":"to')
    await createJsonlSink('local', folder).write(await outboxOf(1).read(0, 1))
    const [whole, torn, next] = await lines(join(folder, EVENTS_FILE))
    expect([whole, torn, JSON.parse(next ?? '').id]).toEqual(['{"id":"whole"}', '{"id":"to', 'e0'])
  })

  it('may be rotated by renaming, and is private', async () => {
    const sink = createJsonlSink('local', folder)
    await sink.write(await outboxOf(1).read(0, 1))
    await rename(join(folder, EVENTS_FILE), join(folder, 'events.1.jsonl'))
    await sink.write(await outboxOf(1).read(0, 1))
    expect(await lines(join(folder, EVENTS_FILE))).toHaveLength(1)
    expect((await stat(join(folder, EVENTS_FILE))).mode & 0o777).toBe(0o600)
  })
})
