{{/* The learner's pod. (… "name" the workload's "role": alone, leader or worker) */}}

{{/* One rank is a process; several are torchrun's group, whose exit code is that of its first
     failed rank (services/learner/group.py). Rank 0 is on the leader: it alone serves. */}}
{{- define "rlsd.learnerCommand" -}}
{{- $v := .root.Values -}}
{{- $each := include "rlsd.ranksPerNode" .root | int -}}
{{- if and (eq $each 1) (eq (int $v.learner.nodes) 1) -}}
{{- list "python" "-m" "services.learner" | toYaml -}}
{{- else -}}
{{- $group := list "python" "-m" "services.learner.group" (printf "--nproc-per-node=%d" $each) -}}
{{- if eq (int $v.learner.nodes) 1 -}}
{{- concat $group (list "--standalone" "-m" "services.learner") | toYaml -}}
{{- else -}}
{{- $leader := printf "%s-leader-0-0.%s" .name .name -}}
{{- $group = concat $group (list (printf "--nnodes=%d" (int $v.learner.nodes)) (printf "--master-addr=%s" $leader) "--master-port=29500") -}}
{{- if eq .role "leader" -}}
{{- concat $group (list "--node-rank=0" "-m" "services.learner") | toYaml -}}
{{- else -}}
{{- /* The index counts the workers from 0, and node 0 is the leader. */}}
{{- list "/bin/sh" "-c" (printf "exec %s --node-rank=$((JOB_COMPLETION_INDEX + 1)) -m services.learner \"$@\"" (join " " $group)) "sh" | toYaml -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "rlsd.learnerPod" -}}
{{- $v := .root.Values.learner -}}
{{- $grace := include "rlsd.learnerGrace" .root | int -}}
{{- $component := ternary "learner-node" "learner" (eq .role "worker") -}}
{{- $values := deepCopy $v -}}
{{- if .isGroup -}}
{{- /* torchrun would kill its ranks after 30 s. */}}
{{- $_ := set $values "env" (append $v.env (dict "name" "TORCH_ELASTIC_SHUTDOWN_TIMEOUT" "value" (printf "%d" (sub $grace 30)))) -}}
{{- end -}}
{{- if $v.doNotEvict -}}
{{- $_ := set $values "podAnnotations" (merge (dict "cluster-autoscaler.kubernetes.io/safe-to-evict" "false" "karpenter.sh/do-not-disrupt" "true") $v.podAnnotations) -}}
{{- end -}}
{{- $all := dict "root" .root "component" "learner" "values" $values "port" 50054 "command" (include "rlsd.learnerCommand" . | fromYamlArray) "unprobed" (eq .role "worker") -}}
metadata:
  {{- include "rlsd.podMetadata" (merge (dict "component" $component) $all) | nindent 2 }}
spec:
  restartPolicy: Never
  # The learner ends its step and writes a checkpoint: up to learner.stage_timeout_s.
  terminationGracePeriodSeconds: {{ $grace }}
  {{- include "rlsd.podSpec" $all | nindent 2 }}
  containers:
    - {{- include "rlsd.container" $all | nindent 6 }}
{{- end -}}

{{/* Exit codes: 0 the run is done; 75 it was asked to stop; 78 its input is wrong; 70 it cannot be
     trusted any more; others: something it needs failed. */}}
{{- define "rlsd.podFailurePolicy" -}}
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes: {containerName: learner, operator: In, values: [78]}
      onPodConditions: [] # 1.28 wants the field
    {{- if not .isGroupOfJobs }}
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
    - action: Ignore
      onExitCodes: {containerName: learner, operator: In, values: [75]}
      onPodConditions: []
    {{- end }}
{{- end -}}
