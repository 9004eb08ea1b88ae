{{- define "mayfly.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "mayfly.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Labels of one component: (list $ "broker") */}}
{{- define "mayfly.componentSelector" -}}
{{ include "mayfly.selector" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- define "mayfly.labels" -}}
{{ include "mayfly.componentSelector" . }}
app.kubernetes.io/version: {{ (index . 0).Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ (index . 0).Release.Service }}
helm.sh/chart: {{ printf "%s-%s" (index . 0).Chart.Name (index . 0).Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "mayfly.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "mayfly.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "mayfly.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end -}}
{{- end -}}

{{/* Names of the policy files in the folder policies/, as a JSON object name -> text. */}}
{{- define "mayfly.policies" -}}
{{- $files := dict -}}
{{- range .Values.policies.shipped -}}
{{- $_ := set $files (printf "%s.cedar" .) ($.Files.Get (printf "files/policies/%s.cedar" .)) -}}
{{- end -}}
{{- range $name, $text := .Values.policies.files -}}
{{- if hasKey $files $name -}}
{{- fail (printf "policies.files: %s is the name of a policy that Mayfly ships; choose another name, or leave it out of policies.shipped" $name) -}}
{{- end -}}
{{- $_ := set $files $name $text -}}
{{- end -}}
{{- if not $files -}}
{{- fail "policies: give at least one file, or some of policies.shipped; without a policy nothing is allowed" -}}
{{- end -}}
{{- $files | toJson -}}
{{- end -}}

{{/* mayfly.yaml: the values' config and what the chart decides. */}}
{{- define "mayfly.config" -}}
{{- $tls := dict -}}
{{- if .Values.tls -}}
{{- $tls = dict "tls" (dict "cert" "file:tls/tls.crt" "key" "file:tls/tls.key") -}}
{{- end -}}
{{- $public := mergeOverwrite (dict "address" (printf "0.0.0.0:%v" .Values.ports.public)) $tls -}}
{{- $operator := mergeOverwrite (dict "address" (printf "0.0.0.0:%v" .Values.ports.operator)) $tls -}}
{{- $metrics := dict "address" (printf "0.0.0.0:%v" .Values.ports.metrics) -}}
{{- $own := dict
  "version" 1
  "data_dir" "/var/lib/mayfly"
  "listeners" (dict "public" $public "operator" $operator "metrics" $metrics)
  "ledger" (dict "redis" (.Values.redis.address | default "env:REDIS_URL"))
  "policies" (dict "engine" "cedar" "schema" "schema.cedarschema" "files" (list "policies/*.cedar"))
  "audit" (dict "sinks" (dict "local" (dict "type" "jsonl" "path" "/var/lib/mayfly/audit")))
-}}
{{- toYaml (mergeOverwrite (deepCopy .Values.config) $own) -}}
{{- end -}}

{{/* Everything below /etc/mayfly: one projected volume, so that configuration, policies and secret files change together. */}}
{{- define "mayfly.configVolume" -}}
projected:
  defaultMode: 288 # 0440
  sources:
    - configMap:
        name: {{ include "mayfly.fullname" . }}
        items:
          - {key: mayfly.yaml, path: mayfly.yaml}
          - {key: schema.cedarschema, path: schema.cedarschema}
          {{- range $name, $_ := include "mayfly.policies" . | fromJson }}
          - {key: {{ $name }}, path: policies/{{ $name }}}
          {{- end }}
    {{- if .Values.tls }}
    - secret:
        name: {{ .Values.tls.secret }}
        items:
          - {key: tls.crt, path: tls/tls.crt}
          - {key: tls.key, path: tls/tls.key}
    {{- end }}
    {{- range $folder, $file := .Values.files }}
    {{- if or (eq $folder "policies") (and $.Values.tls (eq $folder "tls")) }}
    {{- fail (printf "files.%s: this folder is the chart's own; choose another name" $folder) }}
    {{- end }}
    - secret:
        name: {{ $file.secret }}
        items:
          {{- range $file.keys }}
          - {key: {{ . | quote }}, path: {{ printf "%s/%s" $folder . | quote }}}
          {{- end }}
    {{- end }}
{{- end -}}

{{- define "mayfly.env" -}}
{{- if and .Values.redis.address .Values.redis.bundled.enabled }}
{{- fail "redis: give either address or bundled.enabled" }}
{{- end }}
{{- range $reserved := list "REDIS_URL" "REDIS_PASSWORD" "POD_NAME" }}
{{- if or (hasKey $.Values.env $reserved) (hasKey $.Values.plainEnv $reserved) }}
{{- fail (printf "env: %s is set by the chart; see the values of redis" $reserved) }}
{{- end }}
{{- end }}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
{{- if .Values.redis.bundled.enabled }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.bundled.password.secret }}, key: {{ .Values.redis.bundled.password.key }}}}
- name: REDIS_URL
  value: redis://:$(REDIS_PASSWORD)@{{ include "mayfly.fullname" . }}-redis:6379
{{- else if not .Values.redis.address }}
- name: REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .Values.redis.url.secret }}, key: {{ .Values.redis.url.key }}}}
{{- end }}
{{- range $name, $from := .Values.env }}
- name: {{ $name }}
  valueFrom: {secretKeyRef: {name: {{ $from.secret }}, key: {{ $from.key | quote }}}}
{{- end }}
{{- range $name, $value := .Values.plainEnv }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{- define "mayfly.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "mayfly.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}
