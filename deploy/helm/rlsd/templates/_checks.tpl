{{/* What the schema cannot say: each failure names the value and the remedy. */}}
{{- define "rlsd.checks" -}}
{{- $v := .Values -}}
{{- $transport := include "rlsd.transport" . -}}
{{- if and $v.verifier.requireRuntimeClass (not $v.verifier.runtimeClassName) -}}
{{- fail "verifier.requireRuntimeClass: true, but verifier.runtimeClassName is empty; name the RuntimeClass of gVisor or Kata" -}}
{{- end -}}
{{- if eq $transport "redis" -}}
{{- $isGiven := and $v.redis.urlSecret.name $v.redis.urlSecret.key -}}
{{- if not (or $isGiven $v.redis.bundled.enabled) -}}
{{- fail "config.run.transport is redis, but there is none; give redis.urlSecret, or redis.bundled.enabled: true" -}}
{{- end -}}
{{- if and $isGiven $v.redis.bundled.enabled (not $v.redis.bundled.aclSecret.name) -}}
{{- fail "redis.urlSecret and redis.bundled.enabled are both given; set redis.bundled.enabled: false, or redis.bundled.aclSecret when the URL is that of the bundled one" -}}
{{- end -}}
{{- if and $v.redis.bundled.aclSecret.name $v.redis.bundled.enabled (not $isGiven) -}}
{{- fail "redis.bundled.aclSecret asks for a password that the services are not told; give redis.urlSecret too" -}}
{{- end -}}
{{- if and (not $v.redis.bundled.enabled) $v.networkPolicy.enabled (not $v.redis.peers) -}}
{{- fail "redis.peers is empty: the NetworkPolicy would cut the services off from the Redis of redis.urlSecret; say where it is" -}}
{{- end -}}
{{- end -}}
{{- $ranks := dig "learner" "ranks" 1 $v.config | int -}}
{{- if mod $ranks (int $v.learner.nodes) -}}
{{- fail (printf "config.learner.ranks: %d cannot be spread over learner.nodes: %d; make it a multiple" $ranks (int $v.learner.nodes)) -}}
{{- end -}}
{{- $each := div $ranks (int $v.learner.nodes) -}}
{{- if and $v.learner.gpus (ne (int $v.learner.gpus) (int $each)) -}}
{{- fail (printf "learner.gpus: %d for %d ranks on each node; a rank has one device: set config.learner.ranks to gpus × nodes" (int $v.learner.gpus) (int $each)) -}}
{{- end -}}
{{- if and (gt (int $v.learner.nodes) 1) (not (.Capabilities.APIVersions.Has "jobset.x-k8s.io/v1alpha2")) -}}
{{- fail "learner.nodes > 1 needs JobSet, which this cluster does not have; install JobSet, or set learner.nodes: 1" -}}
{{- end -}}
{{- if and (gt (int $v.learner.nodes) 1) (or (not $v.learner.indexed) (not $v.learner.podFailurePolicy)) -}}
{{- fail "learner.nodes > 1 needs learner.indexed and learner.podFailurePolicy" -}}
{{- end -}}
{{- if gt (int $v.rollout.nodesPerReplica) 1 -}}
{{- if ne $v.runtime "processes" -}}
{{- fail "rollout.nodesPerReplica > 1 is for runtime: processes" -}}
{{- end -}}
{{- if not $v.rollout.server.enabled -}}
{{- fail "rollout.nodesPerReplica > 1 needs an engine that spans the nodes; give rollout.server" -}}
{{- end -}}
{{- if not (.Capabilities.APIVersions.Has "leaderworkerset.x-k8s.io/v1") -}}
{{- fail "rollout.nodesPerReplica > 1 needs LeaderWorkerSet, which this cluster does not have; install it, or set rollout.nodesPerReplica: 1" -}}
{{- end -}}
{{- end -}}
{{- range $name := list "rollout" "teacher" -}}
{{- $component := get $v $name -}}
{{- $url := dig $name "engine_url" "" $v.config -}}
{{- if $component.server.enabled -}}
{{- if not (and $component.server.image $component.server.command) -}}
{{- fail (printf "%s.server needs image and command" $name) -}}
{{- end -}}
{{- if and $v.images.requireDigest (not (contains "@sha256:" $component.server.image)) -}}
{{- fail (printf "images.requireDigest: true, but %s.server.image is %s; name it with its digest" $name $component.server.image) -}}
{{- end -}}
{{- if ne $url (printf "http://127.0.0.1:%d" (int $component.server.port)) -}}
{{- fail (printf "config.%s.engine_url is %q; for %s.server it is http://127.0.0.1:%d" $name $url $name (int $component.server.port)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if eq $v.runtime "ray" -}}
{{- if not (.Capabilities.APIVersions.Has "ray.io/v1") -}}
{{- fail "runtime: ray needs KubeRay, which this cluster does not have; install it, or set runtime: processes" -}}
{{- end -}}
{{- range $name := list "rollout" "verifier" "teacher" -}}
{{- if ne (get (get $v.autoscaling $name) "mode") "none" -}}
{{- fail (printf "autoscaling.%s.mode: Ray Serve scales itself; use ray.%s.replicas: MIN:MAX" $name $name) -}}
{{- end -}}
{{- if and (contains ":" (get (get $v.ray $name) "replicas")) (eq $transport "redis") -}}
{{- fail (printf "ray.%s.replicas: Serve scales by calls, which config.run.transport: redis has none of; use grpc, or one number" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name := list "rollout" "verifier" "teacher" -}}
{{- $scaling := get $v.autoscaling $name -}}
{{- if eq $scaling.mode "keda" -}}
{{- if ne $transport "redis" -}}
{{- fail (printf "autoscaling.%s.mode: keda reads the queues, which config.run.transport: grpc has none of" $name) -}}
{{- end -}}
{{- if not ($.Capabilities.APIVersions.Has "keda.sh/v1alpha1") -}}
{{- fail (printf "autoscaling.%s.mode: keda needs KEDA, which this cluster does not have" $name) -}}
{{- end -}}
{{- if not (or $v.redis.bundled.enabled $v.autoscaling.keda.redisAddress) -}}
{{- fail "autoscaling.keda.redisAddress: KEDA has to be told host:port of a Redis outside" -}}
{{- end -}}
{{- if and $v.redis.bundled.enabled $v.redis.bundled.aclSecret.name (not $v.autoscaling.keda.passwordSecret.name) -}}
{{- fail "autoscaling.keda.passwordSecret: the bundled Redis asks KEDA for a password" -}}
{{- end -}}
{{- end -}}
{{- if and (ne $scaling.mode "none") (gt (int $scaling.min) (int $scaling.max)) -}}
{{- fail (printf "autoscaling.%s: min is above max" $name) -}}
{{- end -}}
{{- end -}}
{{- if and $v.monitoring.podMonitor.enabled (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}
{{- fail "monitoring.podMonitor needs the Prometheus operator, which this cluster does not have" -}}
{{- end -}}
{{- if and $v.monitoring.rules.enabled (not (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1")) -}}
{{- fail "monitoring.rules needs the Prometheus operator, which this cluster does not have; load deploy/helm/rlsd/rules into your Prometheus" -}}
{{- end -}}
{{- end -}}
