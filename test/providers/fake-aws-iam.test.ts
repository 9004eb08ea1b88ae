import { afterEach, beforeEach, describe, expect, it } from '@jest/globals'
import { type FakeAws, startFakeAws } from './fake-aws.js'

const ROLE = 'arn:aws:iam::111122223333:role/S3Access'
const signedFor = (service: string) =>
  `AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/us-east-1/${service}/aws4_request, SignedHeaders=host;x-amz-date, Signature=${'0'.repeat(64)}`
/** The parameters of the example in the API reference's page of PutRolePolicy. */
const EXAMPLE = {
  Version: '2010-05-08',
  Action: 'PutRolePolicy',
  RoleName: 'S3Access',
  PolicyName: 'S3AccessPolicy',
  PolicyDocument: '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}',
}
const BOUNDARY = 'arn:aws:iam::111122223333:policy/bound'

describe("the fake of IAM's inline policies", () => {
  let aws: FakeAws
  const start = async (more: object = {}, role: object = {}) => {
    await aws?.stop()
    const policy = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"sqs:*","Resource":"*"}}'
    aws = await startFakeAws({ accessKeyId: 'AKIAEXAMPLE', roles: { [ROLE]: { policy, ...role } }, ...more })
  }
  const ask = async (change: Record<string, string | undefined> = {}, service = 'iam') => {
    const fields = Object.entries({ ...EXAMPLE, ...change }).filter((field): field is [string, string] => field[1] !== undefined)
    const headers = { authorization: signedFor(service) }
    const response = await fetch(aws.endpoint, { method: 'POST', body: new URLSearchParams(fields), headers })
    return { status: response.status, body: await response.text(), date: response.headers.get('date') }
  }
  const inside = (body: string, name: string) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(body)?.[1]
  const refused = async (change: Record<string, string | undefined>) => {
    const { status, body } = await ask(change)
    return `${status} ${inside(body, 'Code')}`
  }
  const session = async () => {
    const change = { Version: '2011-06-15', Action: 'AssumeRole', RoleArn: ROLE, RoleSessionName: 'a-session' }
    await ask({ ...change, RoleName: undefined, PolicyName: undefined, PolicyDocument: undefined }, 'sts')
    const made = aws.assumed.at(-1)
    if (made === undefined) throw new Error('no session')
    return made
  }
  const named = { PolicyDocument: undefined, Action: 'GetRolePolicy' }
  beforeEach(() => start())
  afterEach(() => aws.stop())

  it('takes the documented example, and answers with what the reference shows', async () => {
    const put = await ask()
    expect(put.status).toBe(200)
    expect([...put.body.matchAll(/<([A-Za-z]+)[ >]/g)].map(([, name]) => name)).toEqual(['PutRolePolicyResponse', 'ResponseMetadata', 'RequestId'])
    expect(put.body).toContain('xmlns="https://iam.amazonaws.com/doc/2010-05-08/"')
    expect(Date.parse(put.date ?? '')).not.toBeNaN()
    const got = await ask(named)
    expect(inside(got.body, 'PolicyDocument')).toMatch(/^%7B%22Version%22%3A%222012-10-17%22/)
    expect(decodeURIComponent(inside(got.body, 'PolicyDocument') ?? '')).toBe(EXAMPLE.PolicyDocument)
    expect((await ask({ ...named, Action: 'ListRolePolicies', PolicyName: undefined })).body).toContain('<member>S3AccessPolicy</member>')
    expect((await ask({ ...named, Action: 'DeleteRolePolicy' })).status).toBe(200)
    expect(await refused(named)).toBe('404 NoSuchEntity')
    expect(await refused({ ...named, Action: 'DeleteRolePolicy' })).toBe('404 NoSuchEntity')
  })

  it.each<[string, Record<string, string | undefined>, string]>([
    ['a role that is not there', { RoleName: 'Other' }, '404 NoSuchEntity'],
    ['a policy that is none', { PolicyDocument: '{' }, '400 MalformedPolicyDocument'],
    [
      'what it could not evaluate',
      { PolicyDocument: EXAMPLE.PolicyDocument.replace('"*"}', '"*","Condition":{"Foo":{"a":"b"}}}') },
      '501 FakeCannot',
    ],
    ['a name with a slash', { PolicyName: 'a/b' }, '400 ValidationError'],
    ['a name of 129 characters', { PolicyName: 'a'.repeat(129) }, '400 ValidationError'],
    ['no name', { PolicyName: undefined }, '400 ValidationError'],
    ['a document outside Latin-1', { PolicyDocument: EXAMPLE.PolicyDocument.replace('s3', '☃') }, '400 ValidationError'],
    ['a parameter that the operation has not', { RoleArn: ROLE }, '400 ValidationError'],
    ['an operation that it has not', { Action: 'CreateUser' }, '400 InvalidAction'],
    ['another version', { Version: '2011-06-15' }, '400 InvalidAction'],
  ])('refuses %s', async (_what, change, code) => {
    expect(await refused(change)).toBe(code)
    expect([...aws.inline(ROLE)]).toEqual([])
  })

  it('counts all inline policies of a role together, without white space', async () => {
    const long = (length: number) => EXAMPLE.PolicyDocument.replace('s3:*', `s3:${'a'.repeat(length - EXAMPLE.PolicyDocument.length + 1)}`)
    expect((await ask({ PolicyDocument: `${long(10_000)}${' '.repeat(1000)}` })).status).toBe(200)
    expect((await ask({ PolicyName: 'second', PolicyDocument: long(240) })).status).toBe(200)
    expect(await refused({ PolicyName: 'second', PolicyDocument: long(241) })).toBe('409 LimitExceeded')
    expect((await ask({ PolicyDocument: long(10_000) })).status).toBe(200)
    expect(await refused({ PolicyName: 'third' })).toBe('409 LimitExceeded')
  })

  it('lets a change be in force and be read only after a while', async () => {
    await start({ delays: { propagationMs: 60_000, readLagMs: 60_000 } })
    const made = await session()
    const may = (later: number) => aws.authorize(made, 's3:GetObject', '*', Date.now() + later)
    await ask()
    expect([may(0), may(59_000), may(60_000)]).toEqual([false, false, true])
    expect(await refused(named)).toBe('404 NoSuchEntity')
    aws.delays.readLagMs = 0
    expect((await ask(named)).status).toBe(200)
  })

  it('denies a session by its tag, its source identity or its time of issue', async () => {
    const made = await session()
    const may = () => aws.authorize(made, 'sqs:SendMessage', '*')
    const deny = (Condition: object) => ({
      PolicyDocument: JSON.stringify({ Version: '2012-10-17', Statement: { Effect: 'Deny', Action: '*', Resource: '*', Condition } }),
    })
    const time = (at: number) => new Date(at).toISOString()
    await ask(deny({ StringLike: { 'aws:SourceIdentity': '*' } }))
    expect(may()).toBe(true)
    await ask(deny({ DateLessThan: { 'aws:TokenIssueTime': time(made.issuedAt) } }))
    expect(may()).toBe(true)
    await ask(deny({ DateLessThan: { 'aws:TokenIssueTime': time(made.issuedAt + 1000) } }))
    expect(may()).toBe(false)
  })

  it('holds the role to its boundary, and the broker to what it may do', async () => {
    const allow = (statement: object) => JSON.stringify({ Version: '2012-10-17', Statement: { Effect: 'Allow', Resource: '*', ...statement } })
    const bound = { Condition: { StringEquals: { 'iam:PermissionsBoundary': BOUNDARY } } }
    const brokerPolicy = allow({ Action: ['iam:PutRolePolicy', 'sts:AssumeRole'], ...bound })
    await start({ brokerPolicy })
    expect(await refused({})).toBe('403 AccessDenied')
    await start({ brokerPolicy }, { boundary: { arn: BOUNDARY, policy: allow({ Action: 'sqs:*' }) } })
    expect((await ask()).status).toBe(200)
    expect(await refused({ ...named, Action: 'DeleteRolePolicy' })).toBe('403 AccessDenied')
    const made = await session()
    expect(aws.authorize(made, 'sqs:SendMessage', '*')).toBe(true)
    expect(aws.authorize(made, 's3:GetObject', '*')).toBe(false)
  })

  it('refuses to change the roles of services', async () => {
    const service = 'arn:aws:iam::111122223333:role/aws-service-role/x.amazonaws.com/S3Access'
    await start({ roles: { [service]: { policy: EXAMPLE.PolicyDocument } } })
    expect(await refused({})).toBe('400 UnmodifiableEntity')
  })

  it('ends what sessions may do with their role', async () => {
    const made = await session()
    expect(aws.authorize(made, 'sqs:SendMessage', '*')).toBe(true)
    aws.deleteRole(ROLE)
    expect(aws.authorize(made, 'sqs:SendMessage', '*')).toBe(false)
    expect(await refused({})).toBe('404 NoSuchEntity')
  })
})
