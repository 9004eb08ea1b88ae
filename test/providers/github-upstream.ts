import { generateKeyPairSync } from 'node:crypto'
import type { Credential } from '../../src/providers/provider.js'
import { type FakeGitHub, type FakeInstallation, startFakeGitHub } from './fake-github.js'

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
export const PRIVATE_KEY = String(privateKey.export({ type: 'pkcs1', format: 'pem' }))
export const PRIVATE_KEY_PKCS8 = String(privateKey.export({ type: 'pkcs8', format: 'pem' }))
export const OTHER_KEY = String(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' }))
export const APP_ID = 4711
export const CLIENT_ID = 'Iv23liFAKE00000000'

export interface GitHubUpstream extends FakeGitHub {
  readonly installation: FakeInstallation
}

/** An app that is installed for an organization and for a user. */
export async function startGitHubUpstream(): Promise<GitHubUpstream> {
  const installation: FakeInstallation = {
    id: 101,
    account: { login: 'acme', id: 1, type: 'Organization' },
    repositories: ['app', 'docs', 'secret', 'a.b_c-d'].map((name, index) => ({ id: 9001 + index, name })),
    permissions: { contents: 'write', issues: 'write', pull_requests: 'read', metadata: 'read', administration: 'write' },
  }
  const ofUser: FakeInstallation = {
    id: 102,
    account: { login: 'Octocat', id: 2, type: 'User' },
    repositories: [{ id: 9101, name: 'app' }],
    permissions: { contents: 'read', metadata: 'read' },
  }
  const fake = await startFakeGitHub({ appId: APP_ID, clientId: CLIENT_ID, publicKey, installations: [installation, ofUser] })
  return { ...fake, installation }
}

/** What the holder of a token is answered. */
export async function asHolder({ fields }: Credential, method: 'GET' | 'PUT', repository: string): Promise<number> {
  const body = method === 'PUT' ? JSON.stringify({ message: 'x', content: 'eA==' }) : undefined
  const response = await fetch(`${fields.api_url}/repos/${repository}/contents/README.md`, {
    method,
    body,
    headers: { authorization: `Bearer ${fields.token}` },
  })
  await response.arrayBuffer()
  return response.status
}
