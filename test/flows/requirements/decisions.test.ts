import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from '@jest/globals'
import { loadConfig } from '../../../src/config.js'
import { waitFor } from '../../support/wait.js'
import { query, type Scene, startScene } from './support.js'

const TOKEN = 'params: {audience: "https://reports.example"}'
const GROUP = (group: string) => `provider: warehouse, max_ttl: 15m, max_lifetime: 1h, params: {member_of: [${group}]}`

let scene: Scene
beforeAll(async () => {
  scene = await startScene(async (postgres) => {
    await postgres.query('create role vault_ro nologin; create table vault (secret text); grant select on vault to vault_ro')
    return {
      groups: ['vault_ro'],
      agents: [
        '  - {id: reader, match: {issuer: test, sub: reader}, owner: kim@example.com, autonomy: supervised}\n',
        '  - {id: analyst, match: {issuer: test, sub: analyst}, owner: kim@example.com, autonomy: supervised, team: analytics}\n',
      ].join(''),
      roles: [
        `  orders-write: {access: write, sensitivity: internal, ${GROUP('reporting_rw')}}`,
        `  orders-export: {access: write, sensitivity: internal, labels: [export], ${GROUP('reporting_rw')}}`,
        `  vault-read: {access: escalate, sensitivity: restricted, ${GROUP('vault_ro')}}`,
        `  unlabelled-read: {access: read, ${GROUP('reporting_ro')}}`,
        `  unlabelled-write: {access: write, ${GROUP('reporting_rw')}}`,
        `  signed-secret: {provider: signed, access: read, sensitivity: confidential, max_ttl: 5m, ${TOKEN}}`,
        `  signed-waived: {provider: signed, access: read, sensitivity: confidential, labels: [irrevocable-accepted], max_ttl: 5m, ${TOKEN}}`,
        `  signed-restricted: {provider: signed, access: read, sensitivity: restricted, max_ttl: 5m, ${TOKEN}}`,
        `  signed-crown: {provider: signed, access: read, sensitivity: restricted, labels: [irrevocable-accepted], max_ttl: 5m, ${TOKEN}}`,
      ].join('\n'),
      operators: [
        '  - {id: second, match: {issuer: test, sub: second}, groups: [sre-oncall]}',
        '  - {id: sre@example.com, match: {issuer: test, sub: owner}, groups: [sre-oncall]}',
        '  - {id: flows, match: {issuer: test, sub: flows-person}, groups: [sre-oncall]}',
      ].join('\n'),
      policy: `
        @id("reader-reads-everything") permit (principal == Agent::"reader", action == Action::"read", resource);
        @id("not-for-restricted-tasks") forbid (principal, action in Action::"obtain", resource == Role::"orders-write") when { context.level > 2 };`,
    }
  })
}, 60_000)
afterAll(() => scene?.stop())
afterEach(() => scene.clear())

const ROLES = ['warehouse-read', 'warehouse-write', 'orders-write', 'orders-export', 'vault-read', 'unlabelled-read', 'unlabelled-write']
const SIGNED = ['api-signed', 'signed-secret', 'signed-waived', 'signed-restricted', 'signed-crown']
const openTask = (agent = 'triage', more: object = {}) =>
  scene.openTask({ assignees: [{ agent }], envelope: [...ROLES, ...SIGNED].map((role) => ({ role })), ...more })
const decide = async (id: string, verb: 'approve' | 'deny', who = 'oncall') =>
  scene.call('POST', `/v1/approvals/${id}/${verb}`, await scene.token(who), {})
const ask = async (task: string, role: string, more: object = {}): Promise<string> => {
  const { status, body } = await scene.obtain(task, role, { ...more })
  expect({ status, code: body.code }).toEqual({ status: 202, code: undefined })
  return body.approval.id
}

