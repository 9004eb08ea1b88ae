import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import { accessOf } from '../../src/providers/kubernetes/access.js'
import { kubernetes } from '../../src/providers/kubernetes.js'
import { type FakeKubernetes, startFakeKubernetes } from './fake-kubernetes.js'
import { newAuthority, type Pair } from './tls-server.js'

const base64 = (text: string) => Buffer.from(text).toString('base64')

/** An authority, and certificates of it for a server and a client. */
async function authority(): Promise<{ ca: string; server: Pair; client: Pair }> {
  const by = await newAuthority({ name: 'cluster' })
  const issue = (name: string) => newAuthority({ name, by, extensions: ['basicConstraints=critical,CA:FALSE', 'subjectAltName=IP:127.0.0.1'] })
  return { ca: by.certificate, server: await issue('server'), client: await issue('broker-by-certificate') }
}

describe('the way to the API server', () => {
  let pki: Awaited<ReturnType<typeof authority>>
  let other: Awaited<ReturnType<typeof authority>>
  let cluster: FakeKubernetes
  let folder: string
  const config = (user: object, cluster_: object = {}, more: object = {}) =>
    JSON.stringify({
      ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'here', preferences: {} },
      clusters: [{ name: 'one', cluster: { server: cluster.url, 'certificate-authority-data': base64(pki.ca), ...cluster_ } }],
      users: [{ name: 'me', user }],
      contexts: [
        { name: 'here', context: { cluster: 'one', user: 'me', namespace: 'x' } },
        { name: 'elsewhere', context: { cluster: 'none', user: 'me' } },
      ],
      ...more,
    })
  const checked = async (options: object) => {
    const parsed = kubernetes.options.parse({ namespaces: ['agents'], ...options })
    const provider = await kubernetes.open(parsed, { name: 'cluster', instance: 'test', timeoutMs: 5000, concurrency: 2 })
    return provider.check().finally(() => provider.close())
  }
  const refusal = (options: object): string => {
    const parsed = kubernetes.options.safeParse({ namespaces: ['agents'], ...options })
    return parsed.success ? 'taken' : inspect(parsed.error, { depth: Number.POSITIVE_INFINITY })
  }
  beforeAll(async () => {
    ;[pki, other] = await Promise.all([authority(), authority()])
    folder = await mkdtemp(join(tmpdir(), 'mayfly-kubernetes-'))
    const rights = { namespace: 'agents', verbs: ['create', 'delete', 'list'], resources: ['secrets'] }
    cluster = await startFakeKubernetes({
      ...{ tokens: { 'the-first': 'broker', 'the-second': 'broker' }, serviceAccounts: [] },
      rules: ['broker', 'broker-by-certificate'].map((user) => ({ user, ...rights })),
      tls: { cert: pki.server.certificate, key: pki.server.key, ca: pki.ca },
    })
  })
  afterAll(async () => {
    await cluster.stop()
    await rm(folder, { recursive: true })
  })

  it('is a server with its authority and a token', async () => {
    await checked({ server: cluster.url, ca: pki.ca, token: 'the-first' })
    await expect(checked({ server: cluster.url, ca: other.ca, token: 'the-first' })).rejects.toMatchObject({
      ...{ kind: 'refused', message: expect.stringContaining('does not verify') },
    })
    await expect(checked({ server: cluster.url, token: 'the-first' })).rejects.toMatchObject({ kind: 'refused' })
    await expect(checked({ server: cluster.url.replace('127.0.0.1', 'localhost'), ca: pki.ca, token: 'the-first' })).rejects.toMatchObject({
      message: expect.stringContaining('does not verify'),
    })
  })

  it('is a kubeconfig with a token, a client certificate or the file of a token', async () => {
    await checked({ kubeconfig: config({ token: 'the-first' }) })
    await checked({
      kubeconfig: config({ 'client-certificate-data': base64(pki.client.certificate), 'client-key-data': base64(pki.client.key) }),
      context: 'here',
    })
    await expect(
      checked({ kubeconfig: config({ 'client-certificate-data': base64(other.client.certificate), 'client-key-data': base64(other.client.key) }) }),
    ).rejects.toMatchObject({ kind: 'refused' })
    const file = join(folder, 'token')
    await writeFile(file, 'the-first\n')
    const options = kubernetes.options.parse({ namespaces: ['agents'], kubeconfig: config({ tokenFile: file, token: 'an-old-one' }) })
    const provider = await kubernetes.open(options, { name: 'cluster', instance: 'test', timeoutMs: 5000, concurrency: 2 })
    await provider.check()
    // The kubelet puts another there.
    await writeFile(file, 'gone')
    await expect(provider.check()).rejects.toMatchObject({ kind: 'refused' })
    await writeFile(file, 'the-second')
    await provider.check()
    await rm(file)
    await expect(provider.check()).rejects.toMatchObject({ kind: 'refused', message: expect.stringContaining(file) })
    await provider.close()
  })

  it('is only what was checked of a kubeconfig, whatever else the library would follow in it', async () => {
    const file = join(folder, 'another-token')
    await writeFile(file, 'the-first')
    await checked({ kubeconfig: config({ tokenFile: file, 'token-file': join(folder, 'none') }) })
    // js-yaml merges what stands under a bare `<<`, and the check does not.
    const merged = (text: string, into: string) =>
      text.replace(`"${into}":{`, `"${into}": {<<: {exec: {command: id}, proxy-url: "http://127.0.0.1:1"}, `)
    const [whole, hidden] = [config({ token: 'the-first' }), merged(merged(config({ token: 'the-first' }), 'user'), 'cluster')]
    expect(hidden.length).toBeGreaterThan(whole.length + 100)
    await checked({ kubeconfig: hidden })
    await expect(checked({ kubeconfig: config({ token: 'the-first' }, { 'tls-server-name': 'other.example.com' }) })).rejects.toMatchObject({
      message: expect.stringContaining('does not verify'),
    })
  })

  it("is the pod's own, by the name that every cluster has for it", () => {
    expect(accessOf({ namespaces: ['agents'], in_cluster: true }).server).toBe('https://kubernetes.default.svc')
    expect(kubernetes.target(kubernetes.options.parse({ namespaces: ['agents'], in_cluster: true }))).toBe('kubernetes.default.svc')
  })

  it('is one of them', () => {
    for (const options of [
      {},
      { in_cluster: true, server: cluster.url, token: 'x' },
      { in_cluster: true, token: 'x' },
      { in_cluster: false },
      { kubeconfig: config({ token: 'x' }), in_cluster: true },
      { kubeconfig: config({ token: 'x' }), ca: pki.ca },
      { server: cluster.url },
      { server: cluster.url, token: 'x', context: 'here' },
      { server: cluster.url, token: 'x y' },
      { server: cluster.url, token: 'x\r\nX-Remote-User: admin' },
      { server: cluster.url, token: 'x', ca: 'no certificate' },
      { server: 'http://cluster.example.com', token: 'x' },
      { server: 'https://user:secret@cluster.example.com', token: 'x' },
      { server: 'https://cluster.example.com/?a=b', token: 'x' },
      { server: 'ftp://cluster.example.com', token: 'x' },
      { server: cluster.url, token: 'x', namespaces: [] },
      { server: cluster.url, token: 'x', namespaces: ['*'] },
      { server: cluster.url, token: 'x', insecure: true },
    ])
      expect({ options, refusal: refusal(options) }).not.toEqual({ options, refusal: 'taken' })
    expect(refusal({ server: cluster.url, token: 'x' })).toBe('taken')
    expect(refusal({ server: 'http://127.0.0.1:8001', token: 'x' })).toBe('taken')
  })

  it('runs no program, reads no other file and skips no verification for a kubeconfig, and says nothing of what is in it', () => {
    const secret = 'a-secret-in-a-kubeconfig'
    const user = { token: secret }
    for (const kubeconfig of [
      config({ exec: { command: 'aws', apiVersion: 'client.authentication.k8s.io/v1' } }),
      config({ ...user, exec: { command: 'id' } }),
      config({ 'auth-provider': { name: 'gcp' } }),
      config({ username: 'me', password: secret }),
      config({ ...user, as: 'system:admin' }),
      config({ 'client-certificate': '/etc/cert.pem', 'client-key': '/etc/key.pem' }),
      config({ 'client-certificate-data': base64(pki.client.certificate) }),
      config({ 'client-certificate-data': base64(secret), 'client-key-data': base64(secret) }),
      config({ tokenFile: 'relative/token' }),
      config({}),
      config(user, { 'insecure-skip-tls-verify': true }),
      config(user, { 'certificate-authority': '/etc/ca.pem' }),
      config(user, { 'certificate-authority-data': base64(secret) }),
      config(user, { 'proxy-url': 'http://proxy.example.com' }),
      config(user, { server: 'http://cluster.example.com' }),
      config(user, { server: undefined }),
      config(user, {}, { 'current-context': 'elsewhere' }),
      config(user, {}, { 'current-context': 'none' }),
      config(user, {}, { users: [] }),
      config(user, {}, { users: [{ name: 'me' }] }),
      `a: &a [${secret}]\nb: [*a, *a]`,
      `{"${secret}`,
      secret,
      '',
    ]) {
      const said = refusal({ kubeconfig })
      expect({ kubeconfig, taken: said === 'taken', told: said.includes(secret) }).toEqual({ kubeconfig, taken: false, told: false })
    }
  })
})
