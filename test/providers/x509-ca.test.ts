import { X509Certificate } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import type { Credential, Register } from '../../src/providers/provider.js'
import { x509Ca } from '../../src/providers/x509-ca.js'
import { type OpenedAuthority, openAuthority } from './ca-opened.js'
import { newLeaseId } from './harness.js'
import { openRegister } from './register.js'
import { execute, inFolder, newAuthority, type Pair, startTlsServer, type TlsServer } from './tls-server.js'

const PARAMS = { dns: ['a.jobs.example'], uris: ['spiffe://acme.example/tasks/{task}'] }
const URL_OF_LISTS = 'https://mayfly.example/v1/providers/agents/'

let register: Register
let stopRegister: () => Promise<void>
let pair: Pair
let authority: OpenedAuthority
let server: TlsServer
beforeAll(async () => {
  ;({ register, stop: stopRegister } = await openRegister())
  pair = await newAuthority()
  authority = await opened([pair], { crl_url: URL_OF_LISTS })
  server = await startTlsServer(await trustOf(authority))
})
afterAll(async () => {
  await server?.stop()
  await stopRegister?.()
})

function opened(pairs: readonly Pair[], more: object = {}, params: unknown = PARAMS): Promise<OpenedAuthority> {
  const options = { certificates: pairs.map(({ certificate }) => certificate).join(''), keys: pairs.map(({ key }) => key).join(''), ...more }
  return openAuthority(x509Ca, options, register, params)
}
async function trustOf(one: OpenedAuthority): Promise<{ ca: string; crl: string }> {
  return { ca: String(await one.document('ca.pem')), crl: String(await one.document('crl.pem')) }
}
const letsIn = async (credential: Credential, at = server) => (await at.greets(credential)) !== undefined
const textOf = (credential: Credential) => String(credential.fields.certificate)

/** What `openssl verify` says of it as a client's, in the strict reading of RFC 5280 and with the lists; `ok`, or the trouble. */
async function verified(certificate: string, { ca, crl }: { ca: string; crl: string }, ...more: readonly string[]): Promise<string> {
  return inFolder(async (_, write) => {
    const files = ['-CAfile', await write('ca', ca), '-CRLfile', await write('crl', crl), await write('certificate', certificate)]
    return execute('openssl', ['verify', '-x509_strict', '-crl_check', '-purpose', 'sslclient', ...more, ...files]).then(
      () => 'ok',
      ({ stderr }: { stderr: string }) => /error \d+ at \d+ depth lookup: (.*)/.exec(stderr)?.[1] ?? stderr,
    )
  })
}

