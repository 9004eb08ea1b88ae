import { describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { narrow, params, regexOf } from '../../src/providers/rabbitmq/names.js'
import { rabbitmq } from '../../src/providers/rabbitmq.js'

describe('narrowing', () => {
  const role = params.parse({ configure: ['orders.tmp-*'], write: ['orders.*', 'amq.default'], read: ['orders.*', 'orders', 'a*b'] })
  const refused = (scope: Parameters<typeof narrow>[1]) => expect(() => narrow(role, scope)).toThrow(expect.objectContaining({ kind: 'invalid' }))

  it('takes a path, for its own name and all below it, as far as each permission reaches', () => {
    expect(narrow(role, { names: 'orders/eu' })).toEqual({ configure: [], write: ['orders.eu', 'orders.eu.*'], read: ['orders.eu', 'orders.eu.*'] })
    expect(narrow(role, { names: 'orders/' })).toEqual({ configure: [], write: ['orders.*'], read: ['orders', 'orders.*'] })
    expect(narrow(params.parse({ read: ['a/*'], separator: '/' }), { names: 'a/b' }).read).toEqual(['a/b', 'a/b/*'])
  })

  it('takes a list of names and patterns that all lie within the role', () => {
    expect(narrow(role, { names: ['orders.tmp-1', 'amq.default'] })).toEqual({
      configure: ['orders.tmp-1'],
      write: ['orders.tmp-1', 'amq.default'],
      read: ['orders.tmp-1'],
    })
    refused({ names: ['orders.eu', 'secret'] })
    refused({ names: ['axb'] })
    refused({ names: [] })
  })

  it('takes fewer permissions', () => {
    expect(narrow(role, { permissions: ['read'], names: 'orders/eu' })).toEqual({ configure: [], write: [], read: ['orders.eu', 'orders.eu.*'] })
    refused({ permissions: ['configure'], names: 'orders/eu' })
    refused({ permissions: [] })
  })

  it('never reaches a name that the role does not', () => {
    const matches = (regex: string, name: string) => new RegExp(regex.replace(/^\\A/, '^').replace(/\\z$/, '$')).test(name)
    const part = fc.constantFrom('orders', 'o', '.', '*', 'eu', 'tmp-', 'a', 'b', 'secret', '|', '(', '\\')
    const name = fc.array(part, { minLength: 1, maxLength: 6 }).map((parts) => parts.join(''))
    const subject = name.map((text) => text.replaceAll('*', 'x'))
    fc.assert(
      fc.property(fc.oneof(name, fc.array(name, { minLength: 1, maxLength: 3 })), subject, (names, one) => {
        let left: ReturnType<typeof narrow>
        try {
          left = narrow(role, { names })
        } catch (error) {
          return expect(error).toMatchObject({ name: 'ProviderError', kind: 'invalid' })
        }
        for (const operation of ['configure', 'write', 'read'] as const)
          if (matches(regexOf(left[operation]), one)) expect(matches(regexOf(role[operation]), one)).toBe(true)
      }),
      { numRuns: 2000 },
    )
  })
})

describe('the configuration', () => {
  const options = { url: 'https://u:p@rabbit.example:15671', amqp_url: 'amqps://rabbit.example' }

  it.each(['', 'https://', 'amqp://u:p@h', 'https://h', 'https://u:p@h?x=1', 'https://u:p@h#x'])('refuses the url %p', (url) => {
    expect(rabbitmq.options.safeParse({ ...options, url }).success).toBe(false)
  })
  it.each(['', 'https://h', 'amqp://u:p@h', 'amqp://h/vhost', 'amqps://h?verify=none'])('refuses the amqp_url %p', (amqp_url) => {
    expect(rabbitmq.options.safeParse({ ...options, amqp_url }).success).toBe(false)
  })

  it('tells an upstream apart by its place, not by its credentials', () => {
    const target = (url: string) => rabbitmq.target(rabbitmq.options.parse({ ...options, url }))
    expect(target('https://a:secret@rabbit.example:15671')).toBe(target(options.url))
    expect(target('https://a:secret@rabbit.example:15671')).not.toContain('secret')
  })

  it('says which scopes a role may have, and that a role must allow something', () => {
    const check = (scope: Parameters<typeof rabbitmq.checkRole>[1], given = {}) =>
      rabbitmq.checkRole(params.parse({ read: ['q'], ...given }), scope, rabbitmq.options.parse(options))
    expect(check({ names: 'path', permissions: 'set' })).toEqual([])
    expect(check({ names: 'equal', vhost: 'set' }, { read: [] })).toHaveLength(3)
  })
})
