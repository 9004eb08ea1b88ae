import { z } from 'zod'
import { ALGORITHMS } from './identity/options.js'
import { sealingKeys } from './sealing.js'

/** The shape of `mayfly.yaml`: what each field is, with its default. Cross-references are checked in `config.ts`. */

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const DURATION = /^(\d{1,9})(ms|s|m|h|d)$/
const A_DURATION = 'must be a duration such as 500ms, 30s, 15m, 1h or 7d'
const duration = z
  .string(A_DURATION)
  .regex(DURATION, A_DURATION)
  .meta({ examples: ['30s', '15m', '1h'] })
const milliseconds = duration.transform((value) => {
  const [, count = '0', unit = 'ms'] = DURATION.exec(value) ?? []
  return Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS]
})
const seconds = milliseconds.transform((ms, context) => {
  if (ms >= 1_000) return Math.floor(ms / 1_000)
  context.addIssue('must be at least 1s')
  return z.NEVER
})
const name = z.string().regex(/^[a-z][a-z0-9-]{0,62}$/, 'must be lower-case letters, digits and dashes, starting with a letter')
const word = z.string().min(1).max(256)
/** Certificates and keys, as PEM. */
const pem = z.string().min(1).max(65_536)
const access = z.enum(['read', 'write', 'escalate'])
const sensitivity = z.enum(['public', 'internal', 'confidential', 'restricted'])
const kind = z.enum(['agent', 'orchestrator', 'operator', 'gateway', 'human'])
const json = z.string().transform((text, context) => {
  try {
    return JSON.parse(text) as unknown
  } catch {
    context.addIssue('must be JSON (give it as file:PATH or env:NAME)')
    return z.NEVER
  }
})
const keySet = json.pipe(z.object({ keys: z.array(z.looseObject({ kty: z.string() })).min(1) }))

const LAST_PORT = 65_535
const address = z
  .string()
  .regex(/^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$/, 'must be HOST:PORT')
  .transform((value) => {
    const at = value.lastIndexOf(':')
    return { host: value.slice(0, at).replace(/^\[|\]$/g, ''), port: Number(value.slice(at + 1)) }
  })
  .refine(({ port }) => port <= LAST_PORT, `must end in a port up to ${LAST_PORT}`)
const listener = z.strictObject({
  address,
  tls: z.strictObject({ cert: pem, key: pem, spiffe: name.optional() }).optional(),
  trust_proxy: z.array(word).default([]),
})

const issuer = z.strictObject({
  preset: z.enum(['kubernetes', 'github-actions', 'spiffe']).optional(),
  url: z.url().optional(),
  jwks_uri: z.url().optional(),
  jwks: keySet.optional(),
  issuer: word.optional(),
  trust_domain: z
    .string()
    .regex(/^[a-z0-9._-]{1,255}$/, 'must be lower-case letters, digits, dots, dashes and underscores, without spiffe://')
    .optional(),
  bundle: z.string().min(1).max(1_048_576).optional(),
  bundle_endpoint: z.strictObject({ spiffe_id: word, bootstrap: json.pipe(z.looseObject({ keys: z.array(z.unknown()) })) }).optional(),
  /** Missing only where a trust domain takes no tokens. */
  audience: z.union([word, z.strictObject({ contains: word })]).optional(),
  algorithms: z.array(z.enum(ALGORITHMS)).min(1).optional(),
  typ: z.array(word).optional(),
  max_lifetime: seconds.optional(),
  skew: seconds.optional(),
  single_use: z.boolean().optional(),
  only: z.array(kind).min(1).optional(),
  break_glass: z.boolean().optional(),
  ca: pem.optional(),
  allow_http_loopback: z.boolean().optional(),
  allow_private_addresses: z.boolean().optional(),
  stale_limit: seconds.optional(),
})
const match = z.looseObject({ issuer: name }).catchall(z.string().min(1))
const scope = z.record(z.string(), z.union([word, z.array(word).min(1)]))
const envelope = z.array(z.strictObject({ role: name, scope: scope.optional(), max_ttl: seconds.optional(), max_leases: z.int().min(1).optional() }))
/** As MCP names tools (at most 128 characters), with the name of their server before it where one is wanted: `github/create_issue`. */
const TOOL = '[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*'
const toolName = z
  .string()
  .max(128)
  .regex(new RegExp(`^${TOOL}$`), 'must be letters, digits, "_", "." and "-", in parts separated by "/"')
