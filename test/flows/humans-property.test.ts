import { afterAll, beforeAll, describe, expect, it } from '@jest/globals'
import fc from 'fast-check'
import { decodeJwt } from 'jose'
import { startTestBroker, type TestBroker } from '../support/broker.js'
import { newPeople, type TestPeople } from '../support/people.js'
import { startRedis, type TestRedis } from '../support/redis.js'

interface Person {
  readonly id: string
  /** Nobody knows people of another. */
  readonly dept: 'analytics' | 'platform' | 'legal' | 'sales'
  readonly finance: boolean
}
interface Shown {
  readonly who: Person
  readonly to: 'helper' | 'other' | 'nobody'
  readonly by: 'audience' | 'may_act'
  readonly expired: boolean
}

const AGENTS = ['helper', 'other'] as const
const ROLES = ['api-token', 'api-confidential', 'api-write'] as const
const MAX_TTL = 300
const FINANCE_TTL = 60

let redis: TestRedis
let test: TestBroker
let people: TestPeople
let tokens: Record<string, string>
beforeAll(async () => {
  ;[redis, people] = await Promise.all([startRedis(), newPeople()])
  const role = (name: string, more: string) =>
    `  ${name}: {provider: tokens, ${more}, max_ttl: ${MAX_TTL}s, params: {audience: "https://reports.example"}}`
  test = await startTestBroker({
    redisSocket: redis.socketPath,
    issuers: `  sso: {jwks: env:SSO, issuer: "${people.issuer}", audience: mayfly, typ: [at+jwt]}`,
    agents: AGENTS.map((id) => {
      const team = id === 'helper' ? 'platform' : 'analytics'
      const rule = `match: {issuer: test, sub: ${id}}, owner: sre@example.com, autonomy: supervised, team: ${team}`
      return `  - {id: ${id}, ${rule}, on_behalf_of: {audience: "https://${id}.test"}}\n`
    }).join(''),
    roles: [role('api-confidential', 'access: read, sensitivity: confidential'), role('api-write', 'access: write, sensitivity: internal')].join(
      '\n',
    ),
    more: `humans:\n${['analytics', 'platform']
      .map((team) => `  - {id: "{sub}", match: {issuer: sso, dept: ${team}}, team: ${team}, groups: {finance: {finance: "yes"}}}`)
      .concat('  - {id: "{sub}", match: {issuer: sso, dept: legal}}')
      .join('\n')}`,
    policy: `@id("finance-briefly") @maxTtl("${FINANCE_TTL}") permit (principal is Human in Group::"finance", action == Action::"read", resource);`,
    limits: '{requests_per_second: 100000, per_agent_live: 0, per_task_live: 100000}',
    env: { SSO: people.jwks },
  })
  tokens = Object.fromEntries(await Promise.all(['flows', ...AGENTS].map(async (id) => [id, await test.token(id)])))
}, 60_000)
afterAll(async () => {
  await test?.stop()
  await redis?.stop()
})

/** What the policies say of each alone, written down once more. */
function agentMay(agent: string, role: string): boolean {
  return agent === 'helper' || role !== 'api-write'
}
function humanMay(human: Partial<Person>, role: string): boolean {
  if (role === 'api-token') return true
  if (role === 'api-write') return human.dept === 'platform'
  return human.dept === 'analytics' || human.finance === true
}

const person: fc.Arbitrary<Person> = fc.record({
  id: fc.constantFrom('ann', 'bob', 'Ann'),
  dept: fc.constantFrom('analytics', 'platform', 'legal', 'sales'),
  finance: fc.boolean(),
})
const shown: fc.Arbitrary<Shown> = fc.record({
  who: person,
  to: fc.constantFrom('helper', 'helper', 'other', 'nobody'),
  by: fc.constantFrom('audience', 'may_act'),
  expired: fc.constantFrom(false, false, false, true),
})
const opened = fc.oneof(
  fc.constant({ by: 'nobody' as const }),
  fc.record({ by: fc.constant('word' as const), who: person }),
  fc.record({ by: fc.constant('token' as const), who: person.filter(({ dept }) => dept !== 'sales') }),
)