describe('requirement 14: separate read, write and escalation paths', () => {
  it('three actions, separate leases', async () => {
    const task = await openTask()
    const read = await scene.issued(task, 'warehouse-read')
    const written = await scene.issued(task, 'orders-write')
    // Who escalates holds nothing else meanwhile, so that it is in a task of its own.
    const apart = await openTask()
    const approval = await ask(apart, 'vault-read')
    await decide(approval, 'approve')
    const escalated = await scene.issued(apart, 'vault-read', { approval })
    const all = [read, written, escalated]
    expect(all.map(({ lease }) => lease.access)).toEqual(['read', 'write', 'escalate'])
    expect(new Set((await scene.logins()).concat(all.map(({ credential }) => credential.username))).size).toBe(3)
    const can = async (url: string, text: string) =>
      query(url, text).then(
        () => true,
        () => false,
      )
    const statements = ['select id from orders', 'update orders set id = id', 'select secret from vault']
    const rights = await Promise.all(all.map(({ credential }) => Promise.all(statements.map((text) => can(credential.url, text)))))
    expect(rights).toEqual([
      [true, false, false],
      [true, true, false],
      [false, false, true],
    ])
    const told = await scene.told((event) => event.type === 'lease.issued' && [task, apart].includes(event.task))
    expect(told.map(({ detail }) => detail.input.action)).toEqual(['read', 'write', 'escalate'])
  })

  it('a read lease cannot mint write', async () => {
    const task = await openTask('reader')
    const { lease, credential } = await scene.issued(task, 'warehouse-read', { ttl: 60 }, 'reader')
    for (const role of ['orders-write', 'vault-read'])
      expect((await scene.obtain(task, role, {}, 'reader')).body).toMatchObject({ status: 403, code: 'denied' })
    const renew = async (body: object) => scene.call('POST', `/v1/leases/${lease.id}/renew`, await scene.token('reader'), body)
    for (const field of ['role', 'scope', 'access']) expect((await renew({ [field]: 'orders-write' })).body.code).toBe('request_invalid')
    expect((await scene.obtain(task, 'warehouse-read', { scope: { member_of: ['reporting_rw'] } }, 'reader')).body.code).toBe('outside_envelope')
    expect((await renew({ ttl: 120 })).body.lease).toMatchObject({ access: 'read', role: 'warehouse-read' })
    await expect(query(credential.url, 'update orders set id = 2')).rejects.toThrow('permission denied')
    await expect(query(credential.url, 'set role reporting_rw')).rejects.toThrow('permission denied')
    expect(await scene.logins()).toEqual([credential.username])
  })
})

describe('requirement 15: step-up read -> write; separate approval for escalation and external transfer', () => {
  it('each is asked for apart, and nothing exists upstream before a human agrees to that very one', async () => {
    const task = await openTask()
    const read = await scene.issued(task, 'warehouse-read')
    const wanted = ['warehouse-write', 'vault-read', 'orders-export']
    const asked = new Map<string, string>()
    for (const role of wanted) asked.set(role, await ask(task, role))
    expect(new Set(asked.values()).size).toBe(3)
    expect(await scene.logins()).toEqual([read.credential.username])
    await decide(asked.get('warehouse-write') ?? '', 'approve')
    for (const role of ['vault-read', 'orders-export']) {
      for (const approval of asked.values())
        expect((await scene.obtain(task, role, { approval })).body).toMatchObject({ status: 403, code: 'approval_invalid' })
    }
    const back = async (lease: string) => scene.call('DELETE', `/v1/leases/${lease}?wait=10`, await scene.token('triage'))
    await back(read.lease.id)
    const rights = {
      'warehouse-write': 'update orders set id = id',
      'vault-read': 'select secret from vault',
      'orders-export': 'select id from orders',
    }
    for (const [role, statement] of Object.entries(rights)) {
      await decide(asked.get(role) ?? '', 'approve')
      const { lease, credential } = await scene.issued(task, role, { approval: asked.get(role) })
      await query(credential.url, statement)
      expect(await scene.logins()).toEqual([credential.username])
      await back(lease.id)
    }
  })

  it('reuse, alteration, self-approval -> 403', async () => {
    const [task, other] = [await openTask(), await openTask()]
    const approval = await ask(task, 'warehouse-write', { ttl: 300 })
    // The agent, its owner, and who opened the task.
    for (const who of ['triage', 'owner', 'flows-person'])
      expect((await decide(approval, 'approve', who)).body).toMatchObject({ status: 403, code: 'denied' })
    expect((await decide(approval, 'approve')).status).toBe(200)
    const altered: [string, string, object][] = [
      [task, 'warehouse-write', { ttl: 301 }],
      [task, 'warehouse-write', { ttl: 300, tool: 'psql' }],
      [task, 'vault-read', { ttl: 300 }],
      [other, 'warehouse-write', { ttl: 300 }],
    ]
    for (const [where, role, more] of altered)
      expect((await scene.obtain(where, role, { ...more, approval })).body).toMatchObject({ status: 403, code: 'approval_invalid' })
    expect(await scene.logins()).toEqual([])
    await scene.issued(task, 'warehouse-write', { ttl: 300, approval })
    expect((await scene.obtain(task, 'warehouse-write', { ttl: 300, approval })).body).toMatchObject({ status: 403, code: 'approval_invalid' })
    expect(await scene.logins()).toHaveLength(1)
  })
})

