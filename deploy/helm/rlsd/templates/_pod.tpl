{{/* Parts of a pod. All take (dict "root" $ "component" NAME "values" VALUES-OF-IT). */}}

{{- define "rlsd.podMetadata" -}}
labels:
  {{- include "rlsd.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: rlsd
  rlsd/run: {{ include "rlsd.run" .root }}
annotations:
  rlsd/config-sha256: {{ include "rlsd.config" .root | sha256sum }}
  kubectl.kubernetes.io/default-container: {{ .container | default (trimSuffix "-node" .component) }}
  {{- with .values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{/* Of every pod, whatever it runs. */}}
{{- define "rlsd.podSecurity" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{- define "rlsd.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "rlsd.scheduling" -}}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .values.schedulerName }}
schedulerName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "rlsd.selector" . | nindent 8 }}
{{- end -}}

{{- define "rlsd.resources" -}}
{{- $resources := deepCopy .values.resources -}}
{{- if and .values.gpus (not .withoutGpus) -}}
{{- $_ := set $resources.limits .root.Values.gpuResource (int .values.gpus) -}}
{{- $_ := set $resources.requests .root.Values.gpuResource (int .values.gpus) -}}
{{- end -}}
resources:
  {{- toYaml $resources | nindent 2 }}
{{- end -}}

{{/* Of each container of helm test. */}}
{{- define "rlsd.smallResources" -}}
requests: {cpu: 100m, memory: 256Mi, ephemeral-storage: 64Mi}
limits: {cpu: "1", memory: 2Gi, ephemeral-storage: 256Mi}
{{- end -}}

{{/* Where the others are, and where may be written. */}}
{{- define "rlsd.env" -}}
env:
  {{- if and (eq (include "rlsd.transport" .root) "redis") (not .withoutQueues) }}
  {{- if .root.Values.redis.urlSecret.name }}
  - {name: RLSD_REDIS_URL_FILE, value: /run/secrets/redis/url}
  {{- else }}
  - {name: RLSD_REDIS_URL, value: "redis://{{ include "rlsd.fullname" .root }}-redis:6379/0"}
  {{- end }}
  {{- end }}
  {{- range $name := list "rollout" "verifier" "teacher" "learner" }}
  - name: RLSD_{{ upper $name }}_ADDRESS
    value: {{ include "rlsd.address" (dict "root" $.root "component" $name) }}
  {{- end }}
  - {name: USER, value: rlsd}
  - {name: HOME, value: /cache}
  - {name: XDG_CACHE_HOME, value: /cache}
  - {name: HF_HOME, value: /cache/huggingface}
  - {name: HF_HUB_OFFLINE, value: {{ ternary "0" "1" .root.Values.hub.enabled | quote }}}
  {{- if and .root.Values.hub.enabled .root.Values.hub.tokenSecret.name }}
  - {name: HF_TOKEN_PATH, value: /run/secrets/hub/token}
  {{- end }}
  - {name: TOKENIZERS_PARALLELISM, value: "false"}
  - {name: PYTHONDONTWRITEBYTECODE, value: "1"}
  {{- with .root.Values.tracing.endpoint }}
  - {name: OTEL_EXPORTER_OTLP_ENDPOINT, value: {{ . | quote }}}
  {{- end }}
  {{- with .values.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end -}}

{{- define "rlsd.readsModels" -}}
{{- if ne .component "verifier" -}}yes{{- end -}}
{{- end -}}

{{- define "rlsd.mounts" -}}
volumeMounts:
  - {name: config, mountPath: /etc/rlsd, readOnly: true}
  - {name: tmp, mountPath: /tmp}
  - {name: cache, mountPath: /cache}
  - {name: shm, mountPath: /dev/shm}
  {{- if and (eq (include "rlsd.transport" .root) "redis") .root.Values.redis.urlSecret.name (not .withoutQueues) }}
  - {name: redis, mountPath: /run/secrets/redis, readOnly: true}
  {{- end }}
  {{- range .values.secrets }}
  - {name: secret-{{ .name }}, mountPath: /run/secrets/{{ .name }}, readOnly: true}
  {{- end }}
  {{- if include "rlsd.readsModels" . }}
  {{- $isOwn := or (eq .component "learner") (include "rlsd.hasObjectStore" .root) }}
  - {name: runs, mountPath: {{ .root.Values.config.run.dir }}, readOnly: {{ not $isOwn }}}
  {{- range .root.Values.inputs }}
  - {name: input-{{ .claim }}, mountPath: {{ .mountPath }}, readOnly: true}
  {{- end }}
  {{- if and .root.Values.hub.enabled .root.Values.hub.tokenSecret.name }}
  - {name: hub, mountPath: /run/secrets/hub, readOnly: true}
  {{- end }}
  {{- end }}
{{- end -}}

{{- define "rlsd.volumes" -}}
volumes:
  - name: config
    configMap: {name: {{ include "rlsd.configName" .root }}}
  - name: tmp
    emptyDir: {sizeLimit: 1Gi}
  - name: cache
    emptyDir: {sizeLimit: {{ .values.cacheSize }}}
  - name: shm
    emptyDir: {medium: Memory, sizeLimit: {{ .values.shmSize }}}
  {{- if and (eq (include "rlsd.transport" .root) "redis") .root.Values.redis.urlSecret.name }}
  - name: redis
    secret:
      secretName: {{ .root.Values.redis.urlSecret.name }}
      defaultMode: 0440
      items: [{key: {{ .root.Values.redis.urlSecret.key }}, path: url}]
  {{- end }}
  {{- range .values.secrets }}
  - name: secret-{{ .name }}
    secret: {secretName: {{ .name }}, defaultMode: 0440}
  {{- end }}
  {{- if include "rlsd.readsModels" . }}
  - name: runs
    {{- if and (ne .component "learner") (include "rlsd.hasObjectStore" .root) }}
    emptyDir: {sizeLimit: {{ .values.cacheSize }}} # of fetched weights
    {{- else }}
    persistentVolumeClaim: {claimName: {{ include "rlsd.storageName" .root }}}
    {{- end }}
  {{- range .root.Values.inputs }}
  - name: input-{{ .claim }}
    persistentVolumeClaim: {claimName: {{ .claim }}, readOnly: true}
  {{- end }}
  {{- if and .root.Values.hub.enabled .root.Values.hub.tokenSecret.name }}
  - name: hub
    secret:
      secretName: {{ .root.Values.hub.tokenSecret.name }}
      defaultMode: 0440
      items: [{key: {{ .root.Values.hub.tokenSecret.key }}, path: token}]
  {{- end }}
  {{- end }}
{{- end -}}

{{/* /livez answers once the model is loaded, and is 503 when nothing moves for run.stall_after_s. */}}
{{- define "rlsd.probes" -}}
startupProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: {{ div (add (int .values.startupSeconds) 9) 10 }}
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
{{- end -}}

{{/* The container of a service as its own process. "port" is that of gRPC; "command" may differ. */}}
{{- define "rlsd.container" -}}
name: {{ .component }}
image: {{ include "rlsd.image" (dict "root" .root "name" .component) }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
command:
  {{- toYaml (.command | default (list "python" "-m" (printf "services.%s" .component))) | nindent 2 }}
args:
  - --config=/etc/rlsd/config.json
  - --bind=0.0.0.0:{{ .port }}
  - --metrics=0.0.0.0:9464
ports:
  - {name: grpc, containerPort: {{ .port }}}
  - {name: metrics, containerPort: 9464}
{{ include "rlsd.env" . }}
{{- if not .unprobed }}
{{ include "rlsd.probes" . }}
{{- end }}
{{ include "rlsd.containerSecurity" . }}
{{ include "rlsd.resources" (merge (dict "withoutGpus" (dig "server" "enabled" false .values)) .) }}
{{ include "rlsd.mounts" . }}
{{- end -}}

{{/* An engine server on loopback: it holds the GPUs, and its admin routes leave the pod nowhere. */}}
{{- define "rlsd.server" -}}
{{- $server := .values.server -}}
{{- $values := merge (dict "resources" $server.resources) .values -}}
{{- $all := merge (dict "withoutQueues" true "values" $values) . -}}
name: engine
image: {{ $server.image }}
imagePullPolicy: {{ .root.Values.images.pullPolicy }}
command:
  {{- toYaml $server.command | nindent 2 }}
{{- with $server.args }}
args:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{ include "rlsd.env" $all }}
{{- if .probed }}
{{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
{{ $probe }}:
  {{- /* From inside: the server listens on loopback, where the kubelet cannot ask it. */}}
  exec:
    command:
      - python3
      - -c
      - import urllib.request; urllib.request.urlopen("http://127.0.0.1:{{ $server.port }}{{ $server.readyPath }}", timeout=4)
  periodSeconds: 10
  timeoutSeconds: 10
  failureThreshold: {{ ternary (div (add (int $.values.startupSeconds) 9) 10) 6 (eq $probe "startupProbe") }}
{{- end }}
{{- end }}
{{ include "rlsd.containerSecurity" . }}
{{ include "rlsd.resources" $all }}
{{ include "rlsd.mounts" $all }}
{{- end -}}

{{/* The rest of a pod's spec, behind its containers. */}}
{{- define "rlsd.podSpec" -}}
serviceAccountName: {{ include "rlsd.fullname" .root }}-{{ .component }}
{{ include "rlsd.podSecurity" . }}
{{ include "rlsd.scheduling" . }}
{{ include "rlsd.volumes" . }}
{{- end -}}
