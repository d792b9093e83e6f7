"""What the rendered objects ask of a cluster. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rlsd.cluster.quantities import quantity

Object = Mapping[str, Any]

COMPONENT = "app.kubernetes.io/component"
QUEUE = "kueue.x-k8s.io/queue-name"
_HOOK = "helm.sh/hook"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """Pods of one kind."""

    component: str
    count: int
    """At the start."""
    most: int
    """Where autoscaling ends."""
    spec: Object

    @property
    def requests(self) -> dict[str, Decimal]:
        """What one of them asks of its node."""
        return total(self.spec, "requests")

    @property
    def limits(self) -> dict[str, Decimal]:
        """What one of them may use."""
        return total(self.spec, "limits")

    @property
    def claims(self) -> set[str]:
        """Names of the claims that they mount."""
        volumes = self.spec.get("volumes") or ()
        found = (v.get("persistentVolumeClaim") for v in volumes)
        return {claim["claimName"] for claim in found if claim}


@dataclass(frozen=True, slots=True)
class Wanted:
    """The objects of a release, seen from a cluster."""

    objects: Sequence[Object] = ()

    def of_kind(self, *kinds: str) -> list[Object]:
        """The objects of these kinds."""
        return [x for x in self.objects if x["kind"] in kinds]

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """(apiVersion, kind) of everything that is installed; `helm test`'s pods are not."""
        installed = (x for x in self.objects if not _is_hook(x))
        return sorted({(x["apiVersion"], x["kind"]) for x in installed})

    @property
    def pods(self) -> list[Pods]:
        """Every pod that a release keeps."""
        scaled = {}
        for one in self.of_kind("ScaledObject", "HorizontalPodAutoscaler"):
            spec = one["spec"]
            bounds = spec.get("minReplicaCount", spec.get("minReplicas", 1))
            most = spec.get("maxReplicaCount", spec.get("maxReplicas", 1))
            scaled[spec["scaleTargetRef"]["name"]] = (bounds, most)
        return [
            Pods(component=_component(template), count=least, most=most, spec=template["spec"])
            for one in self.objects
            for template, least, most in _templates(
                one, scaled.get(one["metadata"]["name"]) or (None, None)
            )
        ]

    @property
    def test_pods(self) -> list[Pods]:
        """Those that `helm test` makes."""
        return [
            Pods(component="helm test", count=1, most=1, spec=x["spec"])
            for x in self.of_kind("Pod")
            if _is_hook(x)
        ]

    @property
    def devices(self) -> set[str]:
        """Resources that only some nodes have: `nvidia.com/gpu`."""
        return {name for pods in self.pods for name in pods.requests if "/" in name}

    @property
    def images(self) -> dict[str, Pods]:
        """Images, each with pods that need it."""
        found: dict[str, Pods] = {}
        for pods in (*self.pods, *self.test_pods):
            for container in pods.spec["containers"]:
                found.setdefault(container["image"], pods)
        return found

    @property
    def secrets(self) -> dict[str, set[str]]:
        """Secrets by name, with the keys that are read; without any, all are."""
        found: dict[str, set[str]] = defaultdict(set)
        for pods in (*self.pods, *self.test_pods):
            for one in pods.spec.get("imagePullSecrets") or ():
                found[one["name"]].add(".dockerconfigjson")
            for volume in pods.spec.get("volumes") or ():
                if secret := volume.get("secret"):
                    keys = {item["key"] for item in secret.get("items") or ()}
                    found[secret["secretName"]] |= keys
        for trigger in self.of_kind("TriggerAuthentication"):
            for one in trigger["spec"]["secretTargetRef"]:
                found[one["name"]].add(one["key"])
        return dict(found)

    @property
    def new_claims(self) -> list[Object]:
        """Claims that the release makes."""
        return self.of_kind("PersistentVolumeClaim")

    @property
    def old_claims(self) -> set[str]:
        """Claims that must be there."""
        made = {x["metadata"]["name"] for x in self.new_claims}
        return {name for pods in self.pods for name in pods.claims} - made

    @property
    def queues(self) -> set[str]:
        """Kueue's LocalQueues."""
        labels = (x["metadata"].get("labels") or {} for x in self.objects)
        return {x[QUEUE] for x in labels if QUEUE in x}

    def named(self, key: str) -> set[str]:
        """What the pods name in a field of their spec: `runtimeClassName`, `priorityClassName`."""
        return {p.spec[key] for p in (*self.pods, *self.test_pods) if p.spec.get(key)}

    @property
    def edges(self) -> list[tuple[str, Object, Object]]:
        """(policy, peer, its ports) of every egress rule."""
        return [
            (policy["metadata"]["name"], peer, rule)
            for policy in self.of_kind("NetworkPolicy")
            for rule in policy["spec"].get("egress") or ()
            for peer in rule.get("to") or ()
        ]

    @property
    def redis_secret(self) -> Pods | None:
        """Pods that read the URL of a Redis outside from a Secret."""
        for pods in self.pods:
            env = pods.spec["containers"][0].get("env") or ()
            if any(x["name"] == "RLSD_REDIS_URL_FILE" for x in env):
                return pods
        return None


def total(spec: Object, kind: str) -> dict[str, Decimal]:
    """`requests` or `limits` of a pod: its containers together, or the largest before them."""
    amounts: dict[str, Decimal] = defaultdict(Decimal)
    for container in spec.get("containers") or ():
        for name, amount in _asked(container, kind):
            amounts[name] += amount
    for container in spec.get("initContainers") or ():
        for name, amount in _asked(container, kind):
            amounts[name] = max(amounts[name], amount)
    if kind == "requests":
        for name, given in (spec.get("overhead") or {}).items():
            amounts[name] += quantity(given)
    return dict(amounts)


def _asked(container: Object, kind: str) -> Iterator[tuple[str, Decimal]]:
    """A limit without a request is one."""
    resources = container.get("resources") or {}
    given = dict(resources.get(kind) or {})
    if kind == "requests":
        given = {**(resources.get("limits") or {}), **given}
    for name, amount in given.items():
        yield name, quantity(amount)


def _templates(
    one: Object, scaled: tuple[int | None, int | None]
) -> Iterator[tuple[Object, int, int]]:
    """(pod template, pods at the start, pods at most) of a workload."""
    spec = one.get("spec") or {}
    least = scaled[0] or spec.get("replicas", 1)
    most = max(scaled[1] or 0, least)
    match one["kind"]:
        case "Deployment" | "StatefulSet":
            yield spec["template"], least, most
        case "Job":
            yield spec["template"], spec["parallelism"], spec["parallelism"]
        case "JobSet":
            for job in spec["replicatedJobs"]:
                inner = job["template"]["spec"]
                count = job["replicas"] * inner["parallelism"]
                yield inner["template"], count, count
        case "LeaderWorkerSet":
            group = spec["leaderWorkerTemplate"]
            yield group["leaderTemplate"], least, most
            further = group["size"] - 1
            yield group["workerTemplate"], least * further, most * further
        case "RayService":
            cluster = spec["rayClusterConfig"]
            yield cluster["headGroupSpec"]["template"], 1, 1
            for workers in cluster["workerGroupSpecs"]:
                yield workers["template"], workers["replicas"], workers["maxReplicas"]


def _component(template: Object) -> str:
    labels = (template.get("metadata") or {}).get("labels") or {}
    return str(labels.get(COMPONENT, "pod"))


def _is_hook(one: Object) -> bool:
    return _HOOK in (one["metadata"].get("annotations") or {})
