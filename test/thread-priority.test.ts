import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { getPriority, setPriority } from 'node:os'
import { expect, it } from '@jest/globals'
import { putHelpersBehind } from '../src/thread-priority.js'

const THREADS = '/proc/self/task'
const nameOf = (thread: number) => readFileSync(`${THREADS}/${thread}/comm`, 'utf8')

it("puts V8's helpers behind the event loop, and no other thread", () => {
  const others = readdirSync(THREADS)
    .map(Number)
    .filter((thread) => thread !== process.pid)
  const own = others.filter((thread) => nameOf(thread).trim() === 'V8Worker')
  // Before Node 24 none has a name: one is given it.
  const helpers = own.length > 0 ? own : others.slice(0, 1)
  const before = new Map(helpers.map((thread) => [thread, nameOf(thread)]))
  const rest = others.filter((thread) => !before.has(thread))
  const restBefore = rest.map((thread) => getPriority(thread))
  for (const thread of helpers) writeFileSync(`${THREADS}/${thread}/comm`, 'V8Worker')
  try {
    expect(putHelpersBehind()).toBe(helpers.length)
    // However this process was started itself.
    const behind = Math.min(19, getPriority(process.pid) + 10)
    expect(helpers.map((thread) => getPriority(thread))).toEqual(helpers.map(() => behind))
    expect(rest.map((thread) => getPriority(thread))).toEqual(restBefore)
  } finally {
    for (const [thread, name] of before) {
      writeFileSync(`${THREADS}/${thread}/comm`, name)
      setPriority(thread, getPriority(process.pid))
    }
  }
})
