import { MAX_REQUEST_BYTES, type Operation, PROBLEM_TYPE } from '../../providers/http/wire.js'
import { NoAnswer } from '../service.js'
import { answered, at, type Case, refusedWith, type Trial, told, Unmet } from '../trial.js'
import { ACCEPTS, UNSIGNED } from './callers.js'
import { LATE, MINTS } from './minting.js'

const UNKNOWN_FIELD = 'an unknown field is refused'
const AGO_MS = 30_000
const NOT_JSON = 'what is not JSON is refused'
const MISSING = 'a missing or wrong field is refused'

/** Well-formed Unicode, as Mayfly sends: text that breaks out of quotes, lines, patterns and templates that don't expect it. */
const HOSTILE_TEXTS = [
  `x'; DROP TABLE leases; --`,
  `x"; $(reboot) \`reboot\` #`,
  '$$; SELECT 1; $$ \\ %I %s {{7*7}} <%= 7 %>',
  'line\r\nX-Header: y\r\n\r\n\u2028\u0000end',
  '* ? [a-z] %2e%2e/ ../../etc/passwd',
  '{"__proto__":{"polluted":true}}',
  '\u202Egnp.exe \u{1F511} \uFEFF',
  '',
  'a'.repeat(10_240),
]

export const messages: readonly Case[] = [
  {
    name: UNKNOWN_FIELD,
    after: [MINTS],
    async run(trial) {
      for (const operation of trial.operations)
        await refusedAndNothing(trial, operation, 'an unknown field', (body) => ({ ...body, no_such_field: true }))
      await refusedAndNothing(trial, 'mint', 'an unknown field in "lease"', (body) => ({
        ...body,
        lease: { ...Object(body.lease), no_such_field: 1 },
      }))
    },
  },
  {
    name: 'a scope key that it does not name is refused',
    after: [UNKNOWN_FIELD],
    async run(trial) {
      const honest = trial.mintBody()
      const body = { ...honest, scope: { ...honest.scope, no_such_key: 'x' } }
      refusedWith('a mint with the scope key "no_such_key"', await trial.send('mint', body))
      await trial.nothingOf(body.name, 'a mint with the scope key "no_such_key"')
    },
  },
  {
    name: NOT_JSON,
    after: [MINTS],
    async run(trial) {
      const bodies = [
        '',
        '{',
        '{"name": ',
        'null',
        '[]',
        '"mint"',
        '1',
        'undefined',
        '{}{}',
        '\u0000',
        Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]),
      ]
      for (const operation of trial.operations)
        for (const body of bodies) refusedWith(`${operation} of what is no JSON object`, await trial.send(operation, body))
    },
  },
  {
    name: MISSING,
    after: [MINTS],
    async run(trial) {
      for (const operation of trial.operations)
        for (const field of Object.keys(trial.bodyOf(operation).body)) {
          await refusedAndNothing(trial, operation, `no "${field}"`, (body) =>
            Object.fromEntries(Object.entries(body).filter(([key]) => key !== field)),
          )
          for (const wrong of [null, 7, [['x']]])
            await refusedAndNothing(trial, operation, `"${field}" of another type`, (body) => ({ ...body, [field]: wrong }))
        }
      await refusedAndNothing(trial, 'mint', '"until" that is no time', (body) => ({ ...body, until: 'soon' }))
    },
  },
  {
    name: 'a name of another form is refused',
    after: [MINTS],
    async run(trial) {
      const honest = trial.mintBody().name
      for (const name of [...HOSTILE_TEXTS, 'root', `${honest}\n`, `${honest}/x`, `../${honest}`, honest.toUpperCase(), [honest]])
        for (const operation of trial.operations.filter((one) => one !== 'describe'))
          refusedWith(
            `${operation} with a name that is not of the form mf-<instance>-<lease>`,
            await trial.send(operation, { ...trial.bodyOf(operation).body, name }),
          )
    },
  },
  {
    name: 'hostile texts are inert',
    after: [MINTS],
    async run(trial) {
      for (const text of HOSTILE_TEXTS) {
        const honest = trial.mintBody()
        const answer = await trial.send('mint', { ...honest, lease: { ...honest.lease, agent: text, owner: text, human: text, role: text } })
        if (answer.status !== 200)
          throw new Unmet(
            `a mint for an agent, an owner, a human and a role with unusual characters was answered ${told(answer)}: they are for your records, and decide nothing`,
          )
        answered('mint', answer)
        if (trial.revocable && (await trial.revoke(honest.name)) !== 'revoked')
          throw new Unmet('a mint with hostile texts was made, and could not be revoked by its name')
      }
      // What a scope may name is the service's own matter; that it copes is not.
      for (const key of trial.description.scope_keys)
        for (const text of HOSTILE_TEXTS) {
          const honest = trial.mintBody()
          const answer = await trial.send('mint', { ...honest, scope: { ...honest.scope, [key]: text } })
          if (answer.status !== 200) refusedWith(`a mint with a hostile value of the scope key "${key}"`, answer)
        }
    },
  },
  {
    name: 'a body that is too large is refused',
    after: [MINTS],
    async run(trial) {
      const body = trial.mintBody()
      const large = { ...body, lease: { ...body.lease, agent: 'a'.repeat(4 * MAX_REQUEST_BYTES) } }
      try {
        refusedWith(`a body of ${4 * MAX_REQUEST_BYTES} bytes`, await trial.send('mint', large))
      } catch (error) {
        // To hang up on it is a refusal as well, which only some of the answer survives.
        if (!(error instanceof NoAnswer)) throw error
      }
      await trial.ask('describe', {})
      await trial.nothingOf(body.name, 'a body that is too large')
    },
  },
  {
    name: 'another content type is refused',
    after: [MINTS],
    async run(trial) {
      for (const contentType of ['text/plain', 'application/x-www-form-urlencoded', 'application/xml']) {
        const { body, name } = trial.bodyOf('mint')
        refusedWith(`a mint as ${contentType}`, await trial.send('mint', body, { contentType }))
        await trial.nothingOf(name, `a mint as ${contentType}`)
      }
    },
  },
  {
    name: 'only POST is answered',
    after: [ACCEPTS],
    async run(trial) {
      for (const operation of trial.operations) refusedWith(`GET ${operation}`, await trial.send(operation, '', { method: 'GET' }))
    },
  },
  {
    name: 'a refusal is a problem document with a kind',
    after: [LATE, UNSIGNED, UNKNOWN_FIELD, NOT_JSON],
    async run(trial) {
      const { body } = trial.bodyOf('mint')
      const late = { ...trial.mintBody(), until: at(Date.now() - AGO_MS) }
      const asked = [
        { what: 'a request without a token', answer: await trial.send('mint', body, { token: () => undefined }) },
        { what: 'an unknown field', answer: await trial.send('mint', { ...body, no_such_field: true }), kind: 'invalid' },
        { what: 'what is not JSON', answer: await trial.send('mint', '{') },
        { what: 'a mint whose "until" is half a minute ago', answer: await trial.send('mint', late), kind: 'late' },
      ]
      for (const { what, answer, kind = answer.kind } of asked) {
        if (answer.type !== PROBLEM_TYPE) throw new Unmet(`${what} was refused with another content type than ${PROBLEM_TYPE} (RFC 9457)`)
        if (answer.kind === undefined) throw new Unmet(`${what} was refused without a "kind" that Mayfly knows: throttled, refused, invalid or late`)
        if (answer.kind !== kind) throw new Unmet(`${what} was refused with ${told(answer)}: its kind is "${kind}"`)
      }
    },
  },
  {
    name: 'the secret is in no refusal',
    after: [MINTS],
    async run(trial) {
      const body = trial.mintBody()
      const [{ credential }, other] = [await trial.ask('mint', body), await trial.mint()]
      const secrets = secretsOf(credential, other.credential, JSON.stringify(body))
      const { name } = body
      const tries: [Operation, unknown][] = [
        ['mint', body],
        ['mint', { ...body, no_such_field: true }],
        ['mint', { ...body, until: body.issued_at }],
        ...trial.operations.flatMap((operation): [Operation, unknown][] => [
          [operation, { ...trial.bodyOf(operation).body, name, no_such_field: true }],
          [operation, `{"name": "${name}"`],
          [operation, { name: `${name}/../${name}` }],
        ]),
        // Whatever they answer, it is no place for the secret either.
        ...trial.operations
          .filter((operation) => operation !== 'mint')
          .map((operation): [Operation, unknown] => [operation, operation === 'describe' ? {} : { ...trial.bodyOf(operation).body, name }]),
        ...(trial.revocable
          ? ([
              ['revoke', { ...trial.bodyOf('revoke').body, name }],
              ['mint', body],
            ] as [Operation, unknown][])
          : []),
      ]
      for (const [operation, asked] of tries) {
        let token = ''
        const answer = await trial.send(operation, asked, { token: (honest) => (token = honest) })
        const isSame = operation === 'mint' && answer.status === 200
        if (!isSame && secrets.some((secret) => answer.text.includes(secret)))
          throw new Unmet(`${operation} was answered ${told(answer)} with a part of the credential in it: the answer to the mint is its only copy`)
        if (answer.text.includes(token)) throw new Unmet(`${operation} was answered ${told(answer)} with the caller's token in it`)
      }
    },
  },
]

async function refusedAndNothing(
  trial: Trial,
  operation: Operation,
  what: string,
  change: (body: Readonly<Record<string, unknown>>) => unknown,
): Promise<void> {
  const { body, name } = trial.bodyOf(operation)
  refusedWith(`${operation} with ${what}`, await trial.send(operation, change(body)))
  if (operation === 'mint') await trial.nothingOf(name, `a mint with ${what}`)
}

const SHORTEST_SECRET = 8
/** Texts of a credential that another one does not have, and that its request did not hold: what is left may be secret. */
function secretsOf(credential: unknown, other: unknown, request: string): string[] {
  const theirs = new Set(textsIn(other))
  return textsIn(credential).filter((text) => text.length >= SHORTEST_SECRET && !theirs.has(text) && !request.includes(text))
}
function textsIn(value: unknown): string[] {
  if (typeof value === 'string') return [value]
  return typeof value === 'object' && value !== null ? Object.values(value).flatMap(textsIn) : []
}
