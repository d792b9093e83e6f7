{{/* A stage as a Deployment. (dict "root" $ "component" … "values" … "port" …) */}}

{{/* Containers of a stage's pod: the service, and its engine server if it has one. */}}
{{- define "rlsd.stagePod" -}}
metadata:
  {{- include "rlsd.podMetadata" . | nindent 2 }}
spec:
  # A stage ends its loops within 20 s and its calls within 20 more (rlsd/serving/lifecycle.py).
  terminationGracePeriodSeconds: 60
  {{- include "rlsd.podSpec" . | nindent 2 }}
  containers:
    - {{- include "rlsd.container" . | nindent 6 }}
    {{- if dig "server" "enabled" false .values }}
    - {{- include "rlsd.server" (merge (dict "probed" true) .) | nindent 6 }}
    {{- end }}
{{- end -}}

{{- define "rlsd.deployment" -}}
{{- $scaling := get .root.Values.autoscaling .component -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "rlsd.fullname" .root }}-{{ .component }}
  labels:
    {{- include "rlsd.labels" .root | nindent 4 }}
    {{- include "rlsd.selector" . | nindent 4 }}
    {{- include "rlsd.queue" . | nindent 4 }}
spec:
  {{- if eq $scaling.mode "none" }}
  replicas: {{ .values.replicas }}
  {{- end }}
  revisionHistoryLimit: 3
  progressDeadlineSeconds: {{ add (int .values.startupSeconds) 600 }}
  strategy:
    type: RollingUpdate
    # Devices are scarce: with them a new replica takes the place of an old one, whose work waits.
    rollingUpdate: {{ ternary (dict "maxSurge" 0 "maxUnavailable" 1) (dict "maxSurge" 1 "maxUnavailable" 0) (gt (int .values.gpus) 0) | toJson }}
  selector:
    matchLabels:
      {{- include "rlsd.selector" . | nindent 6 }}
  template:
    {{- include "rlsd.stagePod" . | nindent 4 }}
{{- end -}}

{{/* Of what Kueue admits: only what holds devices, and the learner. */}}
{{- define "rlsd.queue" -}}
{{- if and .root.Values.kueue.queueName (or (gt (int .values.gpus) 0) (eq .component "learner")) -}}
kueue.x-k8s.io/queue-name: {{ .root.Values.kueue.queueName }}
{{- end -}}
{{- end -}}
