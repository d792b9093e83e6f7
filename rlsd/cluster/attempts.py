"""What only a pod can tell: whether images can be pulled and start, and whether Redis answers.

One short pod for each image, with the security, tolerations and place of the pods that will need it
but without their devices; deleted whatever comes of it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rlsd.cluster.asking import Kubectl
from rlsd.cluster.facts import Facts
from rlsd.cluster.images import short
from rlsd.cluster.wanted import Pods, Wanted
from rlsd.finding import Finding

LABEL = "rlsd/doctor"
_POLL_S = 2.0
_HOPELESS = {
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImagePullBackOff",
    "CreateContainerConfigError",
}
_SMALL = {
    "requests": {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "64Mi"},
    "limits": {"cpu": "1", "memory": "512Mi", "ephemeral-storage": "256Mi"},
}
_OF_THE_POD = (
    "securityContext", "imagePullSecrets", "nodeSelector", "tolerations", "affinity",
    "runtimeClassName", "schedulerName",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One pod, and what it shows."""

    image: str
    pod: Mapping[str, Any]
    asks_redis: bool

    @property
    def name(self) -> str:
        """Of the pod."""
        return str(self.pod["metadata"]["name"])


def attempts(facts: Facts, wanted: Wanted, label: str, limit_s: int) -> list[Attempt]:
    """A pod for each image; the first that reads Redis' URL asks it, too. Pure."""
    reader = wanted.redis_secret
    found = []
    for number, (image, pods) in enumerate(sorted(wanted.images.items())):
        container = next(c for c in pods.spec["containers"] if c["image"] == image)
        asks = reader is not None and reader.spec["containers"][0]["image"] == image
        volume = _url(pods) if asks else None
        asks = volume is not None and facts.secrets[volume["secret"]["secretName"]].is_given
        one: dict[str, Any] = {
            "name": "doctor",
            "image": image,
            "imagePullPolicy": container.get("imagePullPolicy", "IfNotPresent"),
            "command": _command(container),
            "resources": _SMALL,
            "securityContext": container["securityContext"],
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }
        spec = {key: pods.spec[key] for key in _OF_THE_POD if key in pods.spec}
        spec |= {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "activeDeadlineSeconds": limit_s,
            "terminationGracePeriodSeconds": 1,
            "containers": [one],
        }
        if asks:
            one["command"] = ["python", "-m", "rlsd.serving.reach", "queues"]
            one["env"] = [{"name": "RLSD_REDIS_URL_FILE", "value": "/run/secrets/redis/url"}]
            one["volumeMounts"] = [
                {"name": "redis", "mountPath": "/run/secrets/redis", "readOnly": True}
            ]
            spec["volumes"] = [volume]
        metadata = {"name": f"rlsd-doctor-{label}-{number}", "labels": {LABEL: label}}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        found.append(Attempt(image=image, pod=pod, asks_redis=asks))
    return found


def _url(pods: Pods) -> Mapping[str, Any] | None:
    return next((v for v in pods.spec["volumes"] if v["name"] == "redis"), None)


def _command(container: Mapping[str, Any]) -> list[str]:
    """Something that every such image has, and that ends at once."""
    match container["name"]:
        case "redis":
            return ["redis-server", "--version"]
        case "engine":
            return ["python3", "-c", "pass"]
    return ["python", "-c", "pass"]


