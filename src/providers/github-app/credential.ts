import type { Credential } from '../provider.js'
import type { Granted } from './answer.js'

/** As a process, and the `gh` tool, want it. */
export function credentialOf(api_url: string, token: string, { expiresAt, repositories, permissions }: Granted): Credential {
  const { host } = new URL(api_url)
  const isServer = host !== 'api.github.com' && !/^api\.[a-z0-9-]+\.ghe\.com$/.test(host)
  // As the gh tool reads them, which sends GITHUB_TOKEN and GH_TOKEN to github.com: https://cli.github.com/manual/gh_help_environment
  const names = isServer ? ['GH_ENTERPRISE_TOKEN', 'GITHUB_ENTERPRISE_TOKEN'] : ['GITHUB_TOKEN', 'GH_TOKEN']
  const place = host === 'api.github.com' ? [] : [['GH_HOST', host.replace(/^api\.(?=[a-z0-9-]+\.ghe\.com$)/, '')]]
  const env = Object.fromEntries([...names.map((name) => [name, token]), ...place, ['GITHUB_API_URL', api_url]])
  return { type: 'github-app', fields: { token, expires_at: new Date(expiresAt).toISOString(), repositories, permissions, api_url }, env }
}
