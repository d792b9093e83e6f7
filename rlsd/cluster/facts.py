"""All that is asked of a cluster: every question once, side by side, nothing changed by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from rlsd.cluster.asking import Answer, Kubectl
from rlsd.cluster.wanted import Wanted

_AT_ONCE = 6
_LIVING = "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed"
NODES = "/api/v1/nodes"
PODS = f"/api/v1/pods?{_LIVING}"
VERSION = "/version"
GROUPS = "/apis"
CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
VOLUMES = "/api/v1/persistentvolumes"
DAEMONS = "/apis/apps/v1/daemonsets"
RUNTIMES = "/apis/node.k8s.io/v1/runtimeclasses"
PRIORITIES = "/apis/scheduling.k8s.io/v1/priorityclasses"
WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
AUTOSCALER = "/api/v1/namespaces/kube-system/configmaps/cluster-autoscaler-status"
_EVERYWHERE = (
    NODES, PODS, GROUPS, CLASSES, VOLUMES, DAEMONS, RUNTIMES, PRIORITIES, AUTOSCALER
)  # fmt: skip
_NEVER = Answer(reason="not asked")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Answers, by the path that they were asked at."""

    namespace: str
    answers: Mapping[str, Answer]
    may: Mapping[str, Answer] = field(default_factory=dict)
    """`create apps/deployments` → whether we may."""
    secrets: Mapping[str, Answer] = field(default_factory=dict)
    """Name → keys."""

    def at(self, path: str) -> Answer:
        """What was answered there."""
        return self.answers.get(path, _NEVER)

    def here(self, resource: str, group: str = "api/v1") -> Answer:
        """A list in our namespace."""
        return self.at(_here(self.namespace, resource, group))

    @property
    def groups(self) -> set[str]:
        """Groups of APIs that are served."""
        return {x["name"] for x in (self.at(GROUPS).body or {}).get("groups") or ()}

    def resource(self, version: str, kind: str) -> Mapping[str, Any] | None:
        """What discovery says of a kind; None where it is not served."""
        served = (self.at(_discovery(version)).body or {}).get("resources") or ()
        return next((r for r in served if r["kind"] == kind and "/" not in r["name"]), None)


def namespaced(namespace: str) -> str:
    """Path of a namespace."""
    return f"/api/v1/namespaces/{namespace}"


def gather(kubectl: Kubectl, namespace: str, wanted: Wanted) -> Facts:
    """Ask everything; a server that is not reachable is asked nothing further."""
    version = kubectl.get(VERSION)
    answers = {VERSION: version}
    if not version.is_given:
        return Facts(namespace=namespace, answers=answers)
    paths = [*_EVERYWHERE, namespaced(namespace)]
    paths += [
        _here(namespace, x, "api/v1")
        for x in ("persistentvolumeclaims", "resourcequotas", "limitranges")
    ]
    paths += sorted({_discovery(version) for version, _ in (*wanted.kinds, ("v1", ""))})
    edges = (peer.get("namespaceSelector") for _, peer, _ in wanted.edges)
    names = {name for x in edges if x for name in x["matchLabels"].values()}
    paths += sorted(namespaced(name) for name in names)
    with ThreadPoolExecutor(_AT_ONCE) as pool:

        def ask(of: Callable[[str], Answer], keys: list[str]) -> dict[str, Answer]:
            return dict(zip(keys, pool.map(of, keys), strict=True))

        answers |= ask(kubectl.get, paths)
        facts = Facts(namespace=namespace, answers=answers)
        answers |= ask(kubectl.get, _queues(facts) if wanted.queues else [])
        review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        answers |= ask(lambda path: kubectl.create(path, review), [WHO])
        verbs = _verbs(facts, wanted)
        may = ask(lambda key: _may(kubectl, namespace, key), verbs)
        secrets = ask(lambda name: kubectl.keys(namespace, name), sorted(wanted.secrets))
    return Facts(namespace=namespace, answers=answers, may=may, secrets=secrets)


def _here(namespace: str, resource: str, group: str) -> str:
    return f"/{group}/namespaces/{namespace}/{resource}"


def _discovery(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def _queues(facts: Facts) -> list[str]:
    """Where Kueue's queues are, in whichever version it serves."""
    groups = (facts.at(GROUPS).body or {}).get("groups") or ()
    return [
        _here(facts.namespace, "localqueues", f"apis/{x['preferredVersion']['groupVersion']}")
        for x in groups
        if x["name"] == "kueue.x-k8s.io"
    ]


def _verbs(facts: Facts, wanted: Wanted) -> list[str]:
    """What an installation does: makes each kind, and keeps Helm's own record in Secrets."""
    found = [f"{verb} secrets" for verb in ("get", "list", "create", "update", "delete")]
    for version, kind in wanted.kinds:
        if resource := facts.resource(version, kind):
            group = version.rpartition("/")[0]
            found += [
                f"{verb} {group}{'/' if group else ''}{resource['name']}"
                for verb in ("create", "patch")
            ]
    return found


def _may(kubectl: Kubectl, namespace: str, asked: str) -> Answer:
    verb, _, name = asked.partition(" ")
    group, _, resource = name.rpartition("/")
    attributes = {"namespace": namespace, "verb": verb, "group": group, "resource": resource}
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    }
    said = kubectl.create("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)
    return said if said.reason else Answer(bool(said.body["status"].get("allowed")))
