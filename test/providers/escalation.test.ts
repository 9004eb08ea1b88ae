import { describe, expect, it } from '@jest/globals'
import { awsSts } from '../../src/providers/aws-sts.js'
import { azure } from '../../src/providers/azure.js'
import { gcp } from '../../src/providers/gcp.js'
import { githubApp } from '../../src/providers/github-app.js'
import { postgres } from '../../src/providers/postgres.js'
import type { ProviderModule } from '../../src/providers/provider.js'

/** What leads from a role to other credentials, as its provider says. */
function escalations<Options, Params>(module: ProviderModule<Options, Params>, params: object): string {
  return (module.escalates?.(module.params.parse(params)) ?? []).join('; ')
}

describe('aws-sts', () => {
  const allow = (Action: unknown, Resource: unknown = '*') => ({ Effect: 'Allow', Action, Resource })
  const of = (statement: object | undefined, more: object = {}) =>
    escalations(awsSts, {
      role_arn: 'arn:aws:iam::111122223333:role/x',
      ...(statement && { policy: { Version: '2012-10-17', Statement: statement } }),
      ...more,
    })

  it.each([
    [allow('secretsmanager:GetSecretValue')],
    [allow(['s3:GetObject', 'SECRETSMANAGER:get*'])],
    [allow('ssm:GetParameter?')],
    [allow('*')],
    [allow('*', ['arn:aws:s3:::a', 'arn:aws:secretsmanager:eu-central-1:111122223333:secret:a'])],
    [allow('ssm:*', 'arn:aws:*:*:*:*')],
    [{ Effect: 'Allow', NotAction: 's3:*', Resource: '*' }],
    [[allow('s3:GetObject'), allow('redshift:GetClusterCredentials')]],
  ])('reads secrets with %j', (statement) => {
    expect(of(statement)).toContain('reads secrets')
  })

  it.each([[allow('organizations:*')], [allow(['sso:Create*'])], [allow('identitystore:*')]])('says who may do what with %j', (statement) => {
    expect(of(statement)).toContain('who may do what')
  })

  it.each([
    [undefined],
    [allow('s3:*')],
    [allow('*', 'arn:aws:s3:::reports/*')],
    [allow('secretsmanager:ListSecrets')],
    [allow('ssm:DescribeParameters')],
    [{ Effect: 'Deny', Action: 'secretsmanager:*', Resource: '*' }],
    [{ Effect: 'Allow', NotAction: ['secretsmanager:*', 'ssm:*', 'redshift*', 'organizations:*', 'sso:*', 'identitystore:*'], Resource: '*' }],
  ])('leads nowhere with %j', (statement) => {
    expect(of(statement)).toBe('')
  })

  it('does with allow_iam', () => {
    expect(of(allow('s3:GetObject'), { allow_iam: true })).toContain('allow_iam')
  })
})

describe('azure', () => {
  const of = (scope: string) => escalations(azure, { client_id: '97e0a5b7-d745-40b6-94fe-5f77d35c6e05', scopes: [scope] })
  it.each([
    'https://vault.azure.net/.default',
    'https://VAULT.azure.net/.default',
    'https://vault.azure.net//.default',
    'https://team.vault.usgovcloudapi.net/.default',
    'https://managedhsm.azure.net/.default',
    'cfa8b339-82a2-471a-a3c9-0fc0be7a4093/.default',
  ])('opens key vaults with %s', (scope) => {
    expect(of(scope)).toContain('opens key vaults')
  })
  it.each(['https://storage.azure.com/.default', 'https://notvault.azure.net/.default', 'https://vault.azure.net.example.com/.default'])(
    'opens none with %s',
    (scope) => {
      expect(of(scope)).toBe('')
    },
  )
})

it('github-app: what makes access, and the alerts that hold secrets', () => {
  const of = (permissions: object) => escalations(githubApp, { owner: 'a', repositories: ['b'], permissions, allow_lasting_access: true })
  expect(of({ contents: 'write', issues: 'write', members: 'read' })).toBe('')
  for (const permissions of [{ secrets: 'write' }, { members: 'write' }, { workflows: 'write' }, { secret_scanning_alerts: 'read' }])
    expect(of(permissions)).toContain(`permissions.${Object.keys(permissions)[0]}`)
})

it('gcp: what lets others in', () => {
  const of = (role: string) =>
    escalations(gcp, {
      service_account: 'export@shop-prod.iam.gserviceaccount.com',
      allow_lasting_access: true,
      access_boundary: {
        accessBoundary: {
          accessBoundaryRules: [
            { availableResource: '//storage.googleapis.com/projects/_/buckets/reports', availablePermissions: [`inRole:roles/${role}`] },
          ],
        },
      },
    })
  expect(of('storage.objectViewer')).toBe('')
  expect(of('storage.admin')).toContain('lets others in')
})

it("postgres: what reaches the server's files", () => {
  const of = (member_of: string[]) => escalations(postgres, { member_of, allow: member_of })
  expect(of(['reporting_ro', 'pg_read_all_data'])).toBe('')
  for (const group of ['pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program'])
    expect(of(['reporting_ro', group])).toContain(group)
})
