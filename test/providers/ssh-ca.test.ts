import { execFile } from 'node:child_process'
import { generateKeyPairSync } from 'node:crypto'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect, promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Credential, Register } from '../../src/providers/provider.js'
import { sshCa } from '../../src/providers/ssh-ca.js'
import { waitFor } from '../support/wait.js'
import { type OpenedAuthority, openAuthority } from './ca-opened.js'
import { openRegister } from './register.js'
import { newKeys, type Sshd, startSshd } from './sshd.js'

const execute = promisify(execFile)
const PARAMS = { principals: ['deploy'] }
const page = join(import.meta.dirname, '..', '..', 'docs', 'providers', 'ssh-ca.md')

let register: Register
let stopRegister: () => Promise<void>
let folder: string
let keys: string
let authority: OpenedAuthority
let sshd: Sshd
beforeAll(async () => {
  ;({ register, stop: stopRegister } = await openRegister())
  folder = await mkdtemp(join(tmpdir(), 'mayfly-ssh-ca-'))
  ;[keys = ''] = await newKeys([])
  authority = await openAuthority(sshCa, { keys }, register, PARAMS)
  sshd = await hostOf(authority)
})
afterAll(async () => {
  await sshd?.stop()
  await authority?.provider.close()
  await rm(folder, { recursive: true, force: true })
  await stopRegister?.()
})

async function hostOf(one: OpenedAuthority): Promise<Sshd> {
  return startSshd({ trusted: String(await one.document('ca.pub')), principals: ['deploy', 'audit'], krl: await one.document('krl') })
}
/** What `ssh-keygen -L` reads in a certificate, its lines without the space around them. */
async function read(credential: Credential): Promise<string[]> {
  const file = join(folder, 'read-cert.pub')
  await writeFile(file, String(credential.fields.certificate))
  const { stdout } = await execute('ssh-keygen', ['-L', '-f', file], { env: { ...process.env, TZ: 'UTC' } })
  return stdout.split('\n').map((line) => line.trim())
}

describe('a certificate', () => {
  it('says what the role says and nothing more, as ssh-keygen reads it', async () => {
    const params = {
      principals: ['deploy', 'audit'],
      source_addresses: ['10.0.0.0/8', '2001:db8::/32', '192.0.2.1'],
      force_command: 'uptime',
      extensions: ['permit-pty', 'permit-X11-forwarding'],
    }
    const { credential, handle, request } = await authority.mint({ params })
    const lines = await read(credential)
    const [type, , signer, keyId, serial, valid, ...rest] = lines.slice(1)
    expect(type).toBe('Type: ssh-ed25519-cert-v01@openssh.com user certificate')
    expect(signer).toMatch(/^Signing CA: ED25519 /)
    expect([keyId, serial]).toEqual([`Key ID: "${handle.key_id}"`, 'Serial: 0'])
    const second = (ms: number) => new Date(Math.floor(ms / 1000) * 1000).toISOString().slice(0, -5)
    expect(valid).toBe(`Valid: from ${second(request.issuedAt - 60_000)} to ${second(request.expiresAt)}`)
    expect(rest).toEqual([
      ...['Principals:', 'deploy', 'audit'],
      ...['Critical Options:', 'force-command uptime', 'source-address 10.0.0.0/8,2001:db8::/32,192.0.2.1'],
      ...['Extensions:', 'permit-X11-forwarding', 'permit-pty', ''],
    ])
  })

  it('allows no more than a command, where the role does not say more', async () => {
    const { credential } = await authority.mint()
    expect((await read(credential)).slice(-5)).toEqual(['Principals:', 'deploy', 'Critical Options: (none)', 'Extensions: (none)', ''])
  })

  it('is refused by sshd before its time, after it, and for another principal', async () => {
    const attempts = [
      await authority.mintFor({ from: -10_000, to: 60_000 }),
      await authority.mintFor({ from: -120_000, to: -2_000 }),
      await authority.mintFor({ from: 3_600_000, to: 7_200_000 }),
      await authority.mintFor({ from: 0, to: 60_000 }, { principals: ['root', 'somebody'] }),
    ]
    const codes = await Promise.all(attempts.map((credential) => sshd.run(credential, 'true')))
    expect(codes.map(({ code }) => code)).toEqual([0, 255, 255, 255])
    expect(sshd.log()).toContain('Certificate invalid: expired')
    expect(sshd.log()).toContain('Certificate invalid: not yet valid')
    expect(sshd.log()).toContain('Certificate does not contain an authorized principal')
  })

  it('works from its addresses alone', async () => {
    const { credential } = await authority.mint({ params: { ...PARAMS, source_addresses: ['127.0.0.2/32', '::1'] } })
    expect((await sshd.run(credential, 'true', '127.0.0.2')).code).toBe(0)
    expect((await sshd.run(credential, 'true', '127.0.0.1')).code).toBe(255)
  })

  it('runs its command whatever is asked for, and quotes and lines in it are its own', async () => {
    const odd = `printf '%s|' "a 'b' \\"c\\"" 'source-address=0.0.0.0/0' \\\n  "$SSH_ORIGINAL_COMMAND"`
    const { credential } = await authority.mint({ params: { ...PARAMS, force_command: odd, source_addresses: ['127.0.0.1'] } })
    expect(await sshd.run(credential, 'rm -rf /nowhere; id')).toEqual({ code: 0, output: `a 'b' "c"|source-address=0.0.0.0/0|rm -rf /nowhere; id|` })
    expect((await sshd.run(credential, 'true', '127.0.0.2')).code).toBe(255)
  })

  it('is signed by every kind of authority that is allowed, as OpenSSH or PEM, in a way that sshd takes', async () => {
    const made = await newKeys(['-t', 'ecdsa', '-b', '384'], ['-t', 'rsa', '-b', '3072'], ['-t', 'ecdsa', '-m', 'PKCS8'])
    const { privateKey } = generateKeyPairSync('ed25519')
    for (const text of [...made, String(privateKey.export({ type: 'pkcs8', format: 'pem' }))]) {
      const one = await openAuthority(sshCa, { keys: text.trimEnd() }, register, PARAMS)
      const host = await hostOf(one)
      expect(await host.run((await one.mint()).credential, 'echo in')).toEqual({ code: 0, output: 'in\n' })
      await host.stop()
    }
  })

  it('lives no longer than the provider lets any live', async () => {
    const short = await openAuthority(sshCa, { keys, longest_life: '59s' }, register, PARAMS)
    await expect(short.mint()).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('59 s') })
    expect((await short.mint({ ttlMs: 59_000 })).credential.type).toBe('ssh-ca')
  })
})

