import { z } from 'zod'

/**
 * The Kubernetes objects that the chart makes, as far as it uses their fields: whatever is not named here is a mistake in a template (a typo,
 * an indentation) or wants a line here. Kubernetes itself drops an unknown field with no more than a warning.
 */
const name = z.string().regex(/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/)
const labels = z.record(z.string(), z.string().regex(/^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/))
const annotations = z.record(z.string(), z.string())
const metadata = z.strictObject({ name, labels, annotations: annotations.optional() })
const portNumber = z.int().min(1).max(65_535)
const selector = z.strictObject({ matchLabels: labels })
const quantity = z.union([z.number(), z.string().regex(/^\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$/)])
const keyRef = z.strictObject({ name, key: z.string() })
const mode = z.int().max(0o777)

const probe = {
  httpGet: z.strictObject({ path: z.string(), port: z.string() }).optional(),
  exec: z.strictObject({ command: z.array(z.string()) }).optional(),
  periodSeconds: z.int(),
  timeoutSeconds: z.int().optional(),
  failureThreshold: z.int().optional(),
}
const Probe = z.strictObject(probe).refine(({ httpGet, exec }) => (httpGet === undefined) !== (exec === undefined), 'is either httpGet or exec')
const Env = z.union([
  z.strictObject({ name: z.string(), value: z.string() }),
  z.strictObject({
    name: z.string(),
    valueFrom: z.union([
      z.strictObject({ secretKeyRef: keyRef }),
      z.strictObject({ fieldRef: z.strictObject({ fieldPath: z.literal('metadata.name') }) }),
    ]),
  }),
])
const Container = z.strictObject({
  name,
  image: z.string().regex(/^[^\s:@]+(:\d+)?[^\s:@]*(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})$/, 'must name a tag other than latest, or a digest'),
  imagePullPolicy: z.string().optional(),
  command: z.array(z.string()).optional(),
  args: z.array(z.string()).optional(),
  env: z.array(Env),
  ports: z.array(z.strictObject({ name, containerPort: portNumber })).default([]),
  startupProbe: Probe.optional(),
  livenessProbe: Probe.optional(),
  readinessProbe: Probe.optional(),
  lifecycle: z.strictObject({ preStop: z.strictObject({ exec: z.strictObject({ command: z.array(z.string()) }) }) }).optional(),
  resources: z.strictObject({
    requests: z.strictObject({ cpu: quantity, memory: quantity }),
    limits: z.strictObject({ cpu: quantity.optional(), memory: quantity }),
  }),
  securityContext: z.strictObject({
    allowPrivilegeEscalation: z.literal(false),
    readOnlyRootFilesystem: z.literal(true),
    capabilities: z.strictObject({ drop: z.tuple([z.literal('ALL')]) }),
  }),
  volumeMounts: z.array(z.strictObject({ name, mountPath: z.string(), readOnly: z.boolean().optional(), subPathExpr: z.string().optional() })),
})
const items = z.array(z.strictObject({ key: z.string(), path: z.string() }))
const Volume = z.strictObject({
  name,
  emptyDir: z.strictObject({ sizeLimit: quantity.optional() }).optional(),
  configMap: z.strictObject({ name, defaultMode: mode }).optional(),
  persistentVolumeClaim: z.strictObject({ claimName: name }).optional(),
  projected: z
    .strictObject({
      defaultMode: mode,
      sources: z.array(
        z.union([z.strictObject({ configMap: z.strictObject({ name, items }) }), z.strictObject({ secret: z.strictObject({ name, items }) })]),
      ),
    })
    .optional(),
})
const nonRoot = z.int().min(1)
const Pod = z.strictObject({
  metadata: z.strictObject({ labels, annotations: annotations.optional() }),
  spec: z.strictObject({
    serviceAccountName: name.optional(),
    automountServiceAccountToken: z.literal(false),
    enableServiceLinks: z.literal(false),
    terminationGracePeriodSeconds: z.int().min(30).optional(),
    priorityClassName: z.string().optional(),
    restartPolicy: z.literal('OnFailure').optional(),
    imagePullSecrets: z.array(z.strictObject({ name })).optional(),
    securityContext: z.strictObject({
      runAsNonRoot: z.literal(true),
      runAsUser: nonRoot,
      runAsGroup: nonRoot,
      fsGroup: nonRoot,
      fsGroupChangePolicy: z.literal('OnRootMismatch'),
      seccompProfile: z.strictObject({ type: z.literal('RuntimeDefault') }),
    }),
    containers: z.array(Container).length(1),
    volumes: z.array(Volume),
    topologySpreadConstraints: z
      .array(
        z.strictObject({
          topologyKey: z.string(),
          maxSkew: z.int(),
          whenUnsatisfiable: z.enum(['ScheduleAnyway', 'DoNotSchedule']),
          matchLabelKeys: z.array(z.string()),
          labelSelector: selector,
        }),
      )
      .optional(),
    nodeSelector: labels.optional(),
    tolerations: z.array(z.looseObject({})).optional(),
    affinity: z.looseObject({}).optional(),
  }),
})
const claim = {
  accessModes: z.array(z.enum(['ReadWriteOnce', 'ReadWriteOncePod', 'ReadWriteMany'])).length(1),
  storageClassName: z.string().optional(),
  resources: z.strictObject({ requests: z.strictObject({ storage: quantity }) }),
}
const policyPorts = z.array(z.strictObject({ port: z.union([z.string(), portNumber]), protocol: z.enum(['TCP', 'UDP']) })).min(1)
// An empty list of peers lets everybody in: a rule always names whom.
const peers = z.array(z.looseObject({})).min(1)

