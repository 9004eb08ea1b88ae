import { ProviderError } from '../provider.js'

type Kind = ProviderError['kind']
const DOCS = 'see docs/providers/aws-sts.md'
/** https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html#API_AssumeRole_Errors and CommonErrors. */
const BY_CODE: Readonly<Record<string, readonly [Kind, string]>> = {
  AccessDenied: ['refused', `AWS does not let the broker assume, tag or name the source of this role: ${DOCS}`],
  PackedPolicyTooLarge: ['invalid', 'the session policy and tags are larger than AWS packs: use a shorter policy'],
  MalformedPolicyDocument: ['invalid', 'AWS does not take the session policy: check the policy of the role'],
  ValidationError: ['invalid', "AWS refused a parameter: check the role's ARN, and its maximum session duration against max_ttl"],
  RegionDisabledException: ['refused', 'STS is not activated in this region for the account'],
  ExpiredToken: ['refused', "the broker's own AWS credentials have expired"],
  InvalidClientTokenId: ['refused', "AWS does not know the broker's own credentials"],
  SignatureDoesNotMatch: ['refused', "the broker's own AWS credentials are wrong, or its clock is"],
  CredentialsProviderError: ['refused', "the SDK's default chain found no AWS credentials for the broker"],
  RequestExpired: ['timeout', 'AWS got the request too late'],
  Throttling: ['throttled', 'AWS is throttling'],
  ThrottlingException: ['throttled', 'AWS is throttling'],
  RequestLimitExceeded: ['throttled', 'AWS is throttling'],
  ServiceUnavailable: ['throttled', 'AWS says that it is unavailable'],
  AbortError: ['timeout', 'AWS did not answer in time'],
  TimeoutError: ['timeout', 'AWS did not answer in time'],
}
/** https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html#API_PutRolePolicy_Errors, where IAM means something else. */
const BY_CODE_OF_IAM: Readonly<Record<string, readonly [Kind, string]>> = {
  AccessDenied: ['refused', `AWS does not let the broker read, write or delete the policy that holds an AWS role's revocations: ${DOCS}`],
  MalformedPolicyDocument: ['broken', 'AWS does not take the policy that holds the revocations'],
  UnmodifiableEntity: ['invalid', "this AWS role is a service's own and takes no policies: early revocation needs a role of yours"],
  ConcurrentModification: ['throttled', 'AWS is changing this role at the moment'],
  ServiceFailure: ['throttled', 'AWS says that IAM failed'],
  ValidationError: ['broken', 'AWS refused a parameter of a call to IAM'],
}

/**
 * What the SDK threw, without what hangs on it: an answer that could not be read is kept in hidden fields of the error, and may hold the
 * credential. Only AWS's own error messages are passed on.
 */
export function asProviderError(thrown: unknown, service: 'sts' | 'iam' = 'sts'): ProviderError {
  if (thrown instanceof ProviderError) return thrown
  const { name, message, status, fault, code } = partsOf(thrown)
  const cause = new Error(fault ? `${name}: ${message}` : (code ?? name))
  const table = service === 'iam' ? { ...BY_CODE, ...BY_CODE_OF_IAM } : BY_CODE
  const known = table[name] ?? table[name.replace(/Exception$/, '')]
  if (known) return new ProviderError(known[0], known[1], { cause })
  if (code !== undefined || status === undefined)
    return new ProviderError('unreachable', 'AWS could not be reached, or did not answer as it does', { cause })
  return new ProviderError('broken', `AWS answered with an error or with what cannot be read (HTTP ${status})`, { cause })
}

function partsOf(thrown: unknown): { name: string; message: string; status?: number; fault: boolean; code?: string } {
  if (!(thrown instanceof Error)) return { name: 'unknown', message: '', fault: false }
  const metadata = '$metadata' in thrown ? Object(thrown.$metadata) : {}
  return {
    name: thrown.name,
    message: thrown.message,
    status: typeof metadata.httpStatusCode === 'number' ? metadata.httpStatusCode : undefined,
    fault: '$fault' in thrown,
    code: 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined,
  }
}