const toolPattern = z
  .string()
  .max(128)
  .regex(new RegExp(`^${TOOL}(/\\*)?$`), 'must be the name of a tool, or "server/*" for all that begin so')
const toolEntry = z.strictObject({
  tool: toolName,
  actions: z.array(word).min(1).optional(),
  targets: z.array(word).min(1).optional(),
  max_calls: z.int().min(1).optional(),
})
const tool = z.strictObject({
  access,
  sensitivity: sensitivity.default('restricted'),
  external: z.boolean().default(true),
  labels: z.array(word).default([]),
})
const rule = { id: word, match, team: name.optional(), labels: z.array(word).optional() }
const onBehalfOf = { on_behalf_of: z.strictObject({ audience: word }).optional() }
const agent = z.strictObject({
  ...rule,
  ...onBehalfOf,
  instance: word.optional(),
  owner: word,
  autonomy: z.enum(['scripted', 'supervised', 'autonomous']),
  open_tasks: z.strictObject({ envelope, tools: z.array(toolEntry).default([]) }).optional(),
})
const orchestrator = z.strictObject({ ...rule, ...onBehalfOf })
const operator = z.strictObject({ ...rule, groups: z.array(name).min(1), person: z.union([word, z.array(word).min(1).max(8)]).optional() })
const agentPattern = word.regex(/^(?:\*|[^*]+?(?:\/\*)?)$/, 'must be the id of an agent, "prefix/*" for all that begin so, or "*" for all')
const gateway = z
  .strictObject({
    ...rule,
    audiences: z.array(word).default([]),
    tools: z.array(toolPattern).default([]),
    agents: z.array(agentPattern).min(1).optional(),
  })
  .refine(({ audiences, tools }) => audiences.length + tools.length > 0, 'name the audiences or the tools that it stands in front of')
  .refine(({ agents, tools }) => agents === undefined || tools.length > 0, 'agents are those that call its tools, and it has none')
const shownBy = z.record(word, z.string().min(1)).refine((claims) => Object.keys(claims).length > 0, 'name the claims by which a token shows it')
const human = z.strictObject({
  id: word,
  match,
  team: name.optional(),
  groups: z.union([z.array(name), z.record(name, shownBy)]).optional(),
})

const role = z.strictObject({
  provider: name,
  access,
  sensitivity: sensitivity.default('restricted'),
  max_ttl: seconds,
  max_lifetime: seconds.optional(),
  max_renewals: z.int().min(0).max(10_000).optional(),
  scope: z.record(z.string().regex(/^[a-z][a-z0-9_]{0,31}$/), z.enum(['equal', 'path', 'set'])).default({}),
  labels: z.array(word).default([]),
  params: z.record(z.string(), z.unknown()).default({}),
})

const percent = z.int().min(0).max(100)
const signal = (points: number, most: number) => ({ points: percent.default(points), most: percent.default(most) })
const ramp = (limit: number, window: number, points: number, most: number) =>
  z.strictObject({ limit: z.int().min(1).max(1_000_000).default(limit), window: seconds.default(window), ...signal(points, most) }).prefault({})
const SHORTEST_TIMEOUT_MS = 100
const LONGEST_TIMEOUT_MS = 20_000
/** Whoever opens a task waits for it. */
const LONGEST_CLASSIFYING_MS = 10_000