def verdict(attempt: Attempt, pod: Mapping[str, Any]) -> list[Finding]:
    """What a pod has shown by now; nothing while it may still end well. Pure."""
    status = pod.get("status") or {}
    phase = status.get("phase")
    node = pod["spec"].get("nodeName", "")
    if phase == "Succeeded":
        found = [
            Finding(
                group="images", what=short(attempt.image), state=f"pulled and started on {node}"
            )
        ]
        if attempt.asks_redis:
            found.append(Finding(group="network", what="Redis", state="answers a pod here"))
        return found
    if phase == "Failed":
        return _failed(attempt, status, node)
    for one in status.get("containerStatuses") or ():
        waiting = (one.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in _HOPELESS:
            return [
                _not_started(attempt, f"{waiting['reason']} on {node}", waiting.get("message", ""))
            ]
    return []


def _failed(attempt: Attempt, status: Mapping[str, Any], node: str) -> list[Finding]:
    ends = [
        (one.get("state") or {}).get("terminated") for one in status.get("containerStatuses") or ()
    ]
    end = next((x for x in ends if x), None)
    if end is None:
        return [
            _not_started(
                attempt, f"{status.get('reason', 'failed')} on {node}", status.get("message", "")
            )
        ]
    said = (end.get("message") or end.get("reason") or "").strip().rpartition("\n")[2]
    if attempt.asks_redis and end["exitCode"] == 1:
        pulled = Finding(
            group="images", what=short(attempt.image), state=f"pulled and started on {node}"
        )
        remedy = "look at the Secret's URL, and whether Redis lets this namespace in"
        return [
            pulled,
            Finding(group="network", what="Redis", state=f"does not answer: {said}", remedy=remedy),
        ]
    return [_not_started(attempt, f"ended with {end['exitCode']} on {node}", said)]


def _not_started(attempt: Attempt, state: str, message: str) -> Finding:
    words = " ".join(message.split())
    remedy = words or "`kubectl describe pod` of one like it says why"
    lowered = words.lower()
    if any(x in lowered for x in ("unauthorized", "denied", "authentication required", "403")):
        remedy += "; give images.pullSecrets"
    elif any(x in lowered for x in ("not found", "manifest unknown")):
        remedy += "; look at images.registry, repository and tag"
    elif any(x in lowered for x in ("no such host", "i/o timeout", "connection refused")):
        remedy += "; the node does not reach the registry"
    return Finding(group="images", what=short(attempt.image), state=state, remedy=remedy)


def overdue(attempt: Attempt, pod: Mapping[str, Any] | None, limit_s: float) -> Finding:
    """What to say of a pod that has shown nothing within the time. Pure."""
    status = (pod or {}).get("status") or {}
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return _not_started(attempt, "found no node", condition.get("message", ""))
    reasons = [
        (one.get("state") or {}).get("waiting") or {}
        for one in status.get("containerStatuses") or ()
    ]
    said = next((x for x in reasons if x.get("reason") not in (None, "ContainerCreating")), {})
    state = f"not ended after {limit_s:.0f} s: {said.get('reason') or status.get('phase', 'gone')}"
    return _not_started(attempt, state, said.get("message", ""))


def attempt_all(
    kubectl: Kubectl, facts: Facts, wanted: Wanted, *, limit_s: float
) -> Iterator[Finding]:
    """Make the pods, wait for them, delete them."""
    label = secrets.token_hex(3)
    path = f"/api/v1/namespaces/{facts.namespace}/pods"
    open_: dict[str, Attempt] = {}
    made = []
    try:
        for one in attempts(facts, wanted, label, int(limit_s)):
            said = kubectl.create(path, one.pod)
            if said.is_given:
                made.append(one.name)
                open_[one.name] = one
            else:
                state = f"no pod could be made: {said.reason}"
                remedy = said.said or "`kubectl create` of a pod by hand says why"
                yield Finding(group="images", what=short(one.image), state=state, remedy=remedy)
        yield from _watch(kubectl, f"{path}?labelSelector={LABEL}%3D{label}", open_, limit_s)
    finally:
        left = [name for name in made if not _delete(kubectl, f"{path}/{name}")]
    if left:
        remedy = f"kubectl -n {facts.namespace} delete pod {' '.join(left)}"
        yield Finding(group="images", what="pods of --try", state="not deleted", remedy=remedy)


def _watch(
    kubectl: Kubectl, path: str, open_: dict[str, Attempt], limit_s: float
) -> Iterator[Finding]:
    deadline = time.monotonic() + limit_s
    seen: dict[str, Mapping[str, Any]] = {}
    while open_ and time.monotonic() < deadline:
        seen |= {pod["metadata"]["name"]: pod for pod in kubectl.get(path).items}
        for name in [name for name in open_ if name in seen]:
            if found := verdict(open_[name], seen[name]):
                yield from found
                del open_[name]
        if open_:
            time.sleep(_POLL_S)
    for name, one in open_.items():
        yield overdue(one, seen.get(name), limit_s)


def _delete(kubectl: Kubectl, path: str) -> bool:
    return kubectl.delete(path).reason in ("", "NotFound")
