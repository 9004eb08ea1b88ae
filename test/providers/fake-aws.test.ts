import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { type FakeAws, startFakeAws } from './fake-aws.js'

const ROLE = 'arn:aws:iam::123456789012:role/demo'
const SIGNED = `AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260101/us-east-1/sts/aws4_request, SignedHeaders=host;x-amz-date, Signature=${'0'.repeat(64)}`
/** The parameters of the example in the API reference's page of AssumeRole. */
const EXAMPLE = {
  Version: '2011-06-15',
  Action: 'AssumeRole',
  RoleSessionName: 'testAR',
  RoleArn: ROLE,
  Policy: '{"Version":"2012-10-17","Statement":[{"Sid":"Stmt1","Effect":"Allow","Action":"s3:*","Resource":"*"}]}',
  DurationSeconds: '3600',
  'Tags.member.1.Key': 'Project',
  'Tags.member.1.Value': 'Pegasus',
  'Tags.member.2.Key': 'Team',
  'Tags.member.2.Value': 'Engineering',
  'TransitiveTagKeys.member.1': 'Project',
  ExternalId: '123ABC',
  SourceIdentity: 'Alice',
}
/** None of them. */
const NOTHING = Object.fromEntries(Object.keys(EXAMPLE).flatMap((key) => (['Version', 'Action'].includes(key) ? [] : [[key, undefined]])))
/** Names and nesting of the elements of that page's sample response, in its order. */
const EXAMPLE_ELEMENTS = [
  'AssumeRoleResponse AssumeRoleResult SourceIdentity AssumedRoleUser Arn AssumedRoleId Credentials AccessKeyId SecretAccessKey SessionToken',
  'Expiration PackedPolicySize ResponseMetadata RequestId',
].join(' ')

