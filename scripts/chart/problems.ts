import { z } from 'zod'
import { Manifest, type Workload } from './manifests.js'

/**
 * What is wrong with rendered manifests, one readable line each: their fields (`manifests.ts`), and whether what they name of each other is
 * there. Secrets are the user's and are not looked for.
 */
export function findProblems(documents: readonly unknown[]): string[] {
  const problems: string[] = []
  const all: Manifest[] = []
  for (const document of documents) {
    const parsed = Manifest.safeParse(document)
    if (parsed.success) all.push(parsed.data)
    else problems.push(...parsed.error.issues.map((issue) => `${nameOf(document)}: ${issue.path.join('.')}: ${issue.message}`))
  }
  const ids = all.map(nameOf)
  problems.push(...ids.filter((id, index) => ids.indexOf(id) < index).map((id) => `${id}: is there twice`))
  for (const one of all) problems.push(...problemsOf(one, all).map((problem) => `${nameOf(one)}: ${problem}`))
  return problems
}

function problemsOf(one: Manifest, all: readonly Manifest[]): string[] {
  if (one.kind === 'StatefulSet') {
    const service = all.some(({ kind, metadata }) => kind === 'Service' && metadata.name === one.spec.serviceName)
    const served = unless(service, `there is no Service ${one.spec.serviceName}`)
    return [...workloadProblems(one, all), ...selectorProblems(one, all), ...brokerProblems(one), ...served]
  }
  if (one.kind === 'Job') return workloadProblems(one, all)
  if (one.kind === 'Service')
    return portProblems(
      one.spec.selector,
      one.spec.ports.map(({ targetPort }) => targetPort),
      all,
    )
  if (one.kind === 'PodDisruptionBudget') return portProblems(one.spec.selector.matchLabels, [], all)
  if (one.kind === 'NetworkPolicy') {
    const ports = (one.spec.ingress ?? []).flatMap((rule) => rule.ports.map(({ port }) => port))
    return portProblems(one.spec.podSelector.matchLabels, ports, all)
  }
  if (one.kind === 'ServiceMonitor') {
    const services = all.flatMap((other) => (other.kind === 'Service' && covers(one.spec.selector.matchLabels, other.metadata.labels) ? [other] : []))
    const offered = services.flatMap((service) => service.spec.ports.map(({ name }) => name))
    return [
      ...unless(services.length === 1, `selects ${services.length} Services`),
      ...one.spec.endpoints.flatMap(({ port }) => unless(offered.includes(port), `its Service has no port ${port}`)),
    ]
  }
  if (one.kind === 'ConfigMap')
    return Object.entries(one.data).flatMap(([key, text]) => unless(!looksSecret(text), `${key} holds what looks like a secret`))
  return []
}

function workloadProblems(workload: Workload, all: readonly Manifest[]): string[] {
  const { spec, metadata } = workload.spec.template
  const claims = workload.kind === 'StatefulSet' ? (workload.spec.volumeClaimTemplates ?? []).map((one) => one.metadata.name) : []
  const mountable = new Set([...claims, ...spec.volumes.map(({ name }) => name)])
  const ports = portsOf(workload)
  const accounts = all.filter(({ kind }) => kind === 'ServiceAccount').map((one) => one.metadata.name)
  const policies = all.filter((one) => one.kind === 'NetworkPolicy')
  const policed = policies.some((one) => covers(one.spec.podSelector.matchLabels, metadata.labels))
  return [
    ...unless(policies.length === 0 || policed || workload.kind === 'Job', 'no NetworkPolicy selects its pods'),
    ...unless(!spec.serviceAccountName || accounts.length === 0 || accounts.includes(spec.serviceAccountName), 'its ServiceAccount is not there'),
    ...spec.volumes.flatMap((volume) => volumeProblems(volume, all)),
    ...spec.containers.flatMap(({ volumeMounts, env, command = [], args = [], startupProbe, livenessProbe, readinessProbe }) => [
      ...volumeMounts.flatMap(({ name }) => unless(mountable.has(name), `mounts ${name}, which is no volume`)),
      ...env.flatMap((one) => unless(!('value' in one) || !looksSecret(one.value), `${one.name} holds what looks like a secret`)),
      ...unless(![...command, ...args].some(looksSecret), 'its command line holds what looks like a secret'),
      ...[startupProbe, livenessProbe, readinessProbe].flatMap((probe) =>
        unless(!probe?.httpGet || ports.has(probe.httpGet.port), `probes ${probe?.httpGet?.port}, which is no port`),
      ),
    ]),
  ]
}

