import { githubApp } from '../../src/providers/github-app.js'
import { contract } from './contract.js'
import { APP_ID, asHolder, PRIVATE_KEY, startGitHubUpstream } from './github-upstream.js'
import type { Harness } from './harness.js'

async function start(): Promise<Harness> {
  const github = await startGitHubUpstream()
  const good = { owner: 'acme', repositories: ['app', 'docs'], permissions: { contents: 'write', issues: 'read' } }
  const half = '{"token":"ghs_abc","expires_at":'
  const busy = '{"message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}'
  const head = 'content-type: application/json\r\nx-github-request-id: 1:2\r\n'
  return {
    module: githubApp,
    upstream: 'fake',
    options: { app_id: APP_ID, private_key: PRIVATE_KEY, api_url: github.apiUrl },
    params: good,
    address: github,
    optionsAt: (port) => ({ app_id: APP_ID, private_key: PRIVATE_KEY, api_url: `http://127.0.0.1:${port}` }),
    // One line out of the middle: the whole would not be found where its line breaks are written otherwise.
    brokerSecret: PRIVATE_KEY.split('\n')[5],
    async works(credential, at = Date.now()) {
      github.setAhead(at - Date.now())
      const status = await asHolder(credential, 'GET', 'acme/app')
      github.setAhead(0)
      return status === 200
    },
    someHandle: { token: `ghs_${'a'.repeat(36)}` },
    made: async () => github.live(),
    narrowing: {
      scope: { repositories: ['app'], permissions: ['contents:read'] },
      allows: async (credential) => (await asHolder(credential, 'GET', 'acme/app')) === 200,
      denies: async (credential) =>
        (await asHolder(credential, 'PUT', 'acme/app')) === 403 &&
        (await asHolder(credential, 'GET', 'acme/docs')) === 404 &&
        (await asHolder(credential, 'GET', 'acme/secret')) === 404,
    },
    widening: [
      { repositories: 'secret' },
      { repositories: ['app', 'secret'] },
      { repositories: [] },
      { repositories: '' },
      { repositories: '*' },
      { repositories: ['acme/app'] },
      { repositories: ['../app'] },
      { repositories: ['APP'] },
      { repositories: ['9003'] },
      { repositories: ['app\n'] },
      { repositories: ['__proto__'] },
      { permissions: [] },
      { permissions: '' },
      { permissions: 'contents' },
      { permissions: 'contents:admin' },
      { permissions: 'contents:' },
      { permissions: 'contents:read:write' },
      { permissions: ['contents:read', 'contents:write'] },
      { permissions: ['issues:write'] },
      { permissions: ['administration:read'] },
      { permissions: ['pull_requests:read'] },
      { permissions: ['__proto__:read'] },
      { permissions: ['constructor:read'] },
      { permissions: ['contents:read\n'] },
      { repository_ids: ['9001'] },
      { repository_selection: 'all' },
      { installation: '102' },
      { owner: 'Octocat' },
    ],
    hostileParams: [
      {},
      { owner: 'acme' },
      { owner: 'acme', repositories: ['app'] },
      { owner: 'acme', permissions: { contents: 'read' } },
      { owner: 'acme', repositories: [], permissions: { contents: 'read' } },
      { owner: 'acme', repositories: ['app'], permissions: {} },
      { repositories: ['app'], permissions: { contents: 'read' } },
      { ...good, installation: 101 },
      { ...good, owner: undefined, installation: -1 },
      { ...good, owner: undefined, installation: 1.5 },
      { ...good, owner: undefined, installation: '101' },
      { ...good, owner: 'acme/app' },
      { ...good, owner: '../app' },
      { ...good, owner: 'acme\n' },
      { ...good, owner: '{username}' },
      ...['acme/app', '..', '.', '', '*', 'a b', 'app\r\nx: y', 'a?b', 'a%2fb', 'ä', 'x'.repeat(101), 'x'.repeat(10_240)].map((one) => ({
        ...good,
        repositories: [one],
      })),
      { ...good, repositories: ['app', 9001] },
      { ...good, repositories: ['app', 'App'] },
      { ...good, repositories: [0] },
      { ...good, repositories: [9001, 9001] },
      { ...good, repositories: 'app' },
      { ...good, repositories: Array.from({ length: 501 }, (_, index) => `r${index}`) },
      { ...good, permissions: { contents: 'admin' } },
      { ...good, permissions: { contents: 'Write' } },
      { ...good, permissions: { contents: true } },
      { ...good, permissions: { all: 'read' } },
      { ...good, permissions: JSON.parse('{"__proto__": "write"}') },
      { ...good, permissions: { metadata: 'admin' } },
      { ...good, permissions: ['contents'] },
      ...['administration', 'members', 'organization_administration', 'repository_hooks', 'organization_hooks', 'workflows', 'secrets'].map(
        (name) => ({
          ...good,
          permissions: { [name]: 'write' },
        }),
      ),
      ...['environments', 'organization_secrets', 'organization_self_hosted_runners', 'git_ssh_keys', 'codespaces', 'dependabot_secrets'].map(
        (name) => ({
          ...good,
          permissions: { contents: 'read', [name]: 'write' },
        }),
      ),
      { ...good, repository_selection: 'all' },
      { ...good, allow_lasting_access: 'yes' },
    ],
    refusedParams: [
      { ...good, repositories: ['nosuch'] },
      { ...good, repositories: [424242] },
      { ...good, permissions: { contents: 'write', checks: 'write' } },
      { ...good, owner: 'nobody' },
      { ...good, owner: undefined, installation: 999 },
      // Of another account: its number alone does not make it this app's to give.
      { ...good, owner: 'Octocat', repositories: [9001] },
    ],
    secretsOf: ({ fields }) => [String(fields.token)],
    mintSign: 'access_tokens',
    halfAnswer: `HTTP/1.1 201 Created\r\n${head}content-length: 400\r\n\r\n${half}`,
    busyAnswer: `HTTP/1.1 403 Forbidden\r\n${head}content-length: ${busy.length}\r\n\r\n${busy}`,
    log: github.log,
    stop: github.stop,
  }
}

const returned = 'only the answer of the mint knows the token, and nothing at GitHub has a name; the blind window is one hour'
contract('github-app', start, {
  'after its expiry it does not work': 'revocation is immediate; that a token ends after its hour is in github-app.test.ts',
  'what cannot be taken back is not called revoked': 'revocation is immediate: every token can revoke itself',
  'a session opened before the revoke is cut': 'each request to GitHub is authenticated by itself: there are no sessions',
  'revoking before the mint is success': returned,
  'revoking during the mint, and once more after its end, leaves nothing': returned,
  'a mint that lost its answer leaves nothing after revoke': returned,
  'a mint that arrives after its end makes nothing': 'GitHub takes no deadline: what it makes late is given back, in github-app.test.ts',
  "the upstream's own expiry is set": 'the hour is fixed by GitHub and told as usableUntil; that it holds is in github-app.test.ts',
  'list finds exactly what this instance made': 'GitHub lists no tokens',
  'renew extends it, and revives nothing': 'a token cannot be extended: renewing mints a successor',
})
