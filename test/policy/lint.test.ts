import { describe, expect, it } from '@jest/globals'
import { preparePolicy } from '../../src/policy/prepare.js'
import { PolicyProblems } from '../../src/policy/problems.js'
import { sample, withPolicies } from './fixtures.js'

const CONSENT = 'unless { context.approval.groups.contains(Group::"sre-oncall") }'

function problems(text: string, more = {}): string {
  try {
    preparePolicy(withPolicies(text, more)).close()
    return ''
  } catch (error) {
    if (error instanceof PolicyProblems) return error.problems.map(({ path, message }) => `${path}: ${message}`).join('\n')
    throw error
  }
}

describe('refused at load', () => {
  it.each([
    ['a missing @id', 'permit(principal, action, resource);', 'has no @id'],
    ['an empty @id', '@id("") permit(principal, action, resource);', 'has no @id'],
    ['an @id without a value', '@id permit(principal, action, resource);', 'has no @id'],
    ['an @id that no log should carry', '@id("a\\nb") permit(principal, action, resource);', '@id is at most 64'],
    ['a duplicate @id', '@id("a") permit(principal, action, resource); @id("a") forbid(principal, action, resource);', 'already taken in test.cedar'],
    ['an unknown annotation', '@id("a") @maxTTL("60") permit(principal, action == Action::"read", resource);', '@maxTTL is not known'],
    ['an empty annotation', '@id("a") @reason("") forbid(principal, action, resource);', '@reason is empty'],
    ['an annotation without a value', '@id("a") @maxTtl permit(principal, action == Action::"read", resource);', '@maxTtl is empty'],
    [
      '@maxTtl on a forbid of other actions',
      '@id("a") @maxTtl("60") forbid(principal, action == Action::"freeze", resource);',
      '@maxTtl belongs on a permit',
    ],
    [
      '@maxTtl on a forbid that asks for consent',
      '@id("a") @maxTtl("60") @stepUp("sre-oncall") forbid(principal, action == Action::"read", resource) unless { context.approval.groups.contains(Group::"sre-oncall") };',
      'asks for no consent',
    ],
    [
      '@maxLive on what obtains nothing',
      '@id("a") @maxLive("2") permit(principal, action == Action::"freeze", resource);',
      '@maxLive belongs on a permit',
    ],
    ['@maxTtl on all actions', '@id("a") @maxTtl("60") permit(principal, action, resource);', '@maxTtl belongs on a permit'],
    ['@maxTtl of nothing', '@id("a") @maxTtl("0") permit(principal, action == Action::"read", resource);', 'a whole number of at least 1'],
    ['@maxTtl with a unit', '@id("a") @maxTtl("15m") permit(principal, action == Action::"read", resource);', 'a whole number of at least 1'],
    ['@stepUp on a permit', '@id("a") @stepUp("sre-oncall") permit(principal, action == Action::"read", resource);', '@stepUp belongs on a forbid'],
    ['@approvals alone', '@id("a") @approvals("2") forbid(principal, action, resource);', '@approvals belongs beside @stepUp'],
    ['@stepUp without the consent', '@id("a") @stepUp("sre-oncall") forbid(principal, action == Action::"read", resource);', '@stepUp needs: unless'],
    [
      '@stepUp of an unknown group',
      '@id("a") @stepUp("nobody") forbid(principal, action == Action::"read", resource);',
      '"nobody", which no operator',
    ],
    [
      'the consent of another group',
      `@id("a") @stepUp("security") forbid(principal, action == Action::"read", resource) ${CONSENT};`,
      '@stepUp needs: unless',
    ],
    [
      '@onDeny of something else',
      '@id("a") @onDeny("revoke") forbid(principal, action == Action::"callTool", resource);',
      '@onDeny is "close-task" or',
    ],
    [
      '@onDeny on a permit',
      '@id("a") @onDeny("close-task") permit(principal, action == Action::"callTool", resource);',
      '@onDeny belongs on a forbid',
    ],
    [
      '@onDeny of what is no call',
      '@id("a") @onDeny("close-task") forbid(principal, action == Action::"delegate", resource);',
      '@onDeny belongs on a forbid',
    ],
    ['@onDeny of calls and more', '@id("a") @onDeny("close-task") forbid(principal, action, resource);', '@onDeny belongs on a forbid'],
    [
      '@onDeny of what asks for consent',
      `@id("a") @onDeny("close-task") @stepUp("sre-oncall") forbid(principal, action == Action::"callTool", resource) ${CONSENT};`,
      'asks for no consent',
    ],
    ['@maxTtl on a tool call', '@id("a") @maxTtl("60") permit(principal, action == Action::"callTool", resource);', '@maxTtl belongs on a permit'],
    [
      'a tool that is not in the catalogue',
      '@id("a") forbid(principal, action == Action::"callTool", resource == Tool::"github/create_isue");',
      'Tool::"github/create_isue" is not in the configuration',
    ],
    ['a template', '@id("a") permit(principal == ?principal, action, resource);', 'templates are not supported'],
    ['what is no Cedar', '@id("a") permit(principal, action);', 'test.cedar:'],
  ])('%s', (_, text, message) => {
    expect(problems(text)).toContain(message)
  })

  it('@stepUp of a group that humans are in and no operator is: nobody could ever consent', () => {
    const text =
      '@id("a") @stepUp("security") forbid(principal, action == Action::"read", resource) unless { context.approval.groups.contains(Group::"security") };'
    expect(problems(text)).toBe('')
    expect(problems(text, { known: { ...sample.known, consenting: ['sre-oncall'] } })).toContain('"security", which no operator')
  })

  it('a risk between two steps of ten', () => {
    const text = (condition: string) => `@id("a") forbid(principal is Agent, action == Action::"read", resource) when { ${condition} };`
    expect(problems(text('principal.risk >= 45'))).toContain('principal.risk is a multiple of ten from 0 to 100: 45 is none')
    expect(problems(text('99 < principal.risk'))).toContain('99 is none')
    expect(problems(text('principal.risk >= 50 && context.ttl > 45'))).toBe('')
  })

  it.each([
    ['a permit', 'permit(principal, action == Action::"read", resource)'],
    ['what asks for consent', `@stepUp("sre-oncall") forbid(principal, action == Action::"read", resource) ${CONSENT}`],
    ['a limit', '@maxTtl("60") forbid(principal, action == Action::"read", resource)'],
    ['what no agent obtains or calls', 'forbid(principal, action == Action::"openTask", resource)'],
    ['more than that', 'forbid(principal, action, resource)'],
  ])('@onDeny on %s', (_, text) => {
    expect(problems(`@id("a") @onDeny("suspend-agent") ${text};`)).toContain('@onDeny belongs on a forbid for callTool, read, write or escalate')
  })

  it.each([
    ['adding', 'context.ttl + 1 > 3'],
    ['subtracting', 'context.ttl - 1 > 3'],
    ['multiplying', 'context.ttl * 2 > 3'],
    ['negating', '-(context.ttl) < 3'],
    ['an extension that can fail', 'ip("10.0.0.1").isLoopback()'],
  ])('arithmetic: %s', (_, condition) => {
    expect(problems(`@id("a") forbid(principal, action == Action::"read", resource) when { ${condition} };`)).toContain('the engine skips a policy')
  })

  it.each([
    ['a forbid that needs it', `forbid(principal, action == Action::"read", resource) when { context has human }`],
    ['a permit that lacks it', `permit(principal, action == Action::"read", resource) unless { context has human }`],
    ['a permit that negates it', `permit(principal, action == Action::"read", resource) when { !(context has human) }`],
    ['a permit that compares it', `permit(principal, action == Action::"read", resource) when { (context has human) == false }`],
    [
      'a permit that branches on it',
      `permit(principal, action == Action::"read", resource) when { if context has human then context.ttl < 9 else context.ttl < 99 }`,
    ],
    ['a forbid negated twice', `forbid(principal, action == Action::"read", resource) when { !(!(context has human)) }`],
  ])('"has" that can widen: %s', (_, text) => {
    expect(problems(`@id("a") ${text};`)).toContain('"has" is allowed only where')
  })

  it.each([
    ['in a permit', `permit(principal, action == Action::"read", resource) when { context.approval.groups.contains(Group::"sre-oncall") }`],
    [
      'in a when',
      `@stepUp("sre-oncall") forbid(principal, action == Action::"read", resource) when { context.approval.groups.isEmpty() } ${CONSENT}`,
    ],
    ['without @stepUp', `forbid(principal, action == Action::"read", resource) ${CONSENT}`],
    [
      'negated',
      `@stepUp("sre-oncall") forbid(principal, action == Action::"read", resource) ${CONSENT}
       unless { !context.approval.groups.contains(Group::"sre-oncall") }`,
    ],
    [
      'of a second group',
      `@stepUp("sre-oncall") forbid(principal, action == Action::"read", resource) ${CONSENT}
       unless { context.approval.groups.contains(Group::"security") }`,
    ],
    [
      'in another way',
      `@stepUp("sre-oncall") forbid(principal, action == Action::"read", resource) ${CONSENT}
       unless { context.approval.groups.containsAny([Group::"sre-oncall"]) }`,
    ],
    ['as a record', `forbid(principal, action == Action::"freeze", resource) unless { context.approval == {groups: [Group::"sre-oncall"]} }`],
  ])('consent read %s', (_, text) => {
    expect(problems(`@id("a") ${text};`)).toContain('context.approval.groups is read only as contains')
  })

  it.each([
    ['Team', 'permit(principal in Team::"analitics", action == Action::"read", resource);'],
    ['Group', 'permit(principal in Group::"sre", action == Action::"freeze", resource);'],
    ['Provider', 'forbid(principal, action == Action::"read", resource in Provider::"warehose");'],
    ['Role', 'forbid(principal, action == Action::"read", resource == Role::"warehouse_read");'],
    ['Issuer', 'forbid(principal, action == Action::"read", resource) when { principal is Agent && principal.issuer == Issuer::"clusters" };'],
    ['Role', 'permit(principal, action == Action::"openTask", resource) when { resource.roles.contains(Role::"nope") };'],
    ['Team', 'permit(principal is Agent in Team::"nope", action == Action::"read", resource);'],
  ])('a misspelt %s', (type, text) => {
    expect(problems(`@id("a") ${text}`)).toMatch(new RegExp(`${type}::".+" is not in the configuration`))
  })

  it.each([
    ['intent', 'context.intent == Intent::"incident-triag"'],
    ['environment', 'context.environment == Environment::"prod"'],
    ['sensitivity', 'resource.sensitivity == Sensitivity::"secret"'],
    ['access', 'resource.access == Access::"admin"'],
  ])('a misspelt %s', (_, condition) => {
    expect(problems(`@id("a") forbid(principal, action == Action::"read", resource) when { ${condition} };`)).toContain('not declared as a valid eid')
  })

  it('what a task never obtained by that name', () => {
    const text = '@id("a") forbid(principal, action == Action::"write", resource) when { context.accumulated.obtained.contains("restricted:read") };'
    expect(problems(text)).toContain('never holds "restricted:read"')
  })

  it('a dead forbid, of which the validator only warns', () => {
    const text = '@id("a") forbid(principal, action == Action::"read", resource) when { resource in Team::"analytics" };'
    expect(problems(text)).toContain('policy is impossible')
  })

  it('letters that look like others', () => {
    expect(problems('@id("a") forbid(principal == Agent::"\u0430dmin", action == Action::"read", resource);')).toContain('mixed scripts')
  })

  it('the context as a whole, for it holds the consent', () => {
    const text = '@id("a") forbid(principal, action == Action::"openTask", resource) when { context == {own: true} };'
    expect(problems(text)).toContain('not as a whole')
  })

  it('ancestors of what the broker knows by its id alone', () => {
    const within = 'forbid(principal, action == Action::"read", resource) when { context.orchestrator in Team::"analytics" };'
    expect(problems(`@id("a") ${within}`)).toContain('"in" works on principal, resource and action alone')
    expect(problems('@id("a") forbid(principal, action == Action::"freeze", resource in Team::"analytics");')).toContain('known by type and id alone')
    expect(problems('@id("a") forbid(principal, action, resource in Provider::"warehouse");')).toContain('known by type and id alone')
    const conditional = 'forbid(principal, action == Action::"freeze", resource) when { resource in Team::"analytics" };'
    expect(problems(`@id("a") ${conditional}`)).toContain('known by type and id alone')
  })

  it('attributes that the schema has and the broker does not know', () => {
    const schema = sample.schema.replace('owner: Human,\n', 'owner: Human, mood: Long,\n')
    const text = '@id("a") forbid(principal is Agent, action == Action::"read", resource) when { principal.mood > 50 };'
    expect(problems(text, { schema })).toContain('principal.mood is not known to the broker')
    const resource = 'forbid(principal, action == Action::"freeze", resource is Agent) when { resource.labels.contains("x") };'
    expect(problems(`@id("a") ${resource}`)).toContain('resource.labels is not known to the broker')
    const literal = 'forbid(principal, action == Action::"read", resource) when { Role::"api-token".level == 1 };'
    expect(problems(`@id("a") ${literal}`)).toContain('attributes are read from principal, resource and context directly')
  })

  it('attributes that are known in one action and not in another that the policy covers', () => {
    const text = '@id("a") forbid(principal, action, resource is Role) when { resource.level == 3 };'
    expect(problems(text)).toMatch(/policies for (emergencyRevoke|freeze): .*level/)
    const guarded = '@id("a") forbid(principal, action, resource is Role) when { action in Action::"obtain" && resource.level == 3 };'
    expect(problems(guarded)).toBe('')
  })

  it('a schema that does not fit what the broker sends', () => {
    const schema = sample.schema.replace('ttl: Long,', 'ttl: String,')
    const text = '@id("a") forbid(principal, action == Action::"read", resource) when { context.ttl == "1" };'
    expect(problems(text, { schema })).toContain('read by Agent')
    expect(problems('', { schema: sample.schema.replace('thaw,', '') })).toContain('action thaw is missing')
    expect(problems('', { schema: sample.schema.replace('entity Intent enum ["unclassified"]', 'entity Intent') })).toContain(
      'entity Intent must be declared',
    )
    expect(problems('', { schema: 'namespace A { entity B; }' })).toContain('namespaces are not supported')
    expect(problems('', { schema: 'entity' })).toContain('schema:')
  })

  it('what is not well-formed Unicode, before the engine sees it', () => {
    expect(problems('@id("a") permit(principal, action, resource); // \ud800')).toContain('test.cedar: is not well-formed')
    expect(problems('', { vocabulary: { intents: ['\ud800'], environments: [] } })).toContain('vocabulary: is not well-formed')
  })

  it('a hierarchy that goes round, or names what is not there', () => {
    expect(problems('', { inside: { teams: { data: ['company'], company: ['data'] } } })).toContain('is inside itself')
    expect(problems('', { inside: { groups: { nobody: ['security'] } } })).toContain('"nobody" is not in the configuration')
  })

  it('all of it at once, each with its file and id', () => {
    const text =
      '@id("a") @zap("1") permit(principal, action, resource);\n@id("b") forbid(principal in Team::"x", action == Action::"read", resource);'
    expect(problems(text).split('\n')).toEqual([
      expect.stringContaining('test.cedar: a: @zap is not known'),
      expect.stringContaining('test.cedar: b: Team::"x" is not in the configuration'),
    ])
  })
})

describe('accepted', () => {
  it.each([
    [
      '"has" in the when of a permit',
      'permit(principal, action == Action::"read", resource) when { context has human && context.human == Human::"ann" };',
    ],
    [
      '"has" in the unless of a forbid',
      'forbid(principal, action == Action::"read", resource) unless { context has tool && context.tool == Tool::"psql" };',
    ],
    [
      'consent beside another reason',
      `@stepUp("sre-oncall") forbid(principal, action == Action::"read", resource) ${CONSENT} unless { context.ttl < 60 };`,
    ],
    [
      'consent together with a condition',
      `@stepUp("sre-oncall") forbid(principal, action == Action::"read", resource)
       unless { !context.external && context.approval.groups.contains(Group::"sre-oncall") };`,
    ],
    [
      'consent to an operator',
      `@stepUp("security") @approvals("2") forbid(principal, action == Action::"thaw", resource) ${CONSENT.replace('sre-oncall', 'security')};`,
    ],
    ['decimals compared', 'forbid(principal, action == Action::"read", resource) unless { context.confidence.greaterThan(decimal("0.2")) };'],
  ])('%s', (_, text) => {
    expect(problems(`@id("a") ${text}`)).toBe('')
  })
})