type Volume = Workload['spec']['template']['spec']['volumes'][number]
function volumeProblems({ name, configMap, projected }: Volume, all: readonly Manifest[]): string[] {
  const sources = projected?.sources ?? []
  const used = sources.flatMap((source) => ('configMap' in source ? [source.configMap] : []))
  const wanted = [...used, ...(configMap ? [{ name: configMap.name, items: [] }] : [])]
  const paths = sources.flatMap((source) => ('configMap' in source ? source.configMap : source.secret).items.map(({ path }) => path))
  return [
    ...unless(new Set(paths).size === paths.length, `volume ${name} has two files of one name`),
    ...wanted.flatMap(({ name, items }) => {
      const map = all.find((one) => one.kind === 'ConfigMap' && one.metadata.name === name)
      if (map?.kind !== 'ConfigMap') return [`there is no ConfigMap ${name}`]
      return items.flatMap(({ key }) => unless(Object.hasOwn(map.data, key), `ConfigMap ${name} has no ${key}`))
    }),
  ]
}

function selectorProblems(workload: Exclude<Workload, { kind: 'Job' }>, all: readonly Manifest[]): string[] {
  const { selector, template } = workload.spec
  return [
    ...unless(covers(selector.matchLabels, template.metadata.labels), 'does not select its own pods'),
    ...unless(workloadsOf(selector.matchLabels, all).length <= 1, "selects another workload's pods too"),
  ]
}

/** Not Redis, which the chart may bring too. */
export function isBroker({ name }: { readonly name: string }): boolean {
  return name === 'mayfly'
}

/** The broker itself: what it is probed at, and that a drain can end. */
function brokerProblems({ spec }: Extract<Workload, { kind: 'StatefulSet' }>): string[] {
  return spec.template.spec.containers
    .filter(isBroker)
    .flatMap(({ livenessProbe, readinessProbe }) => [
      ...unless(livenessProbe?.httpGet?.path === '/healthz', 'its liveness is not /healthz'),
      ...unless(readinessProbe?.httpGet?.path === '/readyz', 'its readiness is not /readyz'),
      ...unless(spec.template.spec.terminationGracePeriodSeconds !== undefined, 'has no terminationGracePeriodSeconds'),
    ])
}

/** A selector means the pods of exactly one workload, and these have the ports that are spoken of. */
function portProblems(selector: Labels, ports: readonly (string | number)[], all: readonly Manifest[]): string[] {
  const behind = workloadsOf(selector, all)
  return [
    ...unless(behind.length === 1, `selects the pods of ${behind.length} workloads`),
    ...behind.flatMap((workload) => ports.flatMap((port) => unless(portsOf(workload).has(port), `its pods have no port ${port}`))),
  ]
}

type Labels = Readonly<Record<string, string>>
function workloadsOf(selector: Labels, all: readonly Manifest[]): Workload[] {
  return all.flatMap((one) =>
    (one.kind === 'StatefulSet' || one.kind === 'Job') && covers(selector, one.spec.template.metadata.labels) ? [one] : [],
  )
}
function portsOf(workload: Workload): Set<string | number> {
  return new Set(workload.spec.template.spec.containers.flatMap(({ ports }) => ports.flatMap(({ name, containerPort }) => [name, containerPort])))
}
function covers(selector: Labels, labels: Labels): boolean {
  return Object.entries(selector).every(([key, value]) => labels[key] === value)
}
function unless(holds: boolean, problem: string): string[] {
  return holds ? [] : [problem]
}

/** A password in a URL (that is not filled in from the environment), a private key, the private half of a JWK. */
function looksSecret(text: string): boolean {
  return /:\/\/[^\s/@:]*:(?!\$\()[^\s/@]+@/.test(text) || text.includes('PRIVATE KEY') || /"?\bd"?\s*:\s*"?[A-Za-z0-9_-]{43}/.test(text)
}

const Named = z.looseObject({ kind: z.string(), metadata: z.looseObject({ name: z.string() }) })
function nameOf(document: unknown): string {
  const named = Named.safeParse(document)
  return named.success ? `${named.data.kind}/${named.data.metadata.name}` : 'a document without kind or name'
}
