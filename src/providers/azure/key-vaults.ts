/**
 * Hosts of vaults and managed HSMs in each cloud: the resource is the bare one, or a vault's own.
 * https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates
 */
const HOSTS = [
  'vault.azure.net',
  'vault.azure.cn',
  'vault.usgovcloudapi.net',
  'vault.microsoftazure.de',
  'managedhsm.azure.net',
  'managedhsm.azure.cn',
  'managedhsm.usgovcloudapi.net',
]
/** Azure Key Vault's own application, by which it can be named instead. */
const APPLICATION = 'cfa8b339-82a2-471a-a3c9-0fc0be7a4093'

/** Whether a token for this scope (`<resource>/.default`) opens key vaults. */
export function opensKeyVaults(scope: string): boolean {
  const resource = scope.toLowerCase().replace(/\/\.default$/, '')
  if (resource.replace(/^api:\/\//, '') === APPLICATION) return true
  const host = URL.canParse(resource) ? new URL(resource).hostname : ''
  return HOSTS.some((one) => host === one || host.endsWith(`.${one}`))
}