describe('a certificate', () => {
  it('says what the role says and nothing more, as openssl reads it', async () => {
    const { credential, handle, request } = await authority.mint({ params: { ...PARAMS, common_name: '{agent}' } })
    const text = await shown(textOf(credential))
    const second = (ms: number) => new Date(Math.floor(ms / 1000) * 1000).toUTCString()
    const its = new X509Certificate(textOf(credential))
    expect(new Date(its.validFrom).toUTCString()).toBe(second(request.issuedAt - 60_000))
    expect(new Date(its.validTo).toUTCString()).toBe(second(request.expiresAt))
    expect(its.serialNumber.toLowerCase()).toBe(handle.serial)
    expect([its.subject, its.issuer, its.ca]).toEqual(['CN=triage/team-a', 'CN=Agents', false])
    expect(its.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2'])
    const extensions = text.slice(text.indexOf('X509v3 extensions:'), text.indexOf('Signature Algorithm', text.indexOf('X509v3 extensions:')))
    const keyIdentifier = /Subject Key Identifier: \n\s+(\S+)/.exec(await shown(pair.certificate))?.[1]
    const list = `crl-${keyIdentifier?.toLowerCase().replaceAll(':', '').slice(0, 16)}.der`
    expect(extensions.replace(/\s+/g, ' ').replace(/(Subject Key Identifier:) \S+/, '$1 …')).toBe(
      [
        'X509v3 extensions:',
        'X509v3 Basic Constraints: critical CA:FALSE',
        'X509v3 Key Usage: critical Digital Signature',
        'X509v3 Extended Key Usage: TLS Web Client Authentication',
        'X509v3 Subject Key Identifier: …',
        `X509v3 Authority Key Identifier: ${keyIdentifier}`,
        `X509v3 Subject Alternative Name: URI:spiffe://acme.example/tasks/${request.lease.task}, DNS:a.jobs.example`,
        `X509v3 CRL Distribution Points: Full Name: URI:${URL_OF_LISTS}${list} `,
      ].join(' '),
    )
    expect((await authority.document(list)).equals(await authority.document('crl.der'))).toBe(true)
  })

  async function shown(certificate: string): Promise<string> {
    return inFolder(async (_, write) => (await execute('openssl', ['x509', '-noout', '-text', '-in', await write('it', certificate)])).stdout)
  }

  it('passes the strict reading of openssl, as a client and as nothing else', async () => {
    const certificate = textOf((await authority.mint()).credential)
    const trust = await trustOf(authority)
    expect(await verified(certificate, trust)).toBe('ok')
    expect(await verified(certificate, trust, '-purpose', 'sslserver')).toMatch(/unsuitable certificate purpose|unsupported certificate purpose/)
    expect(await verified(certificate, { ...trust, ca: (await newAuthority()).certificate })).toMatch(/unable to get local issuer|signature failure/)
  })

  it('is refused after its time and before it, and by who trusts another authority', async () => {
    const during = await authority.mintFor({ from: -10_000, to: 60_000 })
    const after = await authority.mintFor({ from: -120_000, to: -2_000 })
    const before = await authority.mintFor({ from: 3_600_000, to: 7_200_000 })
    const stranger = await opened([await newAuthority()])
    expect(await letsIn(during)).toBe(true)
    for (const credential of [after, before, (await stranger.mint()).credential]) expect(await letsIn(credential)).toBe(false)
    expect(server.refusals.join('\n')).toContain('CERT_HAS_EXPIRED')
    expect(await verified(textOf(after), await trustOf(authority))).toBe('certificate has expired')
    expect(await verified(textOf(before), await trustOf(authority))).toBe('certificate is not yet valid')
  })

  it('is signed by every kind of authority that is allowed', async () => {
    for (const kind of [['rsa:3072'], ['ec', '-pkeyopt', 'ec_paramgen_curve:P-384'], ['ec', '-pkeyopt', 'ec_paramgen_curve:P-521'], ['ed25519']]) {
      const one = await opened([await newAuthority({ kind })])
      const { credential, handle } = await one.mint()
      expect({ kind, verified: await verified(textOf(credential), await trustOf(one)) }).toEqual({ kind, verified: 'ok' })
      await one.provider.revoke(handle, 5000)
      expect(await verified(textOf(credential), await trustOf(one))).toBe('certificate revoked')
    }
  })

  it('comes with that of an authority which is not a root', async () => {
    const root = await newAuthority({ name: 'Root' })
    const extensions = ['basicConstraints=critical,CA:TRUE,pathlen:0', 'keyUsage=critical,keyCertSign,cRLSign', 'subjectKeyIdentifier=hash']
    const one = await opened([await newAuthority({ name: 'Below', by: root, extensions })])
    const rootOnly = await startTlsServer({ ca: root.certificate })
    expect(await letsIn((await one.mint()).credential, rootOnly)).toBe(true)
    await rootOnly.stop()
  })

  it('lives no longer than its authority, nor than the provider lets any live', async () => {
    const short = await opened([pair], { longest_life: '59s' })
    await expect(short.mint()).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('59 s') })
    const oneDay = await opened([await newAuthority({ days: 1 })], { longest_life: '7d' })
    const { expiresAt, request } = await oneDay.mint({ ttlMs: 3 * 86_400_000 })
    expect(expiresAt).toBeLessThan(request.issuedAt + 86_400_000 + 1000)
    const gone = await opened([await newAuthority({ days: -1 })])
    await expect(gone.provider.check()).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining('expired') })
    await expect(gone.mint()).rejects.toMatchObject({ kind: 'refused' })
  })

  it('has a serial number of 20 octets, positive, of its own and the same each time', async () => {
    const serials = Array.from({ length: 500 }, () => authority.plan({ id: newLeaseId() })).map((lease) => {
      const [once, again] = [authority.provider.plan(lease, PARAMS).serial, authority.provider.plan(lease, PARAMS).serial]
      expect(once).toBe(again)
      return String(once)
    })
    expect(new Set(serials).size).toBe(serials.length)
    for (const serial of serials) expect(serial).toMatch(/^[4-7][0-9a-f]{39}$/)
  })
})