describe('a revocation', () => {
  it('reaches the host by the script of the page, and only its certificate is refused; a session that is open goes on', async () => {
    const [gone, stays] = [await authority.mint(), await authority.mint()]
    const session = await sshd.openSession(gone.credential)
    expect(await session.usable()).toBe(true)
    await authority.provider.revoke(gone.handle, 5000)
    expect((await sshd.run(gone.credential, 'true')).code).toBe(0)

    const asked: string[] = []
    const server = createServer(async (request, response) => {
      asked.push(request.url ?? '')
      response.end(await authority.document('krl'))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1/providers/hosts/krl`
    const script = await fetchScript(url)
    await execute('sh', ['-c', script])
    server.close()

    expect(asked).toEqual(['/v1/providers/hosts/krl'])
    expect(await readFile(sshd.krlFile)).toEqual(await authority.document('krl'))
    expect((await sshd.run(gone.credential, 'true')).code).toBe(255)
    expect(sshd.log()).toContain(`revoked by file ${sshd.krlFile}`)
    expect((await sshd.run(stays.credential, 'true')).code).toBe(0)
    expect(await session.usable()).toBe(true)
    await session.close()

    // The broker is away: the script fails, and leaves what is there as it is.
    const before = await readFile(sshd.krlFile)
    await expect(execute('sh', ['-c', script])).rejects.toMatchObject({ code: expect.any(Number) })
    expect(await readFile(sshd.krlFile)).toEqual(before)
  })

  async function fetchScript(url: string): Promise<string> {
    const [, script = ''] = /```sh\n(#!\/bin\/sh[\s\S]*?)```/.exec(await readFile(page, 'utf8')) ?? []
    const told = script.replace(/^url=.*$/m, `url=${url}`).replace(/^file=.*$/m, `file=${sshd.krlFile}`)
    expect(told).toContain(url)
    return told
  }

  it('is forgotten once its certificate has expired for a while', async () => {
    const { handle } = await authority.mint()
    const kept = 600_000
    const before = (await register.read('certificates')).version
    await authority.provider.revoke(handle, 5000, { taskEnded: true, usableUntil: Date.now() - kept - 1 })
    expect((await register.read('certificates')).version).toBe(before)
    await authority.provider.revoke(handle, 5000, { taskEnded: true, usableUntil: Date.now() - kept + 60_000 })
    expect((await register.read('certificates')).entries).toContainEqual({ id: handle.key_id, until: expect.any(Number) })

    const short = String((await authority.mint()).handle.key_id)
    await register.add('certificates', { id: short, until: Date.now() + 300 })
    expect((await authority.document('krl')).includes(short)).toBe(true)
    await waitFor('the entry to leave the list', async () => !(await authority.document('krl')).includes(short))
    expect((await authority.document('krl')).includes(String(handle.key_id))).toBe(true)
  })

  it('holds for certificates of a key that was rotated out', async () => {
    const [older = '', newer = ''] = await newKeys([], [])
    const before = await openAuthority(sshCa, { keys: older }, register, PARAMS)
    const during = await openAuthority(sshCa, { keys: `${newer}${older}` }, register, PARAMS)
    const after = await openAuthority(sshCa, { keys: newer }, register, PARAMS)
    const host = await hostOf(during)
    const [gone, stays, fresh] = [await before.mint(), await before.mint(), await during.mint()]
    for (const { credential } of [gone, stays, fresh]) expect((await host.run(credential, 'true')).code).toBe(0)
    await after.provider.revoke(gone.handle, 5000)
    await host.revokedAre(await after.document('krl'))
    const codes = [gone, stays, fresh].map(async ({ credential }) => (await host.run(credential, 'true')).code)
    expect(await Promise.all(codes)).toEqual([255, 0, 0])
    await host.stop()
  })

  it('cannot be told to nobody: without a ledger there is no list', async () => {
    const alone = await openAuthority(sshCa, { keys }, undefined, PARAMS)
    await alone.provider.check()
    const { handle } = await alone.mint()
    await expect(alone.provider.revoke(handle, 5000)).rejects.toMatchObject({ name: 'ProviderError' })
    await expect(alone.document('krl')).rejects.toMatchObject({ name: 'ProviderError' })
  })

  it('is an error that can be repeated when the ledger does not answer', async () => {
    const away = { ...register, add: () => new Promise<never>(() => undefined), read: () => Promise.reject(new Error('connection refused')) }
    const one = await openAuthority(sshCa, { keys }, away, PARAMS)
    const { handle } = await one.mint()
    await expect(one.provider.revoke(handle, 200)).rejects.toMatchObject({ kind: 'timeout' })
    await expect(one.document('krl')).rejects.toMatchObject({ kind: 'unreachable' })
    await expect(one.provider.check()).rejects.toMatchObject({ kind: 'unreachable' })
  })
})

describe('sshd', () => {
  it('refuses everybody when its list is not there, as the page warns', async () => {
    const host = await startSshd({ trusted: String(await authority.document('ca.pub')), principals: ['deploy'] })
    const { credential } = await authority.mint()
    expect((await host.run(credential, 'true')).code).toBe(255)
    await host.revokedAre(await authority.document('krl'))
    expect((await host.run(credential, 'true')).code).toBe(0)
    await host.stop()
  })
})

describe('keys', () => {
  const opened = (text: string) => openAuthority(sshCa, { keys: text }, register, PARAMS)

  it('that are weak, encrypted, given twice or no keys are refused, without a word of them', async () => {
    const [weak = '', encrypted = '', good = ''] = await newKeys(['-t', 'rsa', '-b', '2048'], ['-t', 'ed25519', '-N', 'a passphrase'], [])
    const broken = good.replace(/\n[A-Za-z0-9+/]{70}\n/, '\n')
    for (const [text, told] of [
      [weak, 'RSA with at least 3072 bits'],
      [encrypted, 'without a passphrase'],
      [broken, 'cannot be read'],
      ['no key at all', 'holds no private key'],
      [`${good}${good}`, 'twice'],
      [`${good}${weak}`, 'key 2'],
    ] as const) {
      const error: unknown = await opened(text).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ name: 'ProviderError', kind: 'invalid', message: expect.stringContaining(told) })
      const shown = inspect(error, { depth: Number.POSITIVE_INFINITY, showHidden: true })
      for (const line of text.split('\n')) if (line !== '') expect(shown.includes(line)).toBe(false)
    }
  })

  it('are published without their private halves', async () => {
    const told = String(await authority.document('ca.pub'))
    expect(told).toMatch(/^ssh-ed25519 [A-Za-z0-9+/=]+ mayfly-contract\n$/)
  })
})

describe('the file', () => {
  it('is there from the start, holds a revocation before it is confirmed, and what other brokers revoke soon after', async () => {
    const file = join(folder, 'mayfly.krl')
    const mine = await openAuthority(sshCa, { keys, krl_file: file }, register, PARAMS)
    expect(mine.provider.residualSeconds).toBe(2)
    await mine.provider.check()
    const [one, other] = [await mine.mint(), await mine.mint()]
    await mine.provider.revoke(one.handle, 5000)
    expect(await readFile(file)).toEqual(await mine.document('krl'))
    expect((await stat(file)).mode & 0o777).toBe(0o644)
    expect(await holds(file, one.handle.key_id)).toBe(true)

    await authority.provider.revoke(other.handle, 5000)
    await waitFor('the file of the other broker', () => holds(file, other.handle.key_id))
    await rm(file)
    await waitFor('the file to be there again', () => stat(file).catch(() => undefined))
    await mine.provider.close()
  })

  it('that cannot be written is told by the check, and no lease is called revoked', async () => {
    const mine = await openAuthority(sshCa, { keys, krl_file: join(folder, 'not', 'there', 'mayfly.krl') }, register, PARAMS)
    await expect(mine.provider.check()).rejects.toMatchObject({ name: 'ProviderError', message: expect.stringContaining('krl_file') })
    const { handle } = await mine.mint()
    await expect(mine.provider.revoke(handle, 5000)).rejects.toMatchObject({ kind: 'broken', message: expect.stringContaining('ENOENT') })
    // It is on the list all the same, and the revoke will be repeated.
    expect((await register.read('certificates')).entries.map(({ id }) => id)).toContain(handle.key_id)
    await mine.provider.close()
  })

  async function holds(file: string, keyId: unknown): Promise<boolean> {
    const { stdout } = await execute('ssh-keygen', ['-Q', '-l', '-f', file])
    return stdout.includes(`id: ${keyId}\n`)
  }
})
