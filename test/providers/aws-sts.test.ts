import { describe, expect, it } from '@jest/globals'
import { MAX_POLICY_LENGTH, type Narrowing, policyDocument, policyProblems, sessionPolicy } from '../../src/providers/aws-sts/policy.js'
import { awsSts } from '../../src/providers/aws-sts.js'
import { ProviderError } from '../../src/providers/provider.js'
import type { Scope } from '../../src/types.js'
import { startFakeAws } from './fake-aws.js'
import { plan, requestOf } from './harness.js'

const EXPIRES = Date.parse('2030-05-01T12:00:00.999Z')
const dollar = (name: string) => '$'.concat(`{${name}}`)
const narrowing = (statements: object | object[], allowIam = false): Narrowing => ({
  policy: policyDocument.parse({ Version: '2012-10-17', Statement: statements }),
  allowIam,
})
const read = (Resource: unknown, more: object = {}) => ({ Effect: 'Allow', Action: 's3:GetObject', Resource, ...more })
const filled = (from: Narrowing, scope: Scope = {}) => JSON.parse(sessionPolicy(from, scope, { expiresAt: EXPIRES }))

describe('the session policy of a lease', () => {
  it('is what the role allows, until the lease ends, without IAM and other roles', () => {
    expect(filled(narrowing(read('arn:aws:s3:::exports/*')))).toEqual({
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Action: 's3:GetObject', Resource: 'arn:aws:s3:::exports/*' },
        { Effect: 'Deny', Action: '*', Resource: '*', Condition: { DateGreaterThan: { 'aws:CurrentTime': '2030-05-01T12:00:00Z' } } },
        { Effect: 'Deny', Action: ['iam:*', 'sts:AssumeRo*', 'sts:Get*Token'], Resource: '*' },
      ],
    })
  })

  it('allows what the AWS role does where the role has no policy of its own', () => {
    expect(filled({ allowIam: false }).Statement[0]).toEqual({ Effect: 'Allow', Action: '*', Resource: '*' })
  })

  it('leaves IAM to a role that says so', () => {
    expect(filled(narrowing(read('*'), true)).Statement).toHaveLength(2)
  })

  it('takes scopes into parsed strings, one text or several', () => {
    const from = narrowing([
      read([`arn:aws:s3:::b/${dollar('scope.prefix')}/*`, 'arn:aws:s3:::b/common']),
      read('*', {
        Condition: { StringEquals: { 'aws:ResourceTag/env': dollar('scope.env') }, StringLike: { 's3:prefix': `${dollar('scope.prefix')}/*` } },
      }),
    ])
    const [first, second] = filled(from, { prefix: ['a', 'b "quoted\\"'], env: 'prod' }).Statement
    expect(first.Resource).toEqual(['arn:aws:s3:::b/a/*', 'arn:aws:s3:::b/b "quoted\\"/*', 'arn:aws:s3:::b/common'])
    expect(second.Condition).toEqual({ StringEquals: { 'aws:ResourceTag/env': 'prod' }, StringLike: { 's3:prefix': ['a/*', 'b "quoted\\"/*'] } })
  })

  it('leaves the policy variables of AWS as they are', () => {
    const own = `arn:aws:s3:::b/${dollar('aws:PrincipalTag/mayfly-lease')}/*`
    expect(filled(narrowing(read(own))).Statement[0].Resource).toBe(own)
  })

  it('takes values literally, also where they look like replacement patterns', () => {
    expect(filled(narrowing(read(`arn:aws:s3:::b/${dollar('scope.x')}`)), { x: "a&'b" }).Statement[0].Resource).toBe("arn:aws:s3:::b/a&'b")
  })

  it('is plain Latin-1 for AWS whatever the scope says', () => {
    const text = sessionPolicy(narrowing(read(`arn:aws:s3:::b/${dollar('scope.x')}`)), { x: 'Überblick ☃' }, { expiresAt: EXPIRES })
    expect(text).toMatch(/^[ -~]+$/)
    expect(JSON.parse(text).Statement[0].Resource).toBe('arn:aws:s3:::b/Überblick ☃')
  })

  it.each<[string, Scope]>([
    ['a wildcard', { x: 'a*' }],
    ['a single-character wildcard', { x: 'a?' }],
    ['a policy variable', { x: dollar('aws:userid') }],
    ['a placeholder', { x: dollar('scope.x') }],
    ['a line break', { x: 'a\nb' }],
    ['nothing', { x: '' }],
    ['no value', { x: [] }],
    ['a key that it does not use', { x: 'a', y: 'b' }],
    ['no scope at all', {}],
    ['a key of the prototype', { x: 'a', constructor: 'b' }],
    ['more than fits', { x: Array.from({ length: 60 }, (_, index) => `${index}-${'x'.repeat(30)}`) }],
  ])('refuses %s', (_what, scope) => {
    expect(() => sessionPolicy(narrowing(read(`arn:aws:s3:::b/${dollar('scope.x')}`)), scope, { expiresAt: EXPIRES })).toThrow(ProviderError)
  })

  it('says while the configuration is read what is wrong with a role', () => {
    const problems = (statements: object | object[], scope: Parameters<typeof policyProblems>[1] = { x: 'path' }) =>
      policyProblems(narrowing(statements), scope, false)
    const x = dollar('scope.x')
    expect(problems(read(`arn:aws:s3:::b/${x}`))).toEqual([])
    expect(problems(read('*'))).toEqual([expect.stringContaining('scope.x narrows nothing')])
    expect(problems(read(`arn:aws:s3:::b/${x}`), {})).toEqual([expect.stringContaining("which the role's scope does not have")])
    expect(problems({ Effect: 'Deny', Action: '*', Resource: x })).toEqual([expect.stringContaining('Deny')])
    expect(problems({ Effect: 'Allow', Action: '*', NotResource: x })).toEqual([expect.stringContaining('NotResource')])
    expect(problems({ Effect: 'Allow', NotAction: `s3:${x}`, Resource: '*' })).toEqual([expect.stringContaining('NotAction')])
    expect(problems(read('*', { Condition: { StringNotEquals: { 'aws:PrincipalTag/x': x } } }))).toEqual([
      expect.stringContaining('positive String or Arn operator'),
    ])
    for (const operator of ['Null', 'Bool', 'NumericGreaterThan', 'DateLessThan', 'ForAllValues:StringEquals'])
      expect(problems(read('*', { Condition: { [operator]: { 'aws:PrincipalTag/x': x } } }))).toHaveLength(1)
    expect(problems({ Effect: 'Allow', Action: `s3:${x}`, Resource: '*' })).toEqual([expect.stringContaining('Action')])
    for (const wildcard of ['*', '?', '*/y'])
      expect(problems(read(`arn:aws:s3:::b/${x}${wildcard}`))).toEqual([expect.stringContaining('names that begin alike')])
    expect(problems(read([`arn:aws:s3:::b/${x}`, `arn:aws:s3:::b/${x}/*`]))).toEqual([])
    expect(problems(read('*', { Condition: { StringEquals: { [`aws:PrincipalTag/${x}`]: 'a' } } }))).toHaveLength(1)
    expect(problems(read([`arn:aws:s3:::b/${x}`, 'a'.repeat(MAX_POLICY_LENGTH)]))).toEqual([
      expect.stringContaining(`AWS takes ${MAX_POLICY_LENGTH}`),
    ])
  })
})