describe('names', () => {
  const mint = async (params: unknown, lease: object) => {
    const one = await opened([pair], {}, params)
    return (await one.mint({ lease: one.plan(lease) })).credential.fields
  }
  it('hold who asks, and two who ask cannot come to one name', async () => {
    const params = { common_name: '{role}:{agent}', uris: ['spiffe://acme.example/{role}/{agent}'] }
    expect(await mint(params, { agent: 'triage/team-a', role: 'exports' })).toMatchObject({
      common_name: 'exports:triage/team-a',
      uris: ['spiffe://acme.example/exports/triage/team-a'],
    })
    const inside = { uris: ['spiffe://acme.example/{agent}/{path}'] }
    expect(await mint(inside, { agent: 'a', scope: { path: 'b/c' } })).toMatchObject({ uris: ['spiffe://acme.example/a/b/c'] })
    await expect(mint(inside, { agent: 'a/b', scope: { path: 'c' } })).rejects.toMatchObject({ kind: 'invalid' })
  })

  it('that would break out of their place are refused', async () => {
    for (const agent of ['..', 'a/../b', '/a', 'a/', 'a b', 'a,URI:b', 'a\nb', 'a%2e', '{task}', '', 'ä', 'a?b', 'a#b', 'a\0', 'a'.repeat(4000)]) {
      for (const params of [{ uris: ['spiffe://acme.example/{agent}'] }, { common_name: '{agent}' }, { uris: ['urn:acme:{agent}'] }])
        await expect(mint(params, { agent })).rejects.toMatchObject({ name: 'ProviderError', kind: 'invalid' })
    }
    await expect(mint({ common_name: '{agent}' }, { agent: 'a'.repeat(65) })).rejects.toMatchObject({ message: expect.stringContaining('64') })
  })

  it('are checked with the role: what no request could fill, and scopes that mean nothing', () => {
    const problems = (params: unknown, scope: Parameters<typeof x509Ca.checkRole>[1]) =>
      x509Ca.checkRole(x509Ca.params.parse(params), scope, x509Ca.options.parse({ certificates: pair.certificate, keys: pair.key })).length
    const path = { uris: ['spiffe://acme.example/{path}'] }
    expect([problems(path, { path: 'path' }), problems(path, {}), problems(path, { path: 'equal' })]).toEqual([0, 1, 2])
    expect([problems(PARAMS, { dns: 'set' }), problems(PARAMS, { dns: 'path' }), problems(PARAMS, { names: 'set' })]).toEqual([0, 1, 1])
    expect(problems({ ...PARAMS, uris: [...PARAMS.uris, 'urn:acme:x'] }, {})).toBe(1)
    expect(problems({ common_name: 'x' }, {})).toBe(0)
  })
})

describe('the options', () => {
  const problemOf = (options: object) => {
    const { error } = x509Ca.options.safeParse(options)
    return { message: error?.issues.map(({ message }) => message).join('; '), shown: inspect(error, { depth: Number.POSITIVE_INFINITY }) }
  }
  it('refuse keys that are weak, do not match, or are not those of an authority', async () => {
    const [other, weak, leaf] = await Promise.all([
      newAuthority(),
      newAuthority({ kind: ['rsa:2048'] }),
      newAuthority({ extensions: ['basicConstraints=critical,CA:FALSE'] }),
    ])
    const encrypted = await inFolder(async (at, write) => {
      const args = ['pkcs8', '-topk8', '-in', await write('key', pair.key), '-out', at('out'), '-passout', 'pass:secret']
      await execute('openssl', args)
      return readFile(at('out'), 'utf8')
    })
    for (const [certificates, keys, told] of [
      [pair.certificate, other.key, 'does not match'],
      [weak.certificate, weak.key, 'RSA with at least 3072 bits'],
      [leaf.certificate, leaf.key, 'CA:TRUE'],
      [pair.certificate, `${pair.key}${other.key}`, 'belongs to no certificate'],
      [`${pair.certificate}${pair.certificate}`, pair.key, 'same key'],
      [pair.certificate, encrypted, 'without a passphrase'],
      ['nothing', pair.key, 'no certificate'],
      [pair.certificate.replace(/\n.{64}\n/, '\n'), pair.key, 'cannot be read'],
    ] as const) {
      const { message, shown } = problemOf({ certificates, keys })
      expect(message).toContain(told)
      for (const key of [pair.key, weak.key, other.key]) expect(shown).not.toContain(key.split('\n')[1])
    }
    const blind = await newAuthority({ extensions: ['basicConstraints=critical,CA:TRUE', 'keyUsage=critical,keyCertSign'] })
    await expect(opened([blind])).rejects.toMatchObject({ kind: 'invalid', message: expect.stringContaining('cRLSign') })
  })

  it('promise what relying parties do: a list until its end, or as long as they say', async () => {
    const residual = async (more: object) => (await opened([pair], more)).provider.residualSeconds
    expect(await residual({})).toBe(3600 + 15)
    expect(await residual({ crl_lifetime: '10m' })).toBe(600 + 15)
    expect(await residual({ refresh: '30s' })).toBe(30 + 15)
    expect(problemOf({ certificates: pair.certificate, keys: pair.key, refresh: '40m' }).message).toContain('half of crl_lifetime')
  })
})

