import { describe, expect, it } from '@jest/globals'
import { parseAllDocuments } from 'yaml'
import { findProblems } from '../scripts/chart/problems.js'

/** What the chart renders, in small. */
const MANIFESTS = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: mayfly, labels: {app: mayfly}}
spec:
  replicas: 2
  serviceName: mayfly
  podManagementPolicy: Parallel
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
  selector: {matchLabels: {app: mayfly}}
  template:
    metadata: {labels: {app: mayfly}}
    spec:
      serviceAccountName: mayfly
      automountServiceAccountToken: false
      enableServiceLinks: false
      terminationGracePeriodSeconds: 60
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
        fsGroupChangePolicy: OnRootMismatch
        seccompProfile: {type: RuntimeDefault}
      containers:
        - name: mayfly
          image: registry.example:5000/mayfly:0.1.0
          env:
            - {name: REDIS_PASSWORD, valueFrom: {secretKeyRef: {name: redis, key: password}}}
            - {name: REDIS_URL, value: "redis://:$(REDIS_PASSWORD)@redis:6379"}
          ports: [{name: public, containerPort: 8443}]
          livenessProbe: {httpGet: {path: /healthz, port: public}, periodSeconds: 10}
          readinessProbe: {httpGet: {path: /readyz, port: public}, periodSeconds: 5}
          resources: {requests: {cpu: 250m, memory: 256Mi}, limits: {memory: 512Mi}}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
          volumeMounts: [{name: config, mountPath: /etc/mayfly, readOnly: true}]
      volumes:
        - name: config
          projected:
            defaultMode: 288
            sources:
              - configMap: {name: mayfly, items: [{key: mayfly.yaml, path: mayfly.yaml}]}
              - secret: {name: tls, items: [{key: tls.crt, path: tls/tls.crt}]}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: mayfly, labels: {app: mayfly}}, data: {mayfly.yaml: "ledger: {redis: env:REDIS_URL}"}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: mayfly, labels: {app: mayfly}}, automountServiceAccountToken: false}
---
apiVersion: v1
kind: Service
metadata: {name: mayfly, labels: {app: mayfly}}
spec: {selector: {app: mayfly}, ports: [{name: https, port: 443, targetPort: public}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: mayfly, labels: {app: mayfly}}
spec:
  podSelector: {matchLabels: {app: mayfly}}
  policyTypes: [Ingress]
  ingress: [{ports: [{port: public, protocol: TCP}], from: [{namespaceSelector: {}}]}]
`

const problemsOf = (text: string) => findProblems(parseAllDocuments(text).map((document): unknown => document.toJS()))

describe('rendered manifests', () => {
  it('are in order as they are', () => {
    expect(problemsOf(MANIFESTS)).toEqual([])
  })

  const broken: readonly [what: string, from: string, to: string, problem: RegExp][] = [
    ['a field that Kubernetes does not know', 'serviceAccountName: mayfly', 'serviceAcountName: mayfly', /Unrecognized key.*serviceAcountName/],
    ['a selector that misses its own pods', 'selector: {matchLabels: {app: mayfly}}', 'selector: {matchLabels: {app: other}}', /own pods/],
    ['a Service in front of nothing', 'spec: {selector: {app: mayfly}', 'spec: {selector: {app: other}', /selects the pods of 0 workloads/],
    ['a Service to a port that is not there', 'targetPort: public', 'targetPort: https', /its pods have no port https/],
    ['a probe of a port that is not there', '{path: /readyz, port: public}', '{path: /readyz, port: metrics}', /probes metrics, which is no port/],
    ['a liveness that depends on others', 'path: /healthz', 'path: /readyz', /liveness is not \/healthz/],
    ['a pod that may run as root', 'runAsUser: 65532', 'runAsUser: 0', /runAsUser/],
    ['a root that can be written', 'readOnlyRootFilesystem: true', 'readOnlyRootFilesystem: false', /readOnlyRootFilesystem/],
    ['a mounted API token', 'automountServiceAccountToken: false\n      enable', 'automountServiceAccountToken: true\n      enable', /automount/],
    ['an image that moves', 'mayfly:0.1.0', 'mayfly:latest', /tag other than latest/],
    ['a drain that is cut short', 'terminationGracePeriodSeconds: 60', 'terminationGracePeriodSeconds: 10', /terminationGracePeriodSeconds/],
    ['a mount of no volume', '{name: config, mountPath', '{name: conf, mountPath', /mounts conf, which is no volume/],
    ['a file that no ConfigMap has', '{key: mayfly.yaml,', '{key: other.yaml,', /ConfigMap mayfly has no other\.yaml/],
    ['two files of one name', 'path: tls/tls.crt', 'path: mayfly.yaml', /two files of one name/],
    ['a password in the environment', '$(REDIS_PASSWORD)', 'hunter2', /REDIS_URL holds what looks like a secret/],
    ['a password in the configuration', 'env:REDIS_URL', 'redis://u:hunter2@redis', /mayfly\.yaml holds what looks like a secret/],
    ['a network policy that lets everybody in', 'from: [{namespaceSelector: {}}]', 'from: []', /ingress\.0\.from/],
    [
      'pods without a network policy',
      'podSelector: {matchLabels: {app: mayfly}}',
      'podSelector: {matchLabels: {app: x}}',
      /no NetworkPolicy selects/,
    ],
    ['a Secret made by the chart', 'kind: ServiceAccount', 'kind: Secret', /Secret\/mayfly: kind/],
    [
      'an account that is not there',
      'kind: ServiceAccount, metadata: {name: mayfly,',
      'kind: ServiceAccount, metadata: {name: x,',
      /ServiceAccount is not/,
    ],
  ]
  it.each(broken)('with %s are not', (_what, from, to, problem) => {
    const text = MANIFESTS.replace(from, to)
    expect(text).not.toBe(MANIFESTS)
    expect(problemsOf(text).join('\n')).toMatch(problem)
  })

  it('that are there twice are not', () => {
    const [, , account = ''] = MANIFESTS.split('---')
    expect(problemsOf(`${MANIFESTS}---${account}`)).toEqual(['ServiceAccount/mayfly: is there twice'])
  })
})
