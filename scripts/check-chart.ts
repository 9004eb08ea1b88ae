import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { loadConfig } from '../src/config.js'
import { isOpa, openPolicy } from '../src/policy/index.js'
import { generateSigningKeys } from '../src/signer.js'
import { Manifest } from './chart/manifests.js'
import { findProblems, isBroker } from './chart/problems.js'

/**
 * `tsx scripts/check-chart.ts HELM`: lints and renders the chart with each set of values, checks what comes out, opens the configuration and
 * the policies in it as a broker would, and sees that wrong values are refused.
 */
const chart = resolve(import.meta.dirname, '../helm/mayfly')
const helm = process.argv[2] ?? 'helm'
// A helm made by `go install` knows nothing of its Kubernetes version and takes 1.20.
const KUBERNETES = ['--kube-version', '1.31.0']
const VALUES = ['', 'ci/full-values.yaml', 'ci/small-values.yaml', 'ci/cluster-values.yaml']
const REFUSED: readonly [set: string, complaint: RegExp][] = [
  ['replicas=two', /\/replicas.*want integer/],
  ['replicas=0', /\/replicas.*minimum/],
  ['replica=3', /'replica' not allowed/],
  ['config.listeners.public.address=0.0.0.0:80', /'listeners' not allowed/],
  ['config.signing.issuer=https://m.example,config.signing.keys=secret', /\/config\/signing\/keys.*pattern/],
  ['config.instance=Prod', /\/config\/instance.*pattern/],
  ['ports.public=443', /\/ports\/public.*minimum/],
  ['env.WAREHOUSE_URL=postgres://in-the-clear', /\/env\/WAREHOUSE_URL.*want object/],
  ['image.digest=latest', /\/image\/digest.*pattern/],
  ['networkPolicy.operatorFrom[0].namespace=all', /\/networkPolicy\/operatorFrom\/0/],
  ['policies.shipped[0]=dev', /\/policies\/shipped\/0/],
  ['policies.shipped=null,policies.files=null', /policies/],
  ['terminationGracePeriodSeconds=5', /\/terminationGracePeriodSeconds.*minimum/],
  ['audit.claim.create=false', /audit: keep the log somewhere/],
  ['plainEnv.REDIS_URL=redis://elsewhere', /REDIS_URL is set by the chart/],
  ['files.policies.secret=mine,files.policies.keys[0]=a.cedar', /files\.policies: this folder is the chart's own/],
  ['redis.address.cluster.nodes[0]=redis:6379,redis.bundled.enabled=true', /redis: give either address or bundled/],
  ['redis.address.url=redis:6379', /\/redis\/address/],
  ['serviceAccount.create=false', /serviceAccount\.name: needed/],
]

let failures = 0
const fail = (what: string, problems: readonly string[]) => {
  failures += problems.length
  for (const problem of problems) console.error(`chart: ${what}: ${problem}`)
}

for (const values of VALUES) {
  const what = values || 'default values'
  const options = [...KUBERNETES, ...(values ? ['--values', join(chart, values)] : [])]
  const linted = run(['lint', '--strict', chart, ...options])
  const rendered = run(['template', 'release', chart, '--namespace', 'mayfly', ...options])
  if (linted.failed) fail(what, [linted.said])
  if (rendered.failed) fail(what, [rendered.said])
  else {
    const documents = parseAllDocuments(rendered.out).flatMap((document) => {
      if (document.errors.length > 0) fail(what, document.errors.map(String))
      const value: unknown = document.toJS()
      return value === null ? [] : [value]
    })
    fail(what, findProblems(documents))
    fail(what, await openConfiguration(documents.flatMap((document) => Manifest.safeParse(document).data ?? [])))
    console.log(`chart: ${what}: ${documents.length} objects`)
  }
}
for (const [set, complaint] of REFUSED) {
  const { failed, said } = run(['template', 'release', chart, ...KUBERNETES, '--set', set])
  if (!failed) fail(set, ['is not refused'])
  else if (!complaint.test(said)) fail(set, [`is refused with other words: ${said}`])
}
console.log(`chart: ${REFUSED.length} wrong values tried, ${failures} problems`)
process.exitCode = failures > 0 ? 1 : 0

function run(args: readonly string[]): { failed: boolean; out: string; said: string } {
  const { status, stdout, stderr, error } = spawnSync(helm, args, { encoding: 'utf8', maxBuffer: 16 * 1024 * 1024 })
  if (error) throw error
  return { failed: status !== 0, out: stdout, said: `${stderr}\n${args[0] === 'lint' ? stdout : ''}`.replace(/^.*symbolic link.*\n/gm, '').trim() }
}

/** Lays the broker's projected volume out as the kubelet does, with stand-ins for the Secrets, and opens what is in it. */
async function openConfiguration(manifests: readonly Manifest[]): Promise<string[]> {
  const sets = manifests.flatMap((one) => (one.kind === 'StatefulSet' ? [one.spec.template.spec] : []))
  const pod = sets.find(({ containers }) => containers.some(isBroker))
  const sources = pod?.volumes.find(({ name }) => name === 'config')?.projected?.sources
  if (!pod || !sources) return ['there is no broker with a volume "config"']
  const folder = mkdtempSync(join(tmpdir(), 'chart-'))
  try {
    const now = join(folder, '..2026')
    for (const source of sources) {
      const { name, items } = 'configMap' in source ? source.configMap : source.secret
      const map = manifests.find((one) => one.kind === 'ConfigMap' && one.metadata.name === name)
      for (const { key, path } of items) {
        mkdirSync(dirname(join(now, path)), { recursive: true })
        writeFileSync(join(now, path), 'configMap' in source && map?.kind === 'ConfigMap' ? (map.data[key] ?? '') : await standIn(path))
        const [top = ''] = path.split('/')
        try {
          symlinkSync(join('..data', top), join(folder, top))
        } catch (error) {
          if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
        }
      }
    }
    symlinkSync('..2026', join(folder, '..data'))
    const env = Object.fromEntries(pod.containers.flatMap((container) => container.env.map(({ name }) => [name, standInOf(name)])))
    const config = await loadConfig(join(folder, 'mayfly.yaml'), env)
    if (isOpa(config.policy)) return ['the chart brings policies of its own, and they are not used']
    const policy = await openPolicy(config.policy)
    policy.close()
    return []
  } catch (error) {
    return [error instanceof Error ? error.message : 'the configuration cannot be opened']
  } finally {
    rmSync(folder, { recursive: true })
  }
}

async function standIn(path: string): Promise<string> {
  if (!path.endsWith('.json')) return 'a certificate or a key\n'.repeat(100)
  const { keys } = await generateSigningKeys()
  if (path.startsWith('signing/')) return JSON.stringify({ keys })
  return JSON.stringify({ keys: keys.map(({ d: _private, ...jwk }) => jwk) })
}

function standInOf(name: string): string {
  return name === 'WAREHOUSE_URL' ? 'postgres://broker:stand-in@postgres.example/warehouse' : 'redis://redis.example:6379'
}