const of = <K extends string, S extends z.ZodRawShape>(apiVersion: string, kind: K, shape: S) =>
  z.strictObject({ apiVersion: z.literal(apiVersion), kind: z.literal(kind), metadata, ...shape })

/** One rendered object. There is no `Secret`: the chart makes none. */
export const Manifest = z.discriminatedUnion('kind', [
  of('apps/v1', 'StatefulSet', {
    spec: z.strictObject({
      serviceName: name,
      replicas: z.int().min(1),
      podManagementPolicy: z.literal('Parallel').optional(),
      persistentVolumeClaimRetentionPolicy: z.strictObject({ whenDeleted: z.literal('Retain'), whenScaled: z.literal('Retain') }),
      selector,
      template: Pod,
      volumeClaimTemplates: z.array(z.strictObject({ metadata: z.strictObject({ name, labels }), spec: z.strictObject(claim) })).optional(),
    }),
  }),
  of('batch/v1', 'Job', { spec: z.strictObject({ backoffLimit: z.int(), template: Pod }) }),
  of('v1', 'Service', {
    spec: z.strictObject({
      type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer']).optional(),
      selector: labels,
      ports: z.array(z.strictObject({ name, port: portNumber, targetPort: z.string() })).min(1),
    }),
  }),
  of('v1', 'ConfigMap', { data: z.record(z.string(), z.string().min(1)) }),
  of('v1', 'ServiceAccount', { automountServiceAccountToken: z.literal(false) }),
  of('policy/v1', 'PodDisruptionBudget', {
    spec: z.strictObject({ maxUnavailable: z.union([z.int().min(1), z.string()]), selector }),
  }),
  of('networking.k8s.io/v1', 'NetworkPolicy', {
    spec: z.strictObject({
      podSelector: selector,
      policyTypes: z.array(z.enum(['Ingress', 'Egress'])).min(1),
      ingress: z.array(z.strictObject({ ports: policyPorts, from: peers })).nullable(),
      egress: z.array(z.strictObject({ ports: policyPorts, to: peers.optional() })).optional(),
    }),
  }),
  of('monitoring.coreos.com/v1', 'ServiceMonitor', {
    spec: z.strictObject({
      selector,
      endpoints: z.array(z.strictObject({ port: z.string(), path: z.literal('/metrics'), interval: z.string() })).min(1),
    }),
  }),
])
export type Manifest = z.output<typeof Manifest>
export type Workload = Extract<Manifest, { kind: 'StatefulSet' | 'Job' }>
export type Pod = z.output<typeof Pod>
