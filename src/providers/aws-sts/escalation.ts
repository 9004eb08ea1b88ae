import type { PolicyDocument } from './policy.js'

/** Actions that answer with credentials. https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html */
const SECRETS = [
  'secretsmanager:GetSecretValue',
  'secretsmanager:BatchGetSecretValue',
  'ssm:GetParameter',
  'ssm:GetParameters',
  'ssm:GetParametersByPath',
  'ssm:GetParameterHistory',
  'redshift:GetClusterCredentials',
  'redshift-serverless:GetCredentials',
]
/** One action of each service that says who may do what. `iam` and `sts` are denied unless the role says `allow_iam`. */
const ACCESS = ['organizations:AttachPolicy', 'sso:CreateAccountAssignment', 'identitystore:CreateGroupMembership']

/** What a role's sessions may reach of other credentials, in sentences, as far as its policy tells. */
export function escalations({ policy, allow_iam: allowIam }: { readonly policy?: PolicyDocument; readonly allow_iam: boolean }): string[] {
  const allowed = (policy?.Statement ?? []).filter(({ Effect }) => Effect === 'Allow')
  const may = (action: string) => allowed.some((one) => covers(one, action))
  const secrets = SECRETS.filter(may)
  const access = ACCESS.filter(may).map(serviceOf)
  return [
    ...(allowIam ? ['allow_iam lets it make identities and take on other roles'] : []),
    ...(secrets.length > 0 ? [`its policy reads secrets (${secrets.join(', ')})`] : []),
    ...(access.length > 0 ? [`its policy says who may do what (${access.join(', ')})`] : []),
  ]
}

function covers({ Action, NotAction, Resource }: Readonly<Record<string, unknown>>, action: string): boolean {
  const named =
    NotAction === undefined ? textsOf(Action).some((one) => matches(one, action)) : !textsOf(NotAction).some((one) => matches(one, action))
  const resources = textsOf(Resource)
  // What is of another service alone is not reached, however wide the action.
  return named && (resources.length === 0 || resources.some((one) => matches(serviceOfArn(one), serviceOf(action))))
}

function textsOf(value: unknown): string[] {
  return [value].flat().filter((one) => typeof one === 'string')
}

function serviceOf(action: string): string {
  return action.split(':')[0] ?? ''
}

function serviceOfArn(arn: string): string {
  return /^arn:[^:]*:([^:]*):/.exec(arn)?.[1] ?? '*'
}

/** IAM's wildcards, and its indifference to case. https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_action.html */
function matches(pattern: string, text: string): boolean {
  const parts = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${parts}$`, 'i').test(text)
}
