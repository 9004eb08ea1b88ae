import { describe, expect, it } from '@jest/globals'
import { allows, evaluate, FakeCannot, Malformed, parsePolicy } from './fake-aws-policy.js'

const policy = (...Statement: object[]) => parsePolicy(JSON.stringify({ Version: '2012-10-17', Statement }))
const asked = (action: string, resource: string, context: Record<string, string> = {}) => ({ action, resource, context })
const all = { Effect: 'Allow', Action: '*', Resource: '*' }
const when = (Condition: object, Effect = 'Deny') => ({ Effect, Action: '*', Resource: '*', Condition })

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic_policy-eval-basics.html: the user's policy of its example. */
const CARLOS = policy(
  {
    Sid: 'AllowS3ListRead',
    Effect: 'Allow',
    Action: ['s3:GetBucketLocation', 's3:GetAccountPublicAccessBlock', 's3:ListAccessPoints', 's3:ListAllMyBuckets'],
    Resource: 'arn:aws:s3:::*',
  },
  {
    Sid: 'AllowS3Self',
    Effect: 'Allow',
    Action: 's3:*',
    Resource: ['arn:aws:s3:::amzn-s3-demo-bucket-carlossalazar/*', 'arn:aws:s3:::amzn-s3-demo-bucket-carlossalazar'],
  },
  { Sid: 'DenyS3Logs', Effect: 'Deny', Action: 's3:*', Resource: 'arn:aws:s3:::*log*' },
)

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_use_revoke-sessions.html: what the console attaches. */
const REVOKE_OLDER = policy(all, {
  Effect: 'Deny',
  Action: ['*'],
  Resource: ['*'],
  Condition: { DateLessThan: { 'aws:TokenIssueTime': '2014-05-07T23:47:00Z' } },
})

describe('the evaluation of policies, by documented examples', () => {
  it.each([
    ['lists all buckets', 's3:ListAllMyBuckets', 'arn:aws:s3:::anything', 'allow'],
    ['saves a file in his bucket', 's3:PutObject', 'arn:aws:s3:::amzn-s3-demo-bucket-carlossalazar/file', 'allow'],
    ['saves a file in the bucket of logs', 's3:PutObject', 'arn:aws:s3:::amzn-s3-demo-bucket-carlossalazar-logs/file', 'explicit deny'],
    ['reads somebody else’s bucket', 's3:GetObject', 'arn:aws:s3:::amzn-s3-demo-bucket/file', 'implicit deny'],
  ])('of a user who %s', (_what, action, resource, verdict) => {
    expect(evaluate(CARLOS, asked(action, resource))).toBe(verdict)
  })

  it.each([
    ['issued before is denied', '2014-05-07T23:46:59Z', 'explicit deny'],
    ['issued in the same second is not', '2014-05-07T23:47:00Z', 'allow'],
    ['issued later is not', '2014-05-07T23:47:01Z', 'allow'],
  ])('of older sessions that are revoked: one that was %s', (_what, time, verdict) => {
    expect(evaluate(REVOKE_OLDER, asked('s3:GetObject', '*', { 'aws:tokenissuetime': time }))).toBe(verdict)
  })

  it('of older sessions that are revoked: long-term credentials have no time of issue, and are not denied', () => {
    expect(evaluate(REVOKE_OLDER, asked('s3:GetObject', '*'))).toBe('allow')
  })

  it('of session policies: the session gets what both allow', () => {
    const [role, session] = [policy({ ...all, Action: ['s3:*', 'sqs:*'] }), policy({ ...all, Action: 's3:GetObject' })]
    expect(allows([role, undefined, session], asked('s3:GetObject', '*'))).toBe(true)
    expect(allows([role, undefined, session], asked('s3:PutObject', '*'))).toBe(false)
    expect(allows([role, undefined, policy(all)], asked('ec2:RunInstances', '*'))).toBe(false)
    expect(allows([policy(all), policy({ ...all, Action: 's3:*' }), undefined], asked('iam:CreateUser', '*'))).toBe(false)
  })
})