describe('an assumed role', () => {
  it('is named after the lease and the task, tagged through role chains, and lasts no less than STS gives', async () => {
    process.env.AWS_ACCESS_KEY_ID = 'AKIABROKER'
    process.env.AWS_SECRET_ACCESS_KEY = 'a-secret-of-the-broker'
    const arn = 'arn:aws:iam::111122223333:role/team/export'
    const policy = JSON.stringify({ Version: '2012-10-17', Statement: { Effect: 'Allow', Action: '*', Resource: '*' } })
    const aws = await startFakeAws({ accessKeyId: 'AKIABROKER', roles: { [arn]: { policy, externalId: 'for-mayfly' } } })
    const context = { name: 'aws', instance: 'test', timeoutMs: 5000, concurrency: 2 }
    const provider = await awsSts.open(awsSts.options.parse({ region: 'eu-central-1', endpoint: aws.endpoint }), context)
    try {
      const params = awsSts.params.parse({ role_arn: arn, external_id: 'for-mayfly' })
      const short = requestOf(provider, plan(), params, 5000, 30_000)
      const { credential, expiresAt } = await provider.mint(short)
      expect(aws.assumed.at(-1)).toMatchObject({
        roleArn: arn,
        sessionName: short.lease.id,
        sourceIdentity: short.lease.task,
        tags: { 'mayfly-lease': short.lease.id },
        transitive: ['mayfly-lease'],
        durationSeconds: 900,
      })
      expect(expiresAt).toBe(short.expiresAt)
      expect(credential.env.AWS_CREDENTIAL_EXPIRATION).toBe(new Date(short.expiresAt).toISOString())

      // A human's name is told as it is, or not at all.
      for (const [human, value] of [
        ['ann@example.com', 'ann@example.com'],
        ['sso/ann', 'sso/ann'],
        ['ann!', undefined],
        ['a'.repeat(257), undefined],
      ]) {
        const behalf = requestOf(provider, plan({ human }), params, 5000, 30_000)
        await provider.mint(behalf)
        const tags = { 'mayfly-lease': behalf.lease.id, ...(value !== undefined && { 'mayfly-human': value }) }
        expect(aws.assumed.at(-1)).toMatchObject({ tags, transitive: Object.keys(tags) })
        expect(Object.keys(aws.assumed.at(-1)?.tags ?? {})).toEqual(Object.keys(tags))
      }

      await provider.mint(requestOf(provider, plan(), params, 5000, 1_800_000))
      expect(aws.assumed.at(-1)?.durationSeconds).toBe(1800)
      await expect(provider.mint(requestOf(provider, plan(), params, 5000, 7_200_000))).rejects.toMatchObject({
        kind: 'invalid',
        message: expect.stringContaining('maximum session duration'),
      })
      const stranger = awsSts.params.parse({ role_arn: arn })
      await expect(provider.mint(requestOf(provider, plan(), stranger, 5000))).rejects.toMatchObject({ kind: 'refused' })
    } finally {
      await provider.close()
      await aws.stop()
    }
  })
})
