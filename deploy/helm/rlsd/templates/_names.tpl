{{/* Every name begins with the release's; 30 letters leave room for what Kubernetes appends. */}}
{{- define "rlsd.fullname" -}}
{{- .Release.Name | trunc 30 | trimSuffix "-" -}}
{{- end -}}

{{- define "rlsd.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: rlsd
{{- end -}}

{{/* Of a component's pods. (dict "root" $ "component" "rollout") */}}
{{- define "rlsd.selector" -}}
app.kubernetes.io/name: rlsd
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* The run's id as a part of names and labels, which know no capitals, dots or underscores. */}}
{{- define "rlsd.run" -}}
{{- .Values.config.run.id | lower | replace "." "-" | replace "_" "-" | trunc 20 | trimSuffix "-" -}}
{{- end -}}

{{- define "rlsd.config" -}}
{{- .Values.config | toPrettyJson -}}
{{- end -}}

{{- define "rlsd.configHash" -}}
{{- include "rlsd.config" . | sha256sum | trunc 10 -}}
{{- end -}}

{{- define "rlsd.configName" -}}
{{- printf "%s-config-%s" (include "rlsd.fullname" .) (include "rlsd.configHash" .) -}}
{{- end -}}

{{- define "rlsd.transport" -}}
{{- .Values.config.run.transport | default "redis" -}}
{{- end -}}

{{- define "rlsd.storageName" -}}
{{- .Values.storage.existingClaim | default (printf "%s-runs" (include "rlsd.fullname" .)) -}}
{{- end -}}

{{/* Whether weights go through an object store: then the learner alone has the run's claim. */}}
{{- define "rlsd.hasObjectStore" -}}
{{- if dig "weights" "url" "" .Values.config -}}yes{{- end -}}
{{- end -}}

{{/* An image by digest, else by tag. (dict "root" $ "name" "rollout") */}}
{{- define "rlsd.image" -}}
{{- $image := get .root.Values.images .name -}}
{{- $tag := $image.tag | default .root.Values.images.tag | default .root.Chart.AppVersion -}}
{{- if and .root.Values.images.requireDigest (not $image.digest) -}}
{{- fail (printf "images.requireDigest: true, but images.%s.digest is empty; give the one that the registry has for %s:%s" .name $image.repository $tag) -}}
{{- end -}}
{{- $place := ternary (printf "@%s" $image.digest) (printf ":%s" $tag) (ne $image.digest "") -}}
{{- with .root.Values.images.registry -}}{{ . | trimSuffix "/" }}/{{- end -}}
{{- $image.repository }}{{ $place -}}
{{- end -}}

{{- define "rlsd.redisIsBundled" -}}
{{- if and (eq (include "rlsd.transport" .) "redis") .Values.redis.bundled.enabled -}}yes{{- end -}}
{{- end -}}

{{/* How a service is called: its own port, or Ray Serve's proxy, which is told the application. */}}
{{- define "rlsd.address" -}}
{{- $ports := dict "rollout" 50051 "verifier" 50052 "teacher" 50053 "learner" 50054 -}}
{{- $full := include "rlsd.fullname" .root -}}
{{- if and (eq .root.Values.runtime "ray") (ne .component "learner") -}}
{{- printf "%s-ray:9000/%s" $full .component -}}
{{- else -}}
{{- printf "%s-%s:%d" $full .component (get $ports .component) -}}
{{- end -}}
{{- end -}}

{{/* Ranks on each node of the learner. */}}
{{- define "rlsd.ranksPerNode" -}}
{{- $ranks := dig "learner" "ranks" 1 .Values.config | int -}}
{{- div $ranks (int .Values.learner.nodes) -}}
{{- end -}}

{{/* Seconds in which the learner ends its step (rlsd: learner.stage_timeout_s), and a minute. */}}
{{- define "rlsd.learnerGrace" -}}
{{- add (dig "learner" "stage_timeout_s" 600 .Values.config | int) 60 -}}
{{- end -}}

{{/* Containers that begin before the others and end after them came with 1.29. */}}
{{- define "rlsd.hasSidecars" -}}
{{- if semverCompare ">=1.29.0-0" .Capabilities.KubeVersion.Version -}}yes{{- end -}}
{{- end -}}

{{/* On Ray the stages have one image, which the health test reaches. */}}
{{- define "rlsd.hasStepTest" -}}
{{- if and .Values.tests.step (eq .Values.runtime "processes") (include "rlsd.hasSidecars" .) -}}yes{{- end -}}
{{- end -}}
