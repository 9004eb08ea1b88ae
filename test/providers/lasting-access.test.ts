import { describe, expect, it } from '@jest/globals'
import { gcp } from '../../src/providers/gcp.js'
import { githubApp } from '../../src/providers/github-app.js'
import { openbao } from '../../src/providers/openbao.js'

/** What a credential could make that outlives its lease is refused when the configuration is read, or is written down in it. */
describe('access that would outlive its lease', () => {
  const bounded = (role: string, more: object = {}) =>
    gcp.params.safeParse({
      service_account: 'agent@acme.iam.gserviceaccount.com',
      access_boundary: {
        accessBoundary: {
          accessBoundaryRules: [
            {
              availableResource: '//storage.googleapis.com/projects/_/buckets/acme-reports',
              availablePermissions: ['inRole:roles/storage.objectViewer', `inRole:${role}`],
            },
          ],
        },
      },
      ...more,
    })

  it.each(['roles/storage.admin', 'roles/storage.objectAdmin', 'roles/storage.folderAdmin', 'roles/storage.legacyBucketOwner'])(
    'is not given by a boundary at gcp unless that is meant: %s',
    (role) => {
      expect(
        bounded(role)
          .error?.issues.map(({ message }) => message)
          .join(),
      ).toContain(`${role} can let others in`)
      expect(bounded(role, { allow_lasting_access: true }).success).toBe(true)
    },
  )
  it.each(['roles/storage.objectUser', 'roles/storage.objectCreator', 'projects/acme/roles/admin'])('lets other boundaries at gcp be: %s', (role) => {
    expect(bounded(role).success).toBe(true)
  })

  it.each(['organization_projects', 'repository_projects'])('is not given by an admin of projects at github unless that is meant: %s', (name) => {
    const given = (level: string, more: object = {}) =>
      githubApp.params.safeParse({ owner: 'acme', repositories: ['app'], permissions: { [name]: level }, ...more }).success
    expect(given('admin')).toBe(false)
    expect(given('admin', { allow_lasting_access: true })).toBe(true)
    expect(given('write')).toBe(true)
  })

  it('is not reached by a value that leads the path at openbao elsewhere', () => {
    const placeholder = ['$', '{scope.engine}'].join('')
    const options = openbao.options.parse({ url: 'https://bao.internal', auth: { method: 'token' }, token: 'x', lease_ttl: '1h' })
    const problems = (values: readonly string[]) =>
      openbao.checkRole(openbao.params.parse({ path: `team/${placeholder}/creds/one`, values: { engine: values } }), { engine: 'equal' }, options)
    expect(problems(['database', 'auth']).join()).toContain('team/auth/creds/one')
    expect(problems(['database', 'rabbitmq'])).toEqual([])
  })
})
