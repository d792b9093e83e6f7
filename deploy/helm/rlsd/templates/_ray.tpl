{{/* KubeRay adds the command and its own probes where there are none; these ask the raylet. */}}
{{- define "rlsd.rayPod" -}}
metadata:
  {{- include "rlsd.podMetadata" . | nindent 2 }}
spec:
  terminationGracePeriodSeconds: 60
  {{- include "rlsd.podSpec" . | nindent 2 }}
  containers:
    - name: {{ .container }}
      image: {{ include "rlsd.image" (dict "root" .root "name" "ray") }}
      imagePullPolicy: {{ .root.Values.images.pullPolicy }}
      ports:
        - {name: grpc, containerPort: 9000}
        - {name: metrics, containerPort: 9464}
        {{- if eq .container "ray-head" }}
        - {name: gcs, containerPort: 6379}
        - {name: dashboard, containerPort: 8265}
        {{- end }}
      {{- include "rlsd.env" . | nindent 6 }}
      {{- range $probe := list "startupProbe" "livenessProbe" "readinessProbe" }}
      {{ $probe }}:
        exec:
          command:
            - python
            - -c
            - import urllib.request; urllib.request.urlopen("http://127.0.0.1:52365/api/local_raylet_healthz", timeout=4)
        periodSeconds: 10
        timeoutSeconds: 10
        failureThreshold: {{ ternary (div (add (int $.values.startupSeconds) 9) 10) 12 (eq $probe "startupProbe") }}
      {{- end }}
      {{- include "rlsd.containerSecurity" . | nindent 6 }}
      {{- include "rlsd.resources" . | nindent 6 }}
      {{- include "rlsd.mounts" . | nindent 6 }}
{{- end -}}
