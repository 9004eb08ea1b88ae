import { execFileSync } from 'node:child_process'
import { describe, expect, it } from '@jest/globals'
import { formatted } from '../../src/cli/formats.js'
import { deadline, pairs, seconds } from '../../src/cli/parse.js'
import { plain } from '../../src/cli/text.js'
import { issued } from '../client/wire.js'

describe('a credential is printed', () => {
  it('for a shell, which reads back each byte of it', () => {
    const value = `it's $HOME \`id\` "x" \\ \n *`
    const said = formatted('env', issued({ PGPASSWORD: value }))
    const printed = execFileSync('sh', ['-c', `${said}\nprintf %s "$PGPASSWORD"`]).toString()
    expect(printed).toBe(value)
  })
  it('for a shell, unless a name would be a command', () => {
    expect(() => formatted('env', issued({ 'X=1; id #': 'y' }))).toThrow(/cannot be given as env/)
  })
  it('for AWS as credential_process wants it', () => {
    const env = { AWS_ACCESS_KEY_ID: 'AKIA', AWS_SECRET_ACCESS_KEY: 's', AWS_SESSION_TOKEN: 't' }
    expect(JSON.parse(formatted('aws', issued(env)))).toEqual({
      Version: 1,
      AccessKeyId: 'AKIA',
      SecretAccessKey: 's',
      SessionToken: 't',
      Expiration: '2030-01-01T00:00:00.000Z',
    })
  })
  it('for libpq, with what separates fields escaped', () => {
    const env = { PGHOST: '::1', PGPORT: '5433', PGDATABASE: 'db', PGUSER: 'u', PGPASSWORD: 'a:b\\c' }
    expect(formatted('pgpass', issued(env))).toBe('\\:\\:1:5433:db:u:a\\:b\\\\c')
  })
  it('in no shape that it does not have', () => {
    expect(() => formatted('aws', issued({ MAYFLY_JWT: 'x' }))).toThrow(/"jwt"/)
    expect(() => formatted('pgpass', issued({ PGHOST: 'h', PGUSER: 'u', PGPASSWORD: 'a\nb' }))).toThrow(/line break/)
  })
})

describe('what is typed', () => {
  it('may be a duration or a time', () => {
    expect([seconds('90'), seconds('15m'), seconds('1h')]).toEqual([90, 900, 3_600])
    for (const wrong of ['', '0', '-1', '1.5h', '1w', '1e3']) expect(() => seconds(wrong)).toThrow(/15m/)
    expect(deadline('1m', 0)).toBe('1970-01-01T00:01:00.000Z')
    expect(deadline('2030-01-31T12:00:00+02:00')).toBe('2030-01-31T10:00:00.000Z')
  })
  it('may be the same key again, which makes a list', () => {
    expect(pairs('c=x=y', pairs('t=b', pairs('t=a')))).toEqual({ t: ['a', 'b'], c: 'x=y' })
    expect(() => pairs('novalue')).toThrow(/key=value/)
  })
})

it('nothing that came over the wire steers the terminal', () => {
  expect(plain('a\u001b[2Jb\r\nc\u2028d\u202ee')).toBe('a\\u001b[2Jb\\u000d\\u000ac\\u2028d\\u202ee')
})
