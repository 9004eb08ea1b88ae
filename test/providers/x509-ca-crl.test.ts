import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import type { Register, RegisterEntry } from '../../src/providers/provider.js'
import { x509Ca } from '../../src/providers/x509-ca.js'
import { waitFor } from '../support/wait.js'
import { openAuthority } from './ca-opened.js'
import { openRegister } from './register.js'
import { execute, inFolder, newAuthority, type Pair } from './tls-server.js'

let pair: Pair
let register: Register
let stopRegister: () => Promise<void>
beforeAll(async () => {
  pair = await newAuthority()
  ;({ register, stop: stopRegister } = await openRegister())
})
afterAll(() => stopRegister?.())

const opened = (its: Register, more: object = {}) =>
  openAuthority(x509Ca, { certificates: pair.certificate, keys: pair.key, ...more }, its, { common_name: 'x' })
/** A register that holds just these. */
const holding = (version: number, serials: readonly string[]): Register => {
  const entries: RegisterEntry[] = serials.map((id) => ({ id, until: Number.MAX_SAFE_INTEGER }))
  return { ...register, read: async () => ({ version, entries }) }
}

interface List {
  readonly serials: string[]
  readonly number: bigint
  readonly from: number
  readonly to: number
}
/** What `openssl` reads in a list whose signature it has checked. */
async function read(der: Buffer): Promise<List> {
  return inFolder(async (at, write) => {
    const args = ['crl', '-inform', 'DER', '-in', await write('crl', der), '-CAfile', await write('ca', pair.certificate), '-noout', '-text']
    const { stdout, stderr } = await execute('openssl', args, { maxBuffer: 64 * 2 ** 20 })
    expect(stderr).toContain('verify OK')
    await writeFile(at('text'), stdout)
    const part = (pattern: RegExp) => pattern.exec(stdout)?.[1] ?? ''
    expect(part(/Issuer: (.*)/)).toBe('CN = Agents')
    expect(part(/(Version 2)/)).toBe('Version 2')
    return {
      serials: [...stdout.matchAll(/Serial Number: ([0-9A-F]+)/g)].map(([, serial = '']) => serial.toLowerCase()),
      number: BigInt(part(/X509v3 CRL Number: \n\s+(\S+)/)),
      from: Date.parse(part(/Last Update: (.*)/)),
      to: Date.parse(part(/Next Update: (.*)/)),
    }
  })
}

describe('a revocation list', () => {
  it('holds exactly its entries, in its order, as openssl reads it', async () => {
    const serial = fc.uint8Array({ minLength: 20, maxLength: 20 }).map((bytes) => {
      bytes[0] = 0x40 | ((bytes[0] ?? 0) & 0x3f)
      return Buffer.from(bytes).toString('hex')
    })
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(serial, { maxLength: 60 }), fc.nat({ max: 2 ** 48 }), async (serials, version) => {
        const list = await read(await (await opened(holding(version, serials))).document('crl.der'))
        expect(list.serials).toEqual(serials)
        expect(list.number >> 40n).toBe(BigInt(version))
      }),
      { numRuns: 25 },
    )
  })

  it('is good from a minute ago until its lifetime is over', async () => {
    const now = Date.now()
    const { from, to, serials } = await read(await (await opened(holding(0, []), { crl_lifetime: '10m' })).document('crl.der'))
    expect(serials).toEqual([])
    expect(Math.abs(from - (now - 60_000))).toBeLessThan(5000)
    expect(Math.abs(to - (now + 600_000))).toBeLessThan(5000)
  })

  it('is made once for as long as nothing changes, and has the same entries at every broker', async () => {
    const [one, other] = [await opened(register), await opened(register)]
    const { handle } = await one.mint()
    await one.provider.revoke(handle, 5000)
    const first = await one.document('crl.der')
    expect(await one.document('crl.der')).toBe(first)
    const [mine, theirs] = [await read(first), await read(await other.document('crl.der'))]
    expect(theirs.serials).toEqual(mine.serials)
    expect(theirs.number >> 40n).toBe(mine.number >> 40n)

    await other.provider.revoke((await other.mint()).handle, 5000)
    const next = await read(await one.document('crl.der'))
    expect(next.serials).toHaveLength(mine.serials.length + 1)
    expect(next.number).toBeGreaterThan(mine.number)
  })

  it('has another number when it is signed again at another time', async () => {
    const its = holding(7, [])
    const first = await (await opened(its)).document('crl.der')
    const startedAt = Math.floor(Date.now() / 1000)
    await waitFor('the next second', () => Math.floor(Date.now() / 1000) > startedAt)
    const second = await (await opened(its)).document('crl.der')
    expect((await read(second)).number).toBeGreaterThan((await read(first)).number)
  })

  it('loses an entry when the register does', async () => {
    const one = await opened(register)
    const serial = `40${randomBytes(19).toString('hex')}`
    await register.add('certificates', { id: serial, until: Date.now() + 300 })
    expect((await read(await one.document('crl.der'))).serials).toContain(serial)
    await waitFor('the entry to leave the list', async () => !(await read(await one.document('crl.der'))).serials.includes(serial))
  })

  it('is made and read with 5,000 entries, from the register on', async () => {
    const serials = Array.from({ length: 5000 }, () => `40${randomBytes(19).toString('hex')}`)
    const until = Date.now() + 3_600_000
    await Promise.all(serials.map((id) => register.add('certificates', { id, until })))
    const one = await opened(register)
    const started = performance.now()
    const der = await one.document('crl.der')
    const took = performance.now() - started
    console.info(JSON.stringify({ crl_entries: serials.length, bytes: der.length, ms_with_register: Math.round(took) }))
    const found = new Set((await read(der)).serials)
    expect(serials.filter((serial) => !found.has(serial))).toEqual([])
    expect(took).toBeLessThan(2000)
  })
})