const claimsOf = ({ dept, finance }: Person) => ({ dept, ...(finance && dept !== 'legal' && { finance: 'yes' }) })
async function tokenOf({ who, to, by, expired }: Shown): Promise<string> {
  const bound =
    to === 'nobody'
      ? { aud: 'mayfly' }
      : by === 'audience'
        ? { aud: `https://${to}.test` }
        : { aud: 'mayfly', may_act: { iss: 'https://issuer.test', sub: to } }
  return people.token(who.id, { ...claimsOf(who), ...bound, ...(expired && { iat: 1_700_000_000, exp: 1_700_000_300 }) })
}

describe('for random people, tokens and tasks', () => {
  it('what is issued is never outside the authority of the agent, nor outside that of the human', async () => {
    const seen = new Map<string, number>()
    const property = fc.asyncProperty(
      opened,
      fc.array(fc.record({ agent: fc.constantFrom(...AGENTS), role: fc.constantFrom(...ROLES), token: fc.option(shown, { nil: undefined }) }), {
        minLength: 3,
        maxLength: 6,
      }),
      async (of, asks) => {
        const lent =
          of.by === 'token' &&
          (await people.token(of.who.id, { ...claimsOf(of.who), aud: 'mayfly', may_act: { iss: 'https://issuer.test', sub: 'flows' } }))
        const task = await test.openTask({
          assignees: AGENTS.map((agent) => ({ agent })),
          envelope: ROLES.map((role) => ({ role })),
          ...(of.by === 'word' && { human: of.who.id }),
          ...(lent && { on_behalf_of: lent }),
        })
        for (const { agent, role, token } of asks) {
          const on_behalf_of = token && (await tokenOf(token))
          const { status, body } = await test.call('POST', '/v1/leases', tokens[agent] ?? '', { task, role, on_behalf_of })
          const isGood =
            !token || (token.to === agent && !token.expired && token.who.dept !== 'sales' && (of.by === 'nobody' || of.who.id === token.who.id))
          // Whom somebody names is in nothing; of the two legal knows no groups.
          const named = of.by === 'nobody' ? undefined : of.by === 'word' ? { id: of.who.id } : of.who
          const raw: Partial<Person> | undefined = token?.who ?? named
          const human = raw && { ...raw, finance: raw.dept !== 'legal' && raw.finance }
          const may = isGood && agentMay(agent, role) && (!human || humanMay(human, role))
          const about = JSON.stringify({ of, agent, role, token, answered: body.code ?? status })
          expect([about, status]).toEqual([about, may ? 201 : 403])
          seen.set(`${body.code ?? status} ${human ? (token ? 'shown' : of.by) : 'alone'}`, 1)
          if (!may) {
            expect([about, body.code]).toEqual([about, expect.stringMatching(isGood ? /^denied$/ : /^on_behalf_of_(invalid|expired)$/)])
            continue
          }
          const seconds = (Date.parse(body.lease.expires_at) - Date.parse(body.lease.issued_at)) / 1000
          expect([about, seconds]).toEqual([about, human?.finance && role !== 'api-write' ? FINANCE_TTL : MAX_TTL])
          expect(body.lease.human).toBe(human?.id)
          const { sub, act } = decodeJwt(body.credential.token)
          expect({ sub, act }).toEqual(human ? { sub: human.id, act: { sub: agent } } : { sub: agent, act: undefined })
        }
      },
    )
    await fc.assert(property, { numRuns: 120 })
    for (const kind of ['201 shown', '201 word', '201 token', '201 alone', 'denied shown', 'denied word', 'denied token', 'denied alone'])
      expect([...seen.keys()]).toContain(kind)
  }, 120_000)
})