describe('a revocation', () => {
  it('refuses its certificate alone, at a server that has fetched the list; a connection that is open goes on', async () => {
    const [gone, stays] = [await authority.mint(), await authority.mint()]
    const session = await server.openSession(gone.credential)
    expect([await session.usable(), await letsIn(gone.credential), await letsIn(stays.credential)]).toEqual([true, true, true])
    await authority.provider.revoke(gone.handle, 5000)
    server.reload(await trustOf(authority))
    expect([await letsIn(gone.credential), await letsIn(stays.credential)]).toEqual([false, true])
    expect(server.refusals.at(-1)).toContain('CERT_REVOKED')
    expect(await session.usable()).toBe(true)
    await session.close()
    const trust = await trustOf(authority)
    expect([await verified(textOf(gone.credential), trust), await verified(textOf(stays.credential), trust)]).toEqual(['certificate revoked', 'ok'])
  })

  it('holds under every authority while keys rotate, of one name too', async () => {
    const [older, newer] = [await newAuthority({ name: 'Same' }), await newAuthority({ name: 'Same' })]
    const before = await opened([older])
    const after = await opened([newer, older])
    const relying = await startTlsServer(await trustOf(after))
    const [gone, stays, fresh] = [await before.mint(), await before.mint(), await after.mint()]
    for (const { credential } of [gone, stays, fresh]) expect(await letsIn(credential, relying)).toBe(true)
    await after.provider.revoke(gone.handle, 5000)
    await after.provider.revoke(fresh.handle, 5000)
    relying.reload(await trustOf(after))
    const all = [gone, stays, fresh].map(({ credential }) => letsIn(credential, relying))
    expect(await Promise.all(all)).toEqual([false, true, false])
    await relying.stop()
  })

  it('is not known to who has no list: nobody is let in by an authority whose list is missing', async () => {
    const other = await opened([await newAuthority({ name: 'Other' })])
    const relying = await startTlsServer({ ca: (await trustOf(authority)).ca, crl: (await trustOf(other)).crl })
    expect(await letsIn((await authority.mint()).credential, relying)).toBe(false)
    expect(relying.refusals.at(-1)).toContain('UNABLE_TO_GET_CRL')
    await relying.stop()
  })

  it('cannot be told without a ledger, and is an error that can be repeated when it does not answer', async () => {
    const options = { certificates: pair.certificate, keys: pair.key }
    const alone = await openAuthority(x509Ca, options, undefined, PARAMS)
    await alone.provider.check()
    await expect(alone.provider.revoke((await alone.mint()).handle, 5000)).rejects.toMatchObject({ name: 'ProviderError' })
    const away = { ...register, add: () => new Promise<never>(() => undefined), read: () => Promise.reject(new Error('connection refused')) }
    const one = await openAuthority(x509Ca, options, away, PARAMS)
    await expect(one.provider.revoke((await one.mint()).handle, 200)).rejects.toMatchObject({ kind: 'timeout' })
    await expect(one.document('crl.pem')).rejects.toMatchObject({ kind: 'unreachable' })
  })
})