describe('the fake of AWS', () => {
  let aws: FakeAws
  const ask = async (change: Record<string, string | undefined> = {}, authorization = SIGNED) => {
    const fields = Object.entries({ ...EXAMPLE, ...change }).filter((field): field is [string, string] => field[1] !== undefined)
    const response = await fetch(aws.endpoint, { method: 'POST', body: new URLSearchParams(fields), headers: { authorization } })
    return { status: response.status, body: await response.text() }
  }
  const inside = (body: string, name: string) => new RegExp(`<${name}>([^<]*)</${name}>`).exec(body)?.[1]
  const refused = async (change: Record<string, string | undefined>) => inside((await ask(change)).body, 'Code')
  beforeAll(async () => {
    const policy = '{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["s3:Get*","sts:AssumeRole"],"Resource":"*"}}'
    aws = await startFakeAws({ accessKeyId: 'AKIAEXAMPLE', roles: { [ROLE]: { policy, externalId: '123ABC' } } })
  })
  afterAll(() => aws.stop())

  it('answers the documented example with the documented elements', async () => {
    const { status, body } = await ask()
    expect(status).toBe(200)
    expect([...body.matchAll(/<([A-Za-z]+)[ >]/g)].map(([, name]) => name).join(' ')).toBe(EXAMPLE_ELEMENTS)
    expect(body).toContain('xmlns="https://sts.amazonaws.com/doc/2011-06-15/"')
    expect(inside(body, 'SourceIdentity')).toBe('Alice')
    expect(inside(body, 'Arn')).toMatch(/^arn:aws:sts::\d{12}:assumed-role\/demo\/testAR$/)
    expect(inside(body, 'Expiration')).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/)
    expect(aws.assumed.at(-1)).toMatchObject({ tags: { Project: 'Pegasus', Team: 'Engineering' }, transitive: ['Project'], durationSeconds: 3600 })
  })

  it('says who is calling', async () => {
    const { body } = await ask({ ...NOTHING, Action: 'GetCallerIdentity' })
    expect([...body.matchAll(/<([A-Za-z]+)[ >]/g)].map(([, name]) => name).slice(0, 5)).toEqual([
      'GetCallerIdentityResponse',
      'GetCallerIdentityResult',
      'Arn',
      'UserId',
      'Account',
    ])
  })

  it.each([
    ['a session name of 65 characters', { RoleSessionName: 'a'.repeat(65) }],
    ['a session name with a slash', { RoleSessionName: 'a/b' }],
    ['no session name', { RoleSessionName: undefined }],
    ['a source identity with a blank', { SourceIdentity: 'a b' }],
    ['a source identity in the name space of AWS', { SourceIdentity: 'aws:me' }],
    ['899 seconds', { DurationSeconds: '899' }],
    ['more seconds than the role allows', { DurationSeconds: '3601' }],
    ['a policy of 2,049 characters', { Policy: EXAMPLE.Policy.padEnd(2049) }],
    ['a policy with a character outside Latin-1', { Policy: EXAMPLE.Policy.replace('Stmt1', '☃') }],
    ['a tag value with a quote', { 'Tags.member.1.Value': '"' }],
    ['a transitive key that is no tag', { 'TransitiveTagKeys.member.1': 'Other' }],
  ])('refuses %s', async (_what, change) => {
    const before = aws.assumed.length
    expect(await refused(change)).toBe('ValidationError')
    expect(aws.assumed).toHaveLength(before)
  })

  it('refuses malformed policies, and what it could not evaluate', async () => {
    const policy = (statement: object) => ({ Policy: JSON.stringify({ Version: '2012-10-17', Statement: statement }) })
    const good = { Effect: 'Allow', Action: 's3:*', Resource: '*' }
    expect(await refused(policy(good))).toBeUndefined()
    expect(await refused({ Policy: '{' })).toBe('MalformedPolicyDocument')
    expect(await refused(policy({ ...good, Principal: '*' }))).toBe('MalformedPolicyDocument')
    expect(await refused(policy({ ...good, Resource: 'bucket' }))).toBe('MalformedPolicyDocument')
    expect(await refused(policy({ ...good, Condition: { NumericEquals: { 'aws:x': '1' } } }))).toBe('FakeCannot')
  })

  it('refuses a role that is not there, a wrong external id, a key it does not know and a request without a signature', async () => {
    expect(await refused({ RoleArn: `${ROLE}-other` })).toBe('AccessDenied')
    expect(await refused({ ExternalId: 'another' })).toBe('AccessDenied')
    expect(inside((await ask({}, SIGNED.replace('AKIAEXAMPLE', 'AKIAOTHER'))).body, 'Code')).toBe('InvalidClientTokenId')
    expect(inside((await ask({}, 'none')).body, 'Code')).toBe('MissingAuthenticationToken')
  })

  it('lets a session do what both the role and its own policy allow, until a date, and never what is denied', async () => {
    const at = Date.parse('2030-01-01T00:00:00Z')
    const statements = [
      { Effect: 'Allow', Action: 's3:*', Resource: 'arn:aws:s3:::exports/*' },
      {
        Effect: 'Deny',
        Action: '*',
        Resource: '*',
        Condition: { DateGreaterThan: { 'aws:CurrentTime': new Date(Date.now() + 60_000).toISOString() } },
      },
      { Effect: 'Deny', Action: 'sts:AssumeRole', Resource: '*' },
    ]
    await ask({ Policy: JSON.stringify({ Version: '2012-10-17', Statement: statements }) })
    const session = aws.assumed.at(-1)
    if (session === undefined) throw new Error('no session')
    expect(aws.authorize(session, 's3:GetObject', 'arn:aws:s3:::exports/a')).toBe(true)
    expect(aws.authorize(session, 's3:PutObject', 'arn:aws:s3:::exports/a')).toBe(false)
    expect(aws.authorize(session, 's3:GetObject', 'arn:aws:s3:::other/a')).toBe(false)
    expect(aws.authorize(session, 'sts:AssumeRole', '*')).toBe(false)
    expect(aws.authorize(session, 's3:GetObject', 'arn:aws:s3:::exports/a', Date.now() + 61_000)).toBe(false)
    expect(aws.authorize(session, 's3:GetObject', 'arn:aws:s3:::exports/a', at)).toBe(false)
    expect(aws.authorize({ ...session, secretAccessKey: 'x' }, 's3:GetObject', 'arn:aws:s3:::exports/a')).toBe(false)
  })
})