/** https://github.com/standard-webhooks/standard-webhooks: 24 to 64 bytes. */
const WEBHOOK_SECRET = /^whsec_[A-Za-z0-9+/]{32,88}={0,2}$/
const receiver = {
  url: z.url({ protocol: /^https?$/ }),
  secret: z.string().regex(WEBHOOK_SECRET, 'must be "whsec_" and 24 to 64 random bytes in base64'),
  ca: pem.optional(),
  allow_http_loopback: z.boolean().optional(),
  allow_private_addresses: z.boolean().optional(),
}
const webhook = z.strictObject(receiver)
const classifier = z.strictObject({
  ...receiver,
  timeout: milliseconds.refine((ms) => ms >= SHORTEST_TIMEOUT_MS && ms <= LONGEST_CLASSIFYING_MS, 'must be between 100ms and 10s').default(2_000),
  concurrency: z.int().min(1).max(256).default(16),
  min_confidence: z.number().min(0).max(1).default(0),
  when: z.enum(['unclassified', 'always']).default('unclassified'),
  trust: z.array(word).max(256).optional(),
})
/** What tasks are about: a name, or with it what the classifier is told of it. */
const intents = z.array(
  z.union([
    name.transform((of) => ({ name: of, description: undefined })),
    z.strictObject({ name, description: z.string().min(1).max(1_024).optional() }),
  ]),
)

/** What every provider has besides the options of its type. */
export const ProviderCommon = z.looseObject({
  type: word,
  concurrency: z.int().min(1).max(256).default(8),
  timeout: milliseconds
    // A claim on a closing lease lasts 30 s: a call that could take longer would never be begun.
    .refine((ms) => ms >= SHORTEST_TIMEOUT_MS && ms <= LONGEST_TIMEOUT_MS, 'must be between 100ms and 20s')
    .default(5_000),
})

const cedar = z.strictObject({
  engine: z.literal('cedar').default('cedar'),
  schema: word,
  files: z.array(z.union([word, z.strictObject({ path: word, mode: z.enum(['enforce', 'observe']).default('enforce') })])).min(1),
  memo: z.int().min(0).optional(),
})
/** Every request waits for it. */
const LONGEST_QUESTION_MS = 10_000
const opa = z.strictObject({
  engine: z.literal('opa'),
  url: z.url({ protocol: /^https?$/ }),
  path: z
    .string()
    .regex(/^[A-Za-z_][\w-]*(\/[A-Za-z_][\w-]*)*$/, 'must be the path of a document, such as mayfly/decision')
    .default('mayfly/decision'),
  timeout: milliseconds.refine((ms) => ms >= 10 && ms <= LONGEST_QUESTION_MS, 'must be between 10ms and 10s').default(1_000),
  concurrency: z.int().min(1).max(256).default(32),
  token: z
    .string()
    .min(1)
    .max(8_192)
    .regex(/^[\x21-\x7e]+$/, 'must be one word of visible characters')
    .optional(),
  ca: pem.optional(),
  allow_http_loopback: z.boolean().optional(),
  allow_private_addresses: z.boolean().optional(),
  watch: milliseconds.refine((ms) => ms >= 1_000 && ms <= 3_600_000, 'must be between 1s and 1h').default(10_000),
  // Not to be able to stop what OPA no longer decides on is nobody's to forget.
  stop: z.union([z.array(name).min(1), z.null()], 'must name groups of operators, or be null: nobody'),
  memo: z.int().min(0).default(0),
})

const LONGEST_WAIT_MS = 2_000
const server = {
  nodes: z.array(address).min(1).max(32),
  username: word.optional(),
  password: word.optional(),
  // True: TLS, with the system's authorities.
  tls: z
    .union([z.boolean(), z.strictObject({ ca: pem.optional(), cert: pem.optional(), key: pem.optional(), servername: word.optional() })])
    .default(false),
}
const redis = z.union([
  word,
  z.strictObject({
    sentinel: z.strictObject({ name: word, ...server, sentinel_username: word.optional(), sentinel_password: word.optional() }).optional(),
    cluster: z.strictObject(server).optional(),
  }),
])