describe('requirement 27: data classification', () => {
  it('of a role: unlabelled -> strictest rule', async () => {
    const [task, analysts] = [await openTask(), await openTask('analyst')]
    expect((await scene.obtain(task, 'orders-write')).status).toBe(201)
    const asked = await scene.obtain(task, 'unlabelled-write')
    expect(asked).toMatchObject({
      status: 202,
      body: { approval: { policies: ['restricted-write-needs-a-human'], request: { sensitivity: 'restricted' } } },
    })
    expect((await scene.obtain(analysts, 'warehouse-read', {}, 'analyst')).status).toBe(201)
    expect((await scene.obtain(analysts, 'unlabelled-read', {}, 'analyst')).body).toMatchObject({ code: 'denied', policies: [] })
    // What the tree obtained is told as the strictest, too.
    await scene.issued(task, 'unlabelled-read')
    expect((await scene.call('GET', `/v1/tasks/${task}`, await scene.token('flows'))).body.task.obtained).toContain('read:restricted')
  })

  it('of a task: unlabelled -> strictest rule', async () => {
    const [labelled, unlabelled] = [
      await openTask('triage', { classification: 'confidential' }),
      await openTask('triage', { classification: undefined }),
    ]
    expect((await scene.obtain(labelled, 'orders-write')).status).toBe(201)
    expect((await scene.obtain(unlabelled, 'orders-write')).body).toMatchObject({ code: 'denied', policies: ['not-for-restricted-tasks'] })
  })
})

