import { generateKeyPairSync, sign } from 'node:crypto'
import { afterEach, describe, expect, it } from '@jest/globals'
import type { Identity } from '../../src/identity/identity.js'
import { createIdentity } from '../../src/identity/index.js'
import type { IdentityOptions } from '../../src/identity/options.js'
import { startOidc } from '../support/oidc.js'
import { bearer, goodClaims, house, ISSUER, newSigner, START, staticOptions } from './tokens.js'

const NOW = START / 1000
const opened: Identity[] = []
function open(options: IdentityOptions, capabilities = house()): Identity {
  const identity = createIdentity(options, capabilities)
  opened.push(identity)
  return identity
}
afterEach(async () => {
  await Promise.all(opened.splice(0).map((identity) => identity.close()))
})
const internal = (promise: Promise<unknown>) => promise.catch((error) => error.details?.internal ?? error)

describe('tokens made by node-jose', () => {
  it.each(['ES256', 'ES384', 'RS256', 'PS256'] as const)('%s is accepted, with or without a "kid"', async (alg) => {
    const signer = await newSigner(alg)
    const identity = open(staticOptions(signer))
    for (const hasKid of [true, false]) {
      const token = await signer.token({}, hasKid ? {} : { kid: undefined })
      const header = JSON.parse(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString())
      expect(header).toEqual({ typ: 'JWT', alg, ...(hasKid && { kid: signer.kid }) })
      expect(await identity.verify(bearer(token))).toEqual({
        kind: 'agent',
        id: 'agents/worker-1',
        issuer: 'idp',
        subject: 'worker-1',
        owner: 'sre@example.com',
        autonomy: 'autonomous',
        labels: [],
        team: undefined,
        openTasks: undefined,
        tokenFingerprint: expect.stringMatching(/^[\w-]{16}$/),
        tokenIssuedAt: START - 10_000,
        tokenExpiresAt: START + 600_000,
      })
    }
  })
  it('a key without "alg" is good for the algorithm of its curve, and RSA for RS256 alone', async () => {
    for (const alg of ['ES256', 'RS256'] as const) {
      const signer = await newSigner(alg)
      const { alg: _, ...jwk } = signer.jwk
      const identity = open(staticOptions({ ...signer, jwk }))
      expect(await identity.verify(bearer(await signer.token()))).toMatchObject({ id: 'agents/worker-1' })
    }
    const pss = await newSigner('PS256')
    const { alg: _, ...jwk } = pss.jwk
    expect(await internal(open(staticOptions({ ...pss, jwk })).verify(bearer(await pss.token())))).toMatch(/another algorithm/)
    const only = open(staticOptions({ ...pss, jwk }, { algorithms: ['PS256'] }))
    expect(await only.verify(bearer(await pss.token()))).toMatchObject({ id: 'agents/worker-1' })
  })
})

it.each(['Ed25519', 'EdDSA'])('an Ed25519 token is accepted under the name %s', async (alg) => {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const signer = await newSigner()
  const identity = open(staticOptions({ ...signer, jwk: { ...publicKey.export({ format: 'jwk' }), kid: 'ed', alg: 'EdDSA' } }))
  const input = [{ alg, kid: 'ed' }, goodClaims()].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  const token = `${input}.${sign(null, Buffer.from(input), privateKey).toString('base64url')}`
  expect(await identity.verify(bearer(token))).toMatchObject({ id: 'agents/worker-1' })
})

describe('what an issuer may say of its tokens', () => {
  it('a "typ" of its list, an audience among others, and one algorithm alone', async () => {
    const signer = await newSigner()
    const identity = open(staticOptions(signer, { typ: ['at+jwt'], audience: { contains: 'mayfly' }, algorithms: ['ES256'] }))
    for (const typ of ['at+jwt', 'application/AT+JWT', 'JWT']) {
      expect(await identity.verify(bearer(await signer.token({ aud: ['api', 'mayfly'] }, { typ })))).toMatchObject({ subject: 'worker-1' })
    }
    expect(await internal(identity.verify(bearer(await signer.token({ aud: ['api', 'mayflies'] }))))).toMatch(/not the audience/)
    const rsa = await newSigner('RS256')
    const strict = open(staticOptions(rsa, { algorithms: ['RS256'] }))
    expect(await internal(strict.verify(bearer(await signer.token())))).toMatch(/"alg" is not on the list/)
  })
  it('a cap on the life and a skew of its own', async () => {
    const signer = await newSigner()
    const identity = open(staticOptions(signer, { maxLifetimeSeconds: 60, skewSeconds: 5 }))
    expect(await identity.verify(bearer(await signer.token({ iat: NOW + 5, nbf: NOW, exp: NOW + 65 })))).toMatchObject({ subject: 'worker-1' })
    expect(await internal(identity.verify(bearer(await signer.token({ iat: NOW + 6, exp: NOW + 60 }))))).toMatch(/future/)
    expect(await internal(identity.verify(bearer(await signer.token({ iat: NOW, exp: NOW + 61 }))))).toMatch(/longer than the cap/)
  })
})