export const ConfigFile = z.strictObject({
  version: z.literal(1),
  instance: z
    .string()
    .regex(/^[a-z][a-z0-9-]{0,19}$/, 'must be at most 20 lower-case letters, digits and dashes: it is part of every name made upstream'),
  data_dir: word.default('.mayfly'),
  listeners: z.strictObject({ public: listener, operator: listener.optional(), metrics: z.strictObject({ address }).optional() }),
  ledger: z.strictObject({
    redis,
    durability: z.enum(['strict', 'everysec']).default('strict'),
    partitions: z.int().min(1).max(99).default(64),
    settled_retention: seconds.default(3_600),
    wait: z
      .strictObject({
        replicas: z.int().min(1).max(5).default(1),
        timeout: milliseconds.refine((ms) => ms >= 10 && ms <= LONGEST_WAIT_MS, 'must be between 10ms and 2s').default(500),
      })
      .optional(),
  }),
  signing: z.strictObject({ issuer: z.url(), keys: keySet }).optional(),
  sealing: z.strictObject({ keys: json.pipe(sealingKeys) }).optional(),
  issuers: z.record(name, issuer),
  agents: z.array(agent).default([]),
  orchestrators: z.array(orchestrator).default([]),
  operators: z.array(operator).default([]),
  gateways: z.array(gateway).default([]),
  humans: z.array(human).default([]),
  providers: z.record(name, ProviderCommon),
  roles: z.record(name, role),
  tools: z.record(toolName, tool).default({}),
  vocabulary: z.strictObject({ intents: intents.default([]), environments: z.array(name).default([]) }).default({ intents: [], environments: [] }),
  classifier: classifier.optional(),
  policies: z.discriminatedUnion('engine', [cedar, opa]),
  limits: z
    .strictObject({
      per_agent_live: z.int().min(0).default(50),
      per_task_live: z.int().min(1).default(100),
      per_agent_tasks: z.int().min(1).default(1_000),
      requests_per_second: z.int().min(1).default(100),
      max_task: seconds.default(86_400),
      max_task_depth: z.int().min(0).max(16).default(4),
      within_token_life: z.boolean().default(false),
    })
    .prefault({}),
  approvals: z
    .strictObject({
      ttl: seconds.default(900),
      granted_ttl: seconds.default(300),
      open_per_task: z.int().min(1).max(100).default(8),
      open_per_agent: z.int().min(1).max(10_000).default(100),
      webhooks: z.array(webhook).max(16).default([]),
    })
    .prefault({}),
  risk: z
    .strictObject({
      enabled: z.boolean().default(true),
      half_life: seconds.default(600),
      rate: ramp(300, 60, 20, 85),
      loop: ramp(20, 300, 31, 65),
      refused: z.strictObject(signal(3, 45)).prefault({}),
      novelty: z.strictObject({ ...signal(6, 35), learn: milliseconds.default(86_400_000), memory: seconds.default(2_592_000) }).prefault({}),
      drift: z.strictObject(signal(45, 65)).prefault({}),
    })
    .prefault({}),
  drills: z
    .array(
      z.strictObject({
        role: name,
        agent: word,
        intent: name,
        environment: name,
        every: milliseconds.refine((ms) => ms >= 60_000, 'must be at least 1m'),
      }),
    )
    .default([]),
  reconcile: z
    .strictObject({
      enabled: z.boolean().default(true),
      every: milliseconds.refine((ms) => ms >= 60_000, 'must be at least 1m').default(900_000),
      revoke: z.boolean().default(true),
      most: z.int().min(1).max(100_000).default(100),
    })
    .prefault({}),
  audit: z.strictObject({
    outbox_limit: z.int().min(1_000).default(1_000_000),
    sinks: z.record(name, z.strictObject({ type: z.literal('jsonl'), path: word })),
  }),
  log: z.strictObject({ level: z.enum(['debug', 'info', 'warn', 'error']).default('info') }).prefault({}),
})
export type ConfigFile = z.output<typeof ConfigFile>
export type IssuerFile = z.output<typeof issuer>
export type EnvelopeFile = z.output<typeof envelope>
export type ToolEntryFile = z.output<typeof toolEntry>