describe('conditions', () => {
  const verdict = (Condition: object, context: Record<string, string>) => evaluate(policy(all, when(Condition)), asked('s3:GetObject', '*', context))
  const denied = 'explicit deny'
  const lease = { 'aws:principaltag/mayfly-lease': 'lease_17abc' }

  it.each<[string, object, Record<string, string>, string]>([
    ['any value of a list', { StringEquals: { 'aws:PrincipalTag/mayfly-lease': ['x', 'lease_17abc'] } }, lease, denied],
    ['no value of a list', { StringEquals: { 'aws:PrincipalTag/mayfly-lease': ['x', 'Lease_17abc'] } }, lease, 'allow'],
    ['a key in another case', { StringEquals: { 'AWS:principaltag/Mayfly-Lease': 'lease_17abc' } }, lease, denied],
    ['a key that is missing', { StringEquals: { 'aws:PrincipalTag/mayfly-lease': 'lease_17abc' } }, {}, 'allow'],
    ['a missing key and a negated operator', { StringNotEquals: { 'aws:PrincipalTag/mayfly-lease': 'lease_17abc' } }, {}, denied],
    ['a missing key and IfExists', { StringEqualsIfExists: { 'aws:SourceIdentity': 'x' } }, {}, denied],
    ['none of a list, negated', { StringNotLike: { 'aws:SourceIdentity': ['a*', 'b*'] } }, { 'aws:sourceidentity': 'cd' }, denied],
    ['one of a list, negated', { StringNotLike: { 'aws:SourceIdentity': ['a*', 'b*'] } }, { 'aws:sourceidentity': 'bd' }, 'allow'],
    ['wildcards', { StringLike: { 'aws:SourceIdentity': '*_1?b' } }, { 'aws:sourceidentity': 'task_17b' }, denied],
    ['wildcards where the operator has none', { StringEquals: { 'aws:SourceIdentity': 'task*' } }, { 'aws:sourceidentity': 'task_17b' }, 'allow'],
    ['signs of regular expressions', { StringLike: { 'aws:SourceIdentity': 't.*' } }, { 'aws:sourceidentity': 'task' }, 'allow'],
    [
      'two operators, of which one does not hold',
      { StringLike: { 'aws:SourceIdentity': '*' }, DateGreaterThan: { 'aws:CurrentTime': '2030-01-01T00:00:00Z' } },
      { 'aws:sourceidentity': 'a', 'aws:currenttime': '2029-01-01T00:00:00Z' },
      'allow',
    ],
    ['a date as seconds', { DateLessThan: { 'aws:TokenIssueTime': '1893456000' } }, { 'aws:tokenissuetime': '2029-12-31T23:59:59Z' }, denied],
    [
      'the end of a range',
      { DateGreaterThanEquals: { 'aws:TokenIssueTime': '2030-01-01T00:00:00Z' } },
      { 'aws:tokenissuetime': '2030-01-01T00:00:00Z' },
      denied,
    ],
    ['a key that must be missing', { Null: { 'aws:TokenIssueTime': 'true' } }, {}, denied],
    ['a key that must be there', { Null: { 'aws:TokenIssueTime': 'false' } }, {}, 'allow'],
  ])('hold or not for %s', (_what, Condition, context, expected) => {
    expect(verdict(Condition, context)).toBe(expected)
  })

  it('are refused where this fake cannot evaluate them, rather than passed over', () => {
    expect(() => policy(all, when({ 'ForAnyValue:StringEquals': { 'aws:TagKeys': 'x' } }))).toThrow(FakeCannot)
    expect(() => policy(all, when({ IpAddress: { 'aws:SourceIp': '10.0.0.0/8' } }))).toThrow(FakeCannot)
    expect(() => verdict({ StringEquals: { 'aws:PrincipalOrgID': 'o-1' } }, {})).toThrow(FakeCannot)
    expect(() => verdict({ StringEquals: { 'aws:SourceIdentity': '$'.concat('{aws:nothing}') } }, { 'aws:sourceidentity': 'a' })).toThrow(FakeCannot)
  })

  it('take policy variables from the request', () => {
    const own = policy({ Effect: 'Allow', Action: 's3:GetObject', Resource: `arn:aws:s3:::b/${'$'.concat('{aws:PrincipalTag/mayfly-lease}')}/*` })
    expect(evaluate(own, asked('s3:GetObject', 'arn:aws:s3:::b/lease_17abc/x', lease))).toBe('allow')
    expect(evaluate(own, asked('s3:GetObject', 'arn:aws:s3:::b/lease_17abd/x', lease))).toBe('implicit deny')
  })
})

describe('policies that AWS does not take', () => {
  it.each<[string, string]>([
    ['text', '{'],
    ['another version', '{"Version":"2008-10-17","Statement":[]}'],
    ['no statement', '{"Version":"2012-10-17","Statement":[]}'],
    ['an Id, which identity policies do not have', `{"Version":"2012-10-17","Id":"x","Statement":${JSON.stringify(all)}}`],
    ['a Sid with a dash', `{"Version":"2012-10-17","Statement":${JSON.stringify({ ...all, Sid: 'a-b' })}}`],
    ['two equal Sids', `{"Version":"2012-10-17","Statement":${JSON.stringify([all, all].map((one) => ({ ...one, Sid: 'a' })))}}`],
    ['no resource', '{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*"}}'],
    ['an action and its negation', `{"Version":"2012-10-17","Statement":${JSON.stringify({ ...all, NotAction: 's3:*' })}}`],
    ['a date that is none', `{"Version":"2012-10-17","Statement":${JSON.stringify(when({ DateLessThan: { 'aws:TokenIssueTime': 'soon' } }))}}`],
  ])('are refused: %s', (_what, text) => {
    expect(() => parsePolicy(text)).toThrow(Malformed)
  })
})