describe('requirement 31: systems without short TTLs or fine scopes', () => {
  it('irrevocable needs a waiver in policy; irrevocable + high risk -> deny', async () => {
    const task = await openTask()
    const outcome = async (role: string) => {
      const { status, body } = await scene.obtain(task, role)
      return { status, policies: body.policies ?? body.approval?.policies }
    }
    expect(await outcome('signed-secret')).toEqual({ status: 403, policies: ['irrevocable-needs-a-waiver'] })
    expect(await outcome('signed-restricted')).toEqual({ status: 403, policies: ['irrevocable-and-restricted', 'irrevocable-needs-a-waiver'] })
    expect(await outcome('signed-waived')).toMatchObject({ status: 201 })
    expect(await outcome('signed-crown')).toEqual({ status: 202, policies: ['irrevocable-and-restricted'] })
    // The same data where it can be taken back.
    expect(await outcome('warehouse-read')).toMatchObject({ status: 201 })
  })

  it('says so with every lease, and never says "revoked" of what still works', async () => {
    const task = await openTask()
    const immediate = (await scene.issued(task, 'warehouse-read')).lease
    const { lease } = await scene.issued(task, 'api-signed', { ttl: 2 })
    expect(immediate.revocation).toEqual({ mode: 'immediate', residual_seconds: 0 })
    expect(lease.revocation.mode).toBe('at-expiry')
    expect(lease.revocation.residual_seconds).toBeGreaterThanOrEqual(2)
    const ended = await scene.call('POST', `/v1/tasks/${task}/complete?wait=1`, await scene.token('flows'), {})
    const outcomes = new Map(ended.body.leases.map((one: { id: string; state: string }) => [one.id, one.state]))
    expect([outcomes.get(immediate.id), outcomes.get(lease.id)]).toEqual(['revoked', 'closing'])
    const settled = await waitFor(
      'its own expiry',
      async () => {
        const now = await scene.leaseOf(lease.id)
        return now.state === 'closing' ? undefined : now
      },
      20_000,
    )
    expect(settled.state).toBe('expired')
    expect(Date.parse(settled.settled_at)).toBeGreaterThanOrEqual(Date.parse(lease.expires_at))
  }, 30_000)
})

describe('requirement 32: credential discovery as escalation (key vaults)', () => {
  it('reading secrets and writing IAM are escalate: called anything else, the configuration does not load', async () => {
    const path = join(scene.test.folder, 'discovery.yaml')
    const yaml = await readFile(scene.test.configPath, 'utf8')
    const loadedWith = async (provider: string, role: string) => {
      await writeFile(
        path,
        yaml
          .replace('\nproviders:\n', `\nproviders:\n  other: {${provider}}\n`)
          .replace('\nroles:\n', `\nroles:\n  discovers: {provider: other, max_ttl: 5m, ${role}}\n`),
      )
      return loadConfig(path, scene.test.env)
    }
    const arn = 'role_arn: "arn:aws:iam::111122223333:role/x"'
    const roles: [string, string][] = [
      [
        'type: azure, tenant: a8990e1f-ff32-408a-9f8e-78d3b9139b95, subject: "mayfly:test"',
        'params: {client_id: 97e0a5b7-d745-40b6-94fe-5f77d35c6e05, scopes: ["https://vault.azure.net/.default"]}',
      ],
      [
        'type: aws-sts, region: eu-central-1',
        `params: {${arn}, policy: {Version: "2012-10-17", Statement: [{Effect: Allow, Action: "secretsmanager:Get*", Resource: "*"}]}}`,
      ],
      ['type: aws-sts, region: eu-central-1', `params: {${arn}, allow_iam: true}`],
    ]
    for (const [provider, params] of roles) {
      for (const access of ['read', 'write'])
        await expect(loadedWith(provider, `access: ${access}, ${params}`)).rejects.toThrow(/roles\.discovers\.access: must be escalate/)
      await expect(loadedWith(provider, `access: escalate, ${params}`)).resolves.toBeDefined()
    }
  })

  it('a read policy cannot match', async () => {
    const task = await openTask('reader')
    const { credential } = await scene.issued(task, 'warehouse-read', {}, 'reader')
    // It may read everything, and so nothing here.
    expect((await scene.obtain(task, 'vault-read', {}, 'reader')).body).toMatchObject({
      status: 403,
      code: 'denied',
      policies: ['escalation-needs-a-human'],
    })
    await expect(query(credential.url, 'select secret from vault')).rejects.toThrow('permission denied')
    expect(await scene.logins()).toEqual([credential.username])
    // Who may escalate does so with a human's consent alone, and briefly.
    const theirs = await openTask()
    const approval = await ask(theirs, 'vault-read')
    await decide(approval, 'approve')
    const { lease, credential: vault } = await scene.issued(theirs, 'vault-read', { approval })
    expect((Date.parse(lease.expires_at) - Date.parse(lease.issued_at)) / 1000).toBe(300)
    expect(await query(vault.url, 'select secret from vault')).toEqual([])
  })
})
