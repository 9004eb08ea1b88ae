import { execFileSync } from 'node:child_process'
import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { narrow, params, problemsOf } from '../../src/providers/mysql/grants.js'
import { cachingSha2Hash, nativeHash, shaCrypt } from '../../src/providers/mysql/password.js'
import { SERVERS } from '../../src/providers/mysql/servers.js'
import { mysql } from '../../src/providers/mysql.js'
import { newLeaseId } from './harness.js'

describe('what a server stores of a password', () => {
  it('is for MariaDB the documented hash', () => {
    // https://mariadb.com/kb/en/password/
    expect(nativeHash('mariadb')).toBe('*54958E764CE10E50764C2EECBB71D01F08549980')
    expect(nativeHash('password')).toBe('*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19')
  })

  it('is for MySQL a SHA-crypt digest, as another implementation makes it', () => {
    for (const password of ['a', 'x'.repeat(31), 'y'.repeat(32), 'z'.repeat(43), 'w'.repeat(64), 'longer than two blocks '.repeat(4)]) {
      const theirs = execFileSync('openssl', ['passwd', '-5', '-salt', 'abcdefghijklmnop', '-stdin'], { input: password }).toString().trim()
      expect(`$5$abcdefghijklmnop$${shaCrypt(password, 'abcdefghijklmnop')}`).toBe(theirs)
    }
  })

  it('is salted anew each time, with characters that end no string', () => {
    const [one, two] = [cachingSha2Hash('same'), cachingSha2Hash('same')]
    expect(one).toMatch(/^\$A\$005\$[./0-9A-Za-z]{63}$/)
    expect(one).not.toBe(two)
  })
})

describe('names', () => {
  const lease = `lease_17${'a'.repeat(26)}`

  it('have the length that MySQL allows, whatever the instance', () => {
    for (const instance of ['a', 'x'.repeat(20)]) expect(SERVERS.mysql.userOf(instance, lease)).toMatch(/^mf-[0-9a-v]{29}$/)
  })

  it('differ by instance and by lease', () => {
    const names = ['a', 'b'].flatMap((instance) => [lease, newLeaseId()].map((id) => SERVERS.mysql.userOf(instance, id)))
    expect(new Set(names).size).toBe(4)
  })

  it('are found again by the account’s attribute, and only where it tells the truth', () => {
    const row = { User: SERVERS.mysql.userOf('a', lease), Host: '%', User_attributes: { metadata: { mayfly: 'a', lease } } }
    expect(SERVERS.mysql.leaseOf('a', row)).toBe(lease)
    expect(SERVERS.mysql.leaseOf('b', row)).toBeUndefined()
    const forged = [
      { ...row, User: 'mf-root' },
      { ...row, User_attributes: { metadata: { mayfly: 'a', lease: newLeaseId() } } },
      { ...row, User_attributes: { metadata: { mayfly: 'a', lease: "x'; --" } } },
      { ...row, User_attributes: { metadata: { mayfly: 'a' } } },
      { ...row, User_attributes: null },
      { ...row, User_attributes: 'text' },
    ]
    for (const one of forged) expect(SERVERS.mysql.leaseOf('a', one)).toBeUndefined()
  })
})

