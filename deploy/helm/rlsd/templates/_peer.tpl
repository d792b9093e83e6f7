{{/* One rule of egress from {cidr, port} or {namespace, podLabels, port}. */}}
{{- define "rlsd.peer" -}}
- to:
    {{- if .cidr }}
    - ipBlock: {cidr: {{ .cidr }}}
    {{- else }}
    - namespaceSelector:
        matchLabels: {kubernetes.io/metadata.name: {{ .namespace }}}
      {{- with .podLabels }}
      podSelector:
        matchLabels:
          {{- toYaml . | nindent 10 }}
      {{- end }}
    {{- end }}
  ports: [{port: {{ .port }}}]
{{- end -}}

{{- define "rlsd.usesKeda" -}}
{{- range $name := list "rollout" "verifier" "teacher" -}}
{{- if eq (get (get $.Values.autoscaling $name) "mode") "keda" -}}yes{{- end -}}
{{- end -}}
{{- end -}}

{{/* Whether the policy may call checks of the verifier service between its turns (docs/tools.md). */}}
{{- define "rlsd.hasChecksAsTools" -}}
{{- range $name, $tool := dig "tools" "use" dict .Values.config -}}
{{- if eq (get $tool "kind") "verifier" -}}yes{{- end -}}
{{- end -}}
{{- end -}}