describe('a configuration that can only be wrong is refused when it is read', () => {
  it.each<[string, (good: IdentityOptions) => unknown, RegExp]>([
    [
      'a symmetric algorithm',
      (good) => ({ ...good, issuers: { idp: { ...good.issuers.idp, algorithms: ['HS256'] } } }),
      /^issuers\.idp\.algorithms: /,
    ],
    ['alg none', (good) => ({ ...good, issuers: { idp: { ...good.issuers.idp, algorithms: ['none'] } } }), /^issuers\.idp\.algorithms: /],
    ['no algorithm', (good) => ({ ...good, issuers: { idp: { ...good.issuers.idp, algorithms: [] } } }), /^issuers\.idp\.algorithms: /],
    ['an empty audience', (good) => ({ ...good, issuers: { idp: { ...good.issuers.idp, audience: '' } } }), /^issuers\.idp\.audience: /],
    ['a key set without keys', (good) => ({ ...good, issuers: { idp: { ...good.issuers.idp, keys: { keys: [] } } } }), /^issuers\.idp\.keys: /],
    [
      'a symmetric key',
      (good) => ({ ...good, issuers: { idp: { ...good.issuers.idp, keys: { keys: [{ kty: 'oct', k: 'AA' }] } } } }),
      /^issuers\.idp\.keys: /,
    ],
    ['http', () => ({ issuers: { x: { kind: 'oidc', url: 'http://idp.example', audience: 'mayfly' } } }), /^issuers\.x\.url: must be https/],
    [
      'a query',
      () => ({ issuers: { x: { kind: 'oidc', url: 'https://idp.example?a', audience: 'mayfly' } } }),
      /^issuers\.x\.url: must have no query/,
    ],
    [
      'credentials',
      () => ({ issuers: { x: { kind: 'oidc', url: 'https://u:p@idp.example', audience: 'm' } } }),
      /^issuers\.x\.url: must have no credentials/,
    ],
    ['no url', () => ({ issuers: { x: { kind: 'oidc', audience: 'mayfly' } } }), /^issuers\.x\.url: is required/],
    ['no url', () => ({ issuers: { x: { kind: 'oidc', url: 'idp', audience: 'mayfly' } } }), /^issuers\.x\.url: is not a URL/],
    [
      'one iss twice',
      (good) => ({ ...good, issuers: { ...good.issuers, two: good.issuers.idp } }),
      /^issuers\.two: has the same "iss" as issuers\.idp/,
    ],
  ])('%s', async (_name, change, message) => {
    const options = change(staticOptions(await newSigner())) as IdentityOptions
    expect(() => open(options)).toThrow(message)
  })
  it('a private key, a small one, or one for encryption', async () => {
    const signer = await newSigner()
    const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ format: 'jwk' })
    for (const jwk of [signer.privateKey.export({ format: 'jwk' }), small, { ...signer.jwk, use: 'enc' }, { ...signer.jwk, key_ops: ['sign'] }]) {
      expect(() => open(staticOptions({ ...signer, jwk }))).toThrow(/^issuers\.idp\.keys: 1 of 1 are not public signature keys/)
    }
  })
})

it('a Kubernetes service account token names its namespace, account, pod and their uids', async () => {
  const signer = await newSigner('RS256')
  const identity = open({
    issuers: { cluster: { kind: 'jwks', keys: { keys: [signer.jwk] }, issuer: ISSUER, audience: 'mayfly', preset: 'kubernetes' } },
    agents: [
      {
        id: 'triage/{namespace}',
        match: { issuer: 'cluster', claims: { namespace: 'team-*', service_account: 'triage', service_account_uid: 'sa-uid', node: 'node-1' } },
        instance: 'pod_uid',
        owner: 'sre@example.com',
        autonomy: 'supervised',
        team: 'analytics',
        labels: ['tier-1'],
        openTasks: [{ role: 'warehouse-read', maxTtlSeconds: 300 }],
      },
    ],
  })
  const kubernetes = {
    namespace: 'team-a',
    node: { name: 'node-1', uid: 'node-uid' },
    pod: { name: 'triage-0', uid: 'pod-uid' },
    serviceaccount: { name: 'triage', uid: 'sa-uid' },
    warnafter: NOW + 300,
  }
  const claims = { aud: ['mayfly'], jti: 'e1', sub: 'system:serviceaccount:team-a:triage', 'kubernetes.io': kubernetes }
  const token = await signer.token(claims, { typ: undefined })
  expect(Buffer.from(token.split('.')[0] ?? '', 'base64url').toString()).not.toContain('typ')
  expect(await identity.verify(bearer(token))).toMatchObject({
    kind: 'agent',
    id: 'triage/team-a',
    instance: 'pod-uid',
    subject: 'system:serviceaccount:team-a:triage',
    autonomy: 'supervised',
    team: 'analytics',
    labels: ['tier-1'],
    openTasks: [{ role: 'warehouse-read', maxTtlSeconds: 300 }],
  })

  const refusals: [Record<string, unknown>, RegExp][] = [
    [{ ...claims, sub: 'system:serviceaccount:team-b:triage' }, /do not name one service account/],
    [{ ...claims, 'kubernetes.io': { ...kubernetes, serviceaccount: { name: 'triage' } } }, /do not name one service account/],
    [{ ...claims, sub: 'system:serviceaccount:undefined:undefined', 'kubernetes.io': { serviceaccount: { uid: 'sa-uid' } } }, /do not name one/],
    [{ ...claims, 'kubernetes.io': undefined, namespace: 'team-a', service_account: 'triage' }, /has "kubernetes.io"/],
    [
      { ...claims, 'kubernetes.io': { ...kubernetes, pod: undefined }, pod_uid: 'mine' },
      /instance cannot be told: the token has no single "pod_uid"/,
    ],
    [{ ...claims, 'kubernetes.io': { ...kubernetes, node: undefined }, node: 'node-1' }, /no agent.* matches/],
  ]
  for (const [changed, reason] of refusals) expect(await internal(identity.verify(bearer(await signer.token(changed))))).toMatch(reason)
})

