import { randomBytes, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import { allows, parsePolicy, type Statement } from './fake-aws-policy.js'

/**
 * A FAKE of AWS, for want of an account in tests: the query protocol of STS with AssumeRole and GetCallerIdentity, the constraints that the
 * API reference documents, and an evaluation of what a session may do. Imports nothing of the project. It checks no signature, only that
 * there is one of the known access key.
 * https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
 */
export interface FakeAws {
  readonly host: string
  readonly port: number
  readonly endpoint: string
  /** What each AssumeRole that was accepted asked for. */
  readonly assumed: readonly AssumedRole[]
  /** Whether a session may do this, at that time (ms). */
  authorize(credential: SessionCredential, action: string, resource: string, at?: number): boolean
  stop(): Promise<void>
}
export interface FakeAwsOptions {
  /** The broker's own key. */
  readonly accessKeyId: string
  readonly roles: Readonly<Record<string, FakeRole>>
}
export interface FakeRole {
  /** Identity policy of the role, JSON. */
  readonly policy: string
  readonly maxSessionSeconds?: number
  readonly externalId?: string
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
  readonly expiration: number
}

const HOST = '127.0.0.1'
const ACCOUNT = '111122223333'
const XMLNS = 'https://sts.amazonaws.com/doc/2011-06-15/'
/** Stands for the packed size, which AWS does not document: far enough for a policy of 2,048 characters and one tag. */
const PACKED_LIMIT = 4096
const DEFAULT_MAX_SESSION_SECONDS = 3600
const DEFAULT_SECONDS = 3600

class Refusal extends Error {
  constructor(
    readonly code: string,
    message: string,
    readonly status = 400,
  ) {
    super(message)
  }
}

export async function startFakeAws({ accessKeyId, roles }: FakeAwsOptions): Promise<FakeAws> {
  const assumed: (AssumedRole & { statements: Statement[] | undefined })[] = []
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const answer = answerTo(new URLSearchParams(Buffer.concat(chunks).toString('utf8')), request.headers.authorization)
      response.writeHead(answer.status, { 'content-type': 'text/xml' }).end(answer.body)
    })
  })

  function answerTo(form: URLSearchParams, authorization: string | undefined): { status: number; body: string } {
    try {
      const signed = /^AWS4-HMAC-SHA256 Credential=([^/]+)\/\d{8}\/[a-z0-9-]+\/sts\/aws4_request, SignedHeaders=[a-z0-9;-]+, Signature=[0-9a-f]{64}$/
      const key = signed.exec(authorization ?? '')?.[1]
      if (key === undefined) throw new Refusal('MissingAuthenticationToken', 'Request is missing Authentication Token', 403)
      if (key !== accessKeyId) throw new Refusal('InvalidClientTokenId', 'The security token included in the request is invalid.', 403)
      if (form.get('Version') !== '2011-06-15') throw new Refusal('InvalidAction', 'no such version')
      if (form.get('Action') === 'AssumeRole') return { status: 200, body: assumeRole(form) }
      if (form.get('Action') === 'GetCallerIdentity') return { status: 200, body: callerIdentity() }
      throw new Refusal('InvalidAction', `Could not find operation ${form.get('Action')}`)
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      return { status: error.status, body: errorDocument(error) }
    }
  }

  function assumeRole(form: URLSearchParams): string {
    const roleArn = text(form, 'RoleArn', 20, 2048, /^arn:[^:]+:iam::\d{12}:role\/[\x21-\x7e]+$/) ?? missing('RoleArn')
    const sessionName = text(form, 'RoleSessionName', 2, 64, /^[\w+=,.@-]*$/) ?? missing('RoleSessionName')
    const sourceIdentity = text(form, 'SourceIdentity', 2, 64, /^(?!aws:)[\w+=,.@-]*$/)
    const externalId = text(form, 'ExternalId', 2, 1224, /^[\w+=,.@:/-]*$/)
    const policy = text(form, 'Policy', 1, 2048, /^[\t\n\r -\xff]+$/)
    const tags = tagsOf(form)
    const transitive = members(form, 'TransitiveTagKeys.member.', '')
    for (const key of transitive) if (!Object.hasOwn(tags, key)) throw new Refusal('ValidationError', `${key} is not among the session tags`)

    const role = roles[roleArn]
    const denied = `User: arn:aws:iam::${ACCOUNT}:user/broker is not authorized to perform: sts:AssumeRole on resource: ${roleArn}`
    if (role === undefined || (role.externalId !== undefined && role.externalId !== externalId)) throw new Refusal('AccessDenied', denied, 403)
    const seconds = form.get('DurationSeconds') ?? String(DEFAULT_SECONDS)
    const durationSeconds = /^\d+$/.test(seconds) ? Number(seconds) : 0
    if (durationSeconds < 900 || durationSeconds > 43_200) throw new Refusal('ValidationError', 'Member must have value between 900 and 43200')
    if (durationSeconds > (role.maxSessionSeconds ?? DEFAULT_MAX_SESSION_SECONDS))
      throw new Refusal('ValidationError', 'The requested DurationSeconds exceeds the MaxSessionDuration set for this role.')

    const packed = (policy?.length ?? 0) + JSON.stringify(tags).length
    if (packed > PACKED_LIMIT) throw new Refusal('PackedPolicyTooLarge', 'Packed size of session tags and policies consumes more than 100%')
    let statements: Statement[] | undefined
    try {
      statements = policy === undefined ? undefined : parsePolicy(policy)
    } catch (error) {
      throw new Refusal('MalformedPolicyDocument', error instanceof Error ? error.message : 'malformed')
    }
    const expiration = Math.floor(Date.now() / 1000) * 1000 + durationSeconds * 1000
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
      expiration,
    }
    assumed.push({ ...session, statements })
    const roleName = roleArn.slice(roleArn.lastIndexOf('/') + 1)
    const end = new Date(expiration).toISOString().replace('.000Z', 'Z')
    return document('AssumeRole', [
      ...(sourceIdentity === undefined ? [] : [element('SourceIdentity', sourceIdentity)]),
      `<AssumedRoleUser>${element('Arn', `arn:aws:sts::${ACCOUNT}:assumed-role/${roleName}/${sessionName}`)}`,
      `${element('AssumedRoleId', `AROAEXAMPLE:${sessionName}`)}</AssumedRoleUser>`,
      `<Credentials>${element('AccessKeyId', session.accessKeyId)}${element('SecretAccessKey', session.secretAccessKey)}`,
      `${element('SessionToken', session.sessionToken)}${element('Expiration', end)}</Credentials>`,
      element('PackedPolicySize', String(Math.ceil((packed / PACKED_LIMIT) * 100))),
    ])
  }

  await new Promise<void>((resolve) => server.listen(0, HOST, resolve))
  const address = server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return {
    host: HOST,
    port,
    endpoint: `http://${HOST}:${port}`,
    assumed,
    authorize(credential, action, resource, at = Date.now()) {
      const session = assumed.find(({ sessionToken }) => sessionToken === credential.sessionToken)
      if (session?.accessKeyId !== credential.accessKeyId || session.secretAccessKey !== credential.secretAccessKey) return false
      if (at >= session.expiration) return false
      const asked = { action, resource, context: { 'aws:currenttime': new Date(at).toISOString() } }
      const role = parsePolicy(roles[session.roleArn]?.policy ?? '{}')
      return allows(role, asked) && (session.statements === undefined || allows(session.statements, asked))
    },
    async stop() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function callerIdentity(): string {
  const [arn, user] = [`arn:aws:iam::${ACCOUNT}:user/broker`, 'AIDAEXAMPLE']
  return document('GetCallerIdentity', [element('Arn', arn), element('UserId', user), element('Account', ACCOUNT)])
}

function tagsOf(form: URLSearchParams): Record<string, string> {
  const keys = members(form, 'Tags.member.', '.Key')
  const values = members(form, 'Tags.member.', '.Value')
  const allowed = /^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$/u
  if (keys.length > 50 || keys.length !== values.length || new Set(keys).size < keys.length) throw new Refusal('ValidationError', 'bad session tags')
  for (const key of keys)
    if (key.length < 1 || key.length > 128 || !allowed.test(key) || key.startsWith('aws:')) throw new Refusal('ValidationError', 'bad tag key')
  for (const value of values) if (value.length > 256 || !allowed.test(value)) throw new Refusal('ValidationError', 'bad tag value')
  return Object.fromEntries(keys.map((key, index) => [key, values[index] ?? '']))
}

function members(form: URLSearchParams, before: string, after: string): string[] {
  const found: string[] = []
  for (let index = 1; ; index++) {
    const value = form.get(`${before}${index}${after}`)
    if (value === null) return found
    found.push(value)
  }
}

function text(form: URLSearchParams, name: string, min: number, max: number, pattern: RegExp): string | undefined {
  const value = form.get(name)
  if (value === null) return undefined
  if (value.length < min || value.length > max || !pattern.test(value))
    throw new Refusal('ValidationError', `1 validation error detected: Value at '${name}' failed to satisfy constraint`)
  return value
}

function missing(name: string): never {
  throw new Refusal('ValidationError', `1 validation error detected: Value null at '${name}' failed to satisfy constraint: Member must not be null`)
}

function document(action: string, parts: readonly string[]): string {
  const result = `<${action}Result>${parts.join('')}</${action}Result>`
  return `<${action}Response xmlns="${XMLNS}">${result}<ResponseMetadata>${element('RequestId', randomUUID())}</ResponseMetadata></${action}Response>`
}

function errorDocument({ code, message }: Refusal): string {
  const error = `<Error><Type>Sender</Type>${element('Code', code)}${element('Message', message)}</Error>`
  return `<ErrorResponse xmlns="${XMLNS}">${error}${element('RequestId', randomUUID())}</ErrorResponse>`
}

function element(name: string, value: string): string {
  const escaped = value.replace(/[<>&'"]/g, (character) => `&#${character.charCodeAt(0)};`)
  return `<${name}>${escaped}</${name}>`
}
