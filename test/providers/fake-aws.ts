import { randomBytes, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { asRefusal, type Delays, element, type FakeRole, InlinePolicies, roleOf } from './fake-aws-iam.js'
import { type Fields, modelOf, Refusal, read, refusal } from './fake-aws-model.js'
import { allows, evaluate, Malformed, parsePolicy, type Statement } from './fake-aws-policy.js'

/**
 * A FAKE of AWS, for want of an account in tests: the query protocol of STS and of IAM for the inline policies of roles, held to the published
 * service models, and an evaluation of what a session may do. Imports nothing of the project. It checks no signature, only that there is one
 * of the known access key for the right service.
 * https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html https://docs.aws.amazon.com/IAM/latest/APIReference/API_PutRolePolicy.html
 */
export interface FakeAws {
  readonly host: string
  readonly port: number
  readonly endpoint: string
  /** What each AssumeRole that was accepted asked for. */
  readonly assumed: readonly AssumedRole[]
  /** Every request that was signed, in the order of arrival. */
  readonly calls: readonly Call[]
  readonly delays: Delays
  /** Called before a request is carried out: to keep it, or to throw a Refusal. */
  before: (call: Call) => Promise<void> | void
  /** Inline policies of a role, by name, as written last. */
  inline(roleArn: string): ReadonlyMap<string, string>
  /** Takes the role away, as DeleteRole would. */
  deleteRole(roleArn: string): void
  /** Whether a session may do this, at that time (ms). @throws FakeCannot for what it cannot evaluate */
  authorize(credential: SessionCredential, action: string, resource: string, at?: number): boolean
  stop(): Promise<void>
}
export interface Call {
  readonly action: string
  readonly fields: Fields
}
export interface FakeAwsOptions {
  /** The broker's own key. */
  readonly accessKeyId: string
  /** What the broker itself may do, JSON; absent: everything. */
  readonly brokerPolicy?: string
  readonly roles: Readonly<Record<string, FakeRole>>
  readonly delays?: Partial<Delays>
}
export interface SessionCredential {
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly sessionToken: string
}
export interface AssumedRole extends SessionCredential {
  readonly roleArn: string
  readonly sessionName: string
  readonly sourceIdentity?: string
  readonly tags: Readonly<Record<string, string>>
  readonly transitive: readonly string[]
  readonly policy?: string
  readonly durationSeconds: number
  readonly issuedAt: number
  readonly expiration: number
}

const HOST = '127.0.0.1'
const ACCOUNT = '111122223333'
const BROKER = `arn:aws:iam::${ACCOUNT}:user/broker`
/** Stands for the packed size, which AWS does not document: far enough for a policy of 2,048 characters and one tag. */
const PACKED_LIMIT = 4096
const DEFAULT_MAX_SESSION_SECONDS = 3600
const DEFAULT_SECONDS = 3600
/** Plain text of a session policy: the page of AssumeRole; the model has no length. */
const MAX_SESSION_POLICY = 2048
const SIGNED =
  /^AWS4-HMAC-SHA256 Credential=([^/]+)\/\d{8}\/[a-z0-9-]+\/(sts|iam)\/aws4_request, SignedHeaders=([a-z0-9;-]+), Signature=[0-9a-f]{64}$/

export async function startFakeAws({ accessKeyId, brokerPolicy, roles: given, delays: wanted }: FakeAwsOptions): Promise<FakeAws> {
  const assumed: (AssumedRole & { statements: Statement[] | undefined })[] = []
  const calls: Call[] = []
  const delays: Delays = { propagationMs: 0, readLagMs: 0, ...wanted }
  const roles = new Map(Object.entries(given).map(([arn, role]) => [arn, new InlinePolicies(arn, role, delays)]))
  const models = { sts: modelOf('sts'), iam: modelOf('iam') }
  const broker = brokerPolicy === undefined ? undefined : parsePolicy(brokerPolicy)
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const form = new URLSearchParams(Buffer.concat(chunks).toString('utf8'))
      void answerTo(form, request.headers.authorization).then(({ status, body }) => {
        response.writeHead(status, { 'content-type': 'text/xml', date: new Date().toUTCString() }).end(body)
      })
    })
  })

  async function answerTo(form: URLSearchParams, authorization: string | undefined): Promise<{ status: number; body: string }> {
    const [, key, service, headers = ''] = SIGNED.exec(authorization ?? '') ?? []
    const model = models[service === 'iam' ? 'iam' : 'sts']
    const { xmlNamespace } = model.metadata
    const action = form.get('Action') ?? ''
    try {
      if (key === undefined || !headers.split(';').includes('host'))
        throw new Refusal('MissingAuthenticationToken', 'Request is missing Authentication Token', 403)
      if (key !== accessKeyId) throw new Refusal('InvalidClientTokenId', 'The security token included in the request is invalid.', 403)
      if (form.get('Version') !== model.metadata.apiVersion) throw new Refusal('InvalidAction', 'no such version')
      const call = { action, fields: read(model, action, form) }
      calls.push(call)
      await fake.before(call)
      const parts = service === 'iam' ? iam(call) : action === 'AssumeRole' ? assumeRole(call.fields) : callerIdentity()
      const result = parts === '' ? '' : `<${action}Result>${parts}</${action}Result>`
      const metadata = `<ResponseMetadata>${element('RequestId', randomUUID())}</ResponseMetadata>`
      return { status: 200, body: `<${action}Response xmlns="${xmlNamespace}">${result}${metadata}</${action}Response>` }
    } catch (thrown) {
      const { code, message, status } = asRefusal(thrown)
      const error = `<Error><Type>Sender</Type>${element('Code', code)}${element('Message', message)}</Error>`
      return { status, body: `<ErrorResponse xmlns="${xmlNamespace}">${error}${element('RequestId', randomUUID())}</ErrorResponse>` }
    }
  }

  function mayBroker(action: string, resource: string): boolean {
    const boundary = given[resource]?.boundary?.arn
    const context = {
      'aws:currenttime': new Date().toISOString(),
      ...(boundary === undefined ? {} : { 'iam:permissionsboundary': boundary }),
    }
    return broker === undefined || evaluate(broker, { action, resource, context }) === 'allow'
  }

  function iam({ action, fields }: Call): string {
    const denied = (arn: string) =>
      new Refusal('AccessDenied', `User: ${BROKER} is not authorized to perform: iam:${action} on resource: role ${arn}`, 403)
    const [arn, policies] = roleOf(roles, models.iam, action, fields)
    if (!mayBroker(`iam:${action}`, arn)) throw denied(arn)
    return policies.answer(models.iam, action, fields, Date.now())
  }

  function assumeRole(fields: Fields): string {
    const { RoleArn, RoleSessionName, SourceIdentity, ExternalId, Policy, DurationSeconds = DEFAULT_SECONDS } = fields
    const [roleArn, sessionName, durationSeconds] = [String(RoleArn), String(RoleSessionName), Number(DurationSeconds)]
    const sourceIdentity = SourceIdentity === undefined ? undefined : String(SourceIdentity)
    const policy = Policy === undefined ? undefined : String(Policy)
    const tags = tagsOf(fields)
    const transitive = [fields.TransitiveTagKeys ?? []].flat().map(String)
    if ((policy?.length ?? 0) > MAX_SESSION_POLICY)
      throw new Refusal('ValidationError', `Member must have length less than or equal to ${MAX_SESSION_POLICY}`)
    if (sourceIdentity?.startsWith('aws:')) throw new Refusal('ValidationError', 'Source identity cannot begin with aws:')
    for (const key of transitive) if (!Object.hasOwn(tags, key)) throw new Refusal('ValidationError', `${key} is not among the session tags`)

    const role = roles.has(roleArn) ? given[roleArn] : undefined
    const denied = `User: ${BROKER} is not authorized to perform: sts:AssumeRole on resource: ${roleArn}`
    const needs = [
      'AssumeRole',
      ...(Object.keys(tags).length > 0 ? ['TagSession'] : []),
      ...(sourceIdentity === undefined ? [] : ['SetSourceIdentity']),
    ]
    const isRefused = role === undefined || (role.externalId !== undefined && role.externalId !== ExternalId)
    if (isRefused || !needs.every((action) => mayBroker(`sts:${action}`, roleArn))) throw new Refusal('AccessDenied', denied, 403)
    if (durationSeconds > (role.maxSessionSeconds ?? DEFAULT_MAX_SESSION_SECONDS))
      throw new Refusal('ValidationError', 'The requested DurationSeconds exceeds the MaxSessionDuration set for this role.')

    const packed = (policy?.length ?? 0) + JSON.stringify(tags).length
    if (packed > PACKED_LIMIT)
      throw refusal(models.sts, 'AssumeRole', 'PackedPolicyTooLarge', 'Packed size of session tags and policies consumes more than 100%')
    let statements: Statement[] | undefined
    try {
      statements = policy === undefined ? undefined : parsePolicy(policy)
    } catch (error) {
      if (!(error instanceof Malformed)) throw error
      throw refusal(models.sts, 'AssumeRole', 'MalformedPolicyDocument', error.message)
    }
    const issuedAt = Math.floor(Date.now() / 1000) * 1000
    const session: AssumedRole = {
      accessKeyId: `ASIA${randomBytes(8).toString('hex').toUpperCase()}`,
      secretAccessKey: randomBytes(30).toString('base64'),
      sessionToken: randomBytes(120).toString('base64'),
      roleArn,
      sessionName,
      sourceIdentity,
      tags,
      transitive,
      policy,
      durationSeconds,
      issuedAt,
      expiration: issuedAt + durationSeconds * 1000,
    }
    assumed.push({ ...session, statements })
    const roleName = roleArn.slice(roleArn.lastIndexOf('/') + 1)
    return [
      ...(sourceIdentity === undefined ? [] : [element('SourceIdentity', sourceIdentity)]),
      `<AssumedRoleUser>${element('Arn', `arn:aws:sts::${ACCOUNT}:assumed-role/${roleName}/${sessionName}`)}`,
      `${element('AssumedRoleId', `AROAEXAMPLE:${sessionName}`)}</AssumedRoleUser>`,
      `<Credentials>${element('AccessKeyId', session.accessKeyId)}${element('SecretAccessKey', session.secretAccessKey)}`,
      `${element('SessionToken', session.sessionToken)}${element('Expiration', seconds(session.expiration))}</Credentials>`,
      element('PackedPolicySize', String(Math.ceil((packed / PACKED_LIMIT) * 100))),
    ].join('')
  }

  await new Promise<void>((resolve) => server.listen(0, HOST, resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const fake: FakeAws = {
    host: HOST,
    port,
    endpoint: `http://${HOST}:${port}`,
    assumed,
    calls,
    delays,
    before: () => undefined,
    inline: (roleArn) => roles.get(roleArn)?.latest ?? new Map(),
    deleteRole: (roleArn) => void roles.delete(roleArn),
    authorize(credential, action, resource, at = Date.now()) {
      const session = assumed.find(({ sessionToken }) => sessionToken === credential.sessionToken)
      if (session?.accessKeyId !== credential.accessKeyId || session.secretAccessKey !== credential.secretAccessKey) return false
      const [role, inline] = [given[session.roleArn], roles.get(session.roleArn)]
      if (at >= session.expiration || role === undefined || inline === undefined) return false
      const ofRole = [...parsePolicy(role.policy), ...inline.inForce(at)]
      const boundary = role.boundary && parsePolicy(role.boundary.policy)
      return allows([ofRole, boundary, session.statements], { action, resource, context: contextOf(session, at) })
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
  return fake
}

/** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html */
function contextOf({ roleArn, sessionName, sourceIdentity, tags, issuedAt }: AssumedRole, at: number): Record<string, string> {
  return {
    'aws:currenttime': new Date(at).toISOString(),
    'aws:tokenissuetime': seconds(issuedAt),
    'aws:principalarn': roleArn,
    'aws:principalaccount': ACCOUNT,
    'aws:userid': `AROAEXAMPLE:${sessionName}`,
    ...(sourceIdentity === undefined ? {} : { 'aws:sourceidentity': sourceIdentity }),
    ...Object.fromEntries(Object.entries(tags).map(([key, value]) => [`aws:principaltag/${key.toLowerCase()}`, value])),
  }
}

function callerIdentity(): string {
  return `${element('Arn', BROKER)}${element('UserId', 'AIDAEXAMPLE')}${element('Account', ACCOUNT)}`
}

/** Beyond what the model says: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_session-tags.html */
function tagsOf({ Tags = [] }: Fields): Record<string, string> {
  const tags = [Tags].flat().map((tag) => (typeof tag === 'object' && 'Key' in tag ? [String(tag.Key), String(tag.Value)] : []))
  if (new Set(tags.map(([key]) => key?.toLowerCase())).size < tags.length) throw new Refusal('ValidationError', 'Duplicate tag keys found')
  if (tags.some(([key = '']) => key.startsWith('aws:'))) throw new Refusal('ValidationError', 'aws: prefixed tag key names are not allowed')
  return Object.fromEntries(tags)
}

function seconds(at: number): string {
  return new Date(at).toISOString().replace('.000Z', 'Z')
}