it('a GitHub Actions token is bound by ids, workflow and environment', async () => {
  const signer = await newSigner('RS256')
  const url = 'https://token.actions.githubusercontent.com'
  const identity = open({
    issuers: { ci: { kind: 'jwks', keys: { keys: [signer.jwk] }, issuer: url, audience: 'mayfly', preset: 'github-actions' } },
    agents: [
      {
        id: 'ci/{repository_id}',
        match: {
          issuer: 'ci',
          claims: {
            repository_id: '74',
            repository_owner_id: '65',
            job_workflow_ref: 'octo-org/octo-automation/.github/workflows/deploy.yml@refs/heads/*',
            environment: 'prod',
            event_name: 'workflow_dispatch',
            runner_environment: 'github-hosted',
          },
        },
        instance: 'run_id',
        owner: 'ci@example.com',
        autonomy: 'scripted',
      },
    ],
  })
  // https://docs.github.com/en/actions/reference/security/oidc#oidc-token-claims
  const claims = {
    iss: url,
    jti: 'example-id',
    sub: 'repo:octo-org/octo-repo:environment:prod',
    environment: 'prod',
    ref: 'refs/heads/main',
    sha: 'example-sha',
    repository: 'octo-org/octo-repo',
    repository_owner: 'octo-org',
    actor_id: '12',
    repository_visibility: 'private',
    repository_id: '74',
    repository_owner_id: '65',
    run_id: '1000',
    run_number: '10',
    run_attempt: '2',
    runner_environment: 'github-hosted',
    actor: 'octocat',
    workflow: 'example-workflow',
    head_ref: '',
    base_ref: '',
    event_name: 'workflow_dispatch',
    ref_type: 'branch',
    job_workflow_ref: 'octo-org/octo-automation/.github/workflows/deploy.yml@refs/heads/main',
  }
  expect(await identity.verify(bearer(await signer.token(claims)))).toMatchObject({ id: 'ci/74', instance: '1000', autonomy: 'scripted' })
  for (const changed of [
    { repository_id: '75' },
    { repository_owner_id: '66' },
    { environment: 'staging' },
    { event_name: 'pull_request_target' },
    { runner_environment: 'self-hosted' },
    { job_workflow_ref: 'octo-org/octo-automation/.github/workflows/deploy.yml@refs/heads/a/b' },
    { job_workflow_ref: undefined },
  ]) {
    expect(await internal(identity.verify(bearer(await signer.token({ ...claims, ...changed }))))).toMatch(/no agent.* matches/)
  }
  expect(await internal(identity.verify(bearer(await signer.token({ ...claims, run_id: undefined }))))).toMatch(/has "run_id"/)
})

it('tokens of a real oidc-provider are accepted by discovery, or with the key set named', async () => {
  const oidc = await startOidc({ clients: [{ id: 'triage', claims: { namespace: 'team-a' } }] })
  try {
    for (const jwksUri of [undefined, `${oidc.issuer}/jwks`]) {
      const identity = open(
        {
          issuers: { sso: { kind: 'oidc', url: oidc.issuer, jwksUri, audience: 'mayfly', typ: ['at+jwt'], allowHttpLoopback: true } },
          agents: [{ id: 'triage/{namespace}', match: { issuer: 'sso', claims: { client_id: 'triage' } }, owner: 'o', autonomy: 'scripted' }],
        },
        house({ at: Date.now() }),
      )
      expect(await identity.verify(bearer(await oidc.token('triage')))).toMatchObject({ id: 'triage/team-a', subject: 'triage', issuer: 'sso' })
      expect(identity.status()).toEqual([{ name: 'sso', state: 'ready', keys: 1, fetchedAt: expect.any(Number), error: undefined }])
      expect(await internal(identity.verify(bearer(await oidc.token('triage', { aud: 'urn:other' }))))).toMatch(/not the audience/)
    }
  } finally {
    await oidc.stop()
  }
})