describe('narrowing', () => {
  const role = params.parse({
    grants: [
      { database: 'shop', privileges: ['SELECT', 'INSERT', 'EXECUTE'] },
      { database: 'crm', tables: ['people', 'notes'], privileges: ['SELECT', 'UPDATE'] },
    ],
  })
  const left = (scope: Parameters<typeof narrow>[1]) =>
    narrow(role, scope).map(({ database, table = '*', privileges }) => `${database}.${table}: ${privileges.join(' ')}`)

  it('takes a path of one or two names, and of what lies below it what the role has', () => {
    expect(left({ tables: 'shop' })).toEqual(['shop.*: SELECT INSERT EXECUTE'])
    expect(left({ tables: 'shop/orders' })).toEqual(['shop.orders: SELECT INSERT'])
    expect(left({ tables: 'crm' })).toEqual(['crm.people: SELECT UPDATE', 'crm.notes: SELECT UPDATE'])
    expect(left({ tables: ['crm/notes', 'shop/'] })).toEqual(['crm.notes: SELECT UPDATE', 'shop.*: SELECT INSERT EXECUTE'])
  })

  it('takes fewer privileges, and leaves out what then has none', () => {
    expect(left({ privileges: ['UPDATE'] })).toEqual(['crm.people: UPDATE', 'crm.notes: UPDATE'])
    expect(left({ privileges: ['SELECT'], tables: 'shop/a' })).toEqual(['shop.a: SELECT'])
  })

  it('never grants what the role would not, whatever the scope', () => {
    const allowed = new Set(left({}))
    fc.assert(
      fc.property(
        fc.record({
          tables: fc.oneof(fc.string(), fc.constantFrom('shop', 'crm', 'crm/people', 'shop/x')),
          privileges: fc.array(fc.constantFrom('SELECT', 'UPDATE', 'ALL')),
        }),
        (scope) => {
          let grants: string[]
          try {
            grants = left(scope)
          } catch (error) {
            return expect(error).toMatchObject({ name: 'ProviderError', kind: 'invalid' })
          }
          for (const grant of grants) {
            const [place = '', privileges = ''] = grant.split(': ')
            const whole = [...allowed].filter((one) => one.startsWith(`${place}:`) || one.startsWith(`${place.split('.')[0]}.*:`))
            expect(whole.some((one) => privileges.split(' ').every((privilege) => one.includes(privilege)))).toBe(true)
          }
        },
      ),
    )
  })
})

describe('the configuration', () => {
  const options = { server: 'mariadb', url: 'mysql://u:p@db.example:3306' }
  const grants = [{ database: 'shop', privileges: ['SELECT'] }]

  it.each([
    '',
    'mysql://',
    'postgres://u:p@h',
    'mysql://h:3306',
    'mysql://u:p@h/db',
    'mysql://u:p@h?multipleStatements=true',
    'mysql://u:p@h?ssl=false',
  ])('refuses the url %p', (url) => {
    expect(mysql.options.safeParse({ ...options, url }).error?.issues[0]?.message).toContain('mysql://user:password@host:3306')
  })

  it('verifies TLS unless told otherwise, and then wants a name to compare with the certificate', () => {
    expect(mysql.options.parse(options)).toMatchObject({ tls: 'verify' })
    const address = { ...options, url: 'mysql://u:p@127.0.0.1:3306' }
    expect(mysql.options.safeParse(address).error?.issues[0]?.message).toContain('must be a name')
    expect(mysql.options.safeParse({ ...address, tls: 'off' }).success).toBe(true)
  })

  it('wants to know which server it is', () => {
    expect(mysql.options.safeParse({ url: options.url }).success).toBe(false)
  })

  it.each(["%'; --", "x'@'y", '', 'a b', 'a\n', 'x'.repeat(61)])('refuses the account host %p', (account_host) => {
    expect(mysql.options.safeParse({ ...options, account_host }).success).toBe(false)
  })

  it('tells an upstream apart by its place, not by its credentials', () => {
    const target = (change: object) => mysql.target(mysql.options.parse({ ...options, ...change }))
    expect(target({ url: 'mysql://a:secret@db.example' })).toBe(target({}))
    expect(target({ url: 'mysql://a:secret@db.example' })).not.toContain('secret')
    expect(target({ url: 'mysql://u:p@other.example' })).not.toBe(target({}))
  })

  it('says which scopes a role may have', () => {
    const check = (scope: Parameters<typeof mysql.checkRole>[1]) => mysql.checkRole(params.parse({ grants }), scope, mysql.options.parse(options))
    expect(check({ tables: 'path', privileges: 'set' })).toEqual([])
    expect(check({ tables: 'equal', database: 'set', privileges: 'path' })).toHaveLength(3)
  })

  it('refuses a privilege on whole databases where tables are named, and a default database that is not granted', () => {
    expect(problemsOf(params.parse({ grants: [{ database: 'a', tables: ['t'], privileges: ['EXECUTE'] }], database: 'b' }))).toHaveLength(2)
  })
})
