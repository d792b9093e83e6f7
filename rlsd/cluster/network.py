"""Who enforces NetworkPolicies, and whether their peers are there. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rlsd.cluster.facts import DAEMONS, NODES, PODS, Facts, namespaced
from rlsd.cluster.wanted import Wanted
from rlsd.finding import Finding

GROUP = "network"
PROOF = "`helm test`'s isolation pod is the proof"
_ENFORCE = {
    "calico-node": "Calico",
    "canal": "Canal (Calico's policies)",
    "cilium": "Cilium",
    "anetd": "GKE Dataplane V2 (Cilium)",
    "antrea-agent": "Antrea",
    "kube-router": "kube-router",
    "weave-net": "Weave Net",
    "ovnkube-node": "OVN-Kubernetes",
    "kube-ovn-cni": "Kube-OVN",
    "azure-npm": "Azure's network policy manager",
    "kube-network-policies": "kube-network-policies",
}
"""DaemonSets that enforce policies, whichever CNI moves the packets."""
_GROUPS = {
    "crd.projectcalico.org": "Calico",
    "cilium.io": "Cilium",
    "crd.antrea.io": "Antrea",
    "k8s.ovn.org": "OVN-Kubernetes",
    "kubeovn.io": "Kube-OVN",
}
"""The same by their definitions, for those who may not list DaemonSets."""
_KINDNET_SINCE = 20240813
"""The first build of kind's CNI with policies (kind 0.24)."""


def network(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Enforcement, names, and peers."""
    if not wanted.of_kind("NetworkPolicy"):
        yield Finding(
            group=GROUP,
            what="policies",
            state="off: every pod of the cluster may call the services",
            remedy="networkPolicy.enabled: true",
            is_needed=False,
        )
        return
    yield _enforcement(facts)
    yield from _node_local_dns(facts, wanted)
    yield from _peers(facts, wanted)


def _enforcement(facts: Facts) -> Finding:
    daemons = {x["metadata"]["name"]: x for x in facts.at(DAEMONS).items}
    found = [words for name, words in _ENFORCE.items() if name in daemons]
    found += _amazon(daemons) + _k3s(facts) + _kindnet(daemons)
    if found:
        return Finding(
            group=GROUP, what="policies", state=f"{', '.join(found)} enforces them; {PROOF}"
        )
    if lax := _lax(daemons):
        return Finding(
            group=GROUP,
            what="policies",
            state=f"{lax} enforces none, so every edge would be open in silence",
            remedy="install Calico, Cilium or kube-network-policies beside it; or accept that with "
            "networkPolicy.enabled: false",
        )
    by_group = [words for group, words in _GROUPS.items() if group in facts.groups]
    if by_group:
        state = f"{', '.join(by_group)} by its definitions, no agent seen"
        return Finding(group=GROUP, what="policies", state=state, remedy=PROOF, is_needed=False)
    said = facts.at(DAEMONS)
    why = "no CNI of those known here" if said.is_given else f"may not list ({said.reason})"
    return Finding(
        group=GROUP,
        what="policies",
        state=f"not known who enforces them: {why}",
        remedy=f"after the installation {PROOF}",
        is_needed=False,
    )


def _amazon(daemons: Mapping[str, Any]) -> list[str]:
    """Amazon's CNI, whose agent has a switch."""
    if "aws-node" not in daemons or not _has_agent(daemons["aws-node"]):
        return []
    return ["Amazon VPC CNI with its network policy agent"]


def _has_agent(daemon: Mapping[str, Any]) -> bool:
    for container in _containers(daemon):
        given = (*(container.get("command") or ()), *(container.get("args") or ()))
        if "--enable-network-policy=true" in given:
            return True
    return False


def _k3s(facts: Facts) -> list[str]:
    versions = (
        (n["status"].get("nodeInfo") or {}).get("kubeletVersion", "") for n in facts.at(NODES).items
    )
    if any("+k3s" in v for v in versions):
        return ["K3s itself (unless it runs with --disable-network-policy)"]
    return []


def _kindnet(daemons: Mapping[str, Any]) -> list[str]:
    if "kindnet" not in daemons:
        return []
    return [] if _is_old_kindnet(daemons["kindnet"]) else ["kindnet"]


def _is_old_kindnet(daemon: Mapping[str, Any]) -> bool:
    dates = (re.search(r":v(\d{8})-", c["image"]) for c in _containers(daemon))
    return any(date is None or int(date[1]) < _KINDNET_SINCE for date in dates)


def _lax(daemons: Mapping[str, Any]) -> str:
    """A CNI that lets everything through."""
    if "kindnet" in daemons:
        return "kindnet in this version"
    if "aws-node" in daemons:
        return "Amazon VPC CNI without enable-network-policy"
    flannel = next((name for name in daemons if "flannel" in name), "")
    return f"flannel ({flannel})" if flannel else ""


def _containers(daemon: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return list(daemon["spec"]["template"]["spec"]["containers"])


def _node_local_dns(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    names = {x["metadata"]["name"] for x in facts.at(DAEMONS).items}
    has_block = any(
        "ipBlock" in peer and any(p["port"] == 53 for p in rule.get("ports") or ())
        for _, peer, rule in wanted.edges
    )
    if "node-local-dns" in names and not has_block:
        yield Finding(
            group=GROUP,
            what="names",
            state="a cache on every node (node-local-dns) answers, and no policy lets it",
            remedy="networkPolicy.dns.cidrs: [169.254.20.10/32], or its address here",
        )


def _peers(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Pods of other namespaces that the policies open an edge to."""
    if not facts.at(PODS).is_given:
        return
    seen = set()
    for _, peer, rule in wanted.edges:
        if not (selector := peer.get("namespaceSelector")):
            continue
        [namespace] = selector["matchLabels"].values()
        labels = (peer.get("podSelector") or {}).get("matchLabels") or {}
        ports = ", ".join(sorted({str(p["port"]) for p in rule.get("ports") or ()}))
        said = ", ".join(f"{k}={v}" for k, v in labels.items()) or "any pod"
        if (namespace, said) in seen:
            continue
        seen.add((namespace, said))
        yield _peer(facts, namespace, labels, said, ports)


def _peer(
    facts: Facts, namespace: str, labels: Mapping[str, str], said: str, ports: str
) -> Finding:
    is_dns = ports.startswith("53")
    what = "names" if is_dns else f"peer in {namespace}"
    key = "networkPolicy.dns" if is_dns else "redis.peers or egress"
    if facts.at(namespaced(namespace)).reason == "NotFound":
        state, remedy = f"there is no namespace {namespace}", f"change {key}"
        return Finding(group=GROUP, what=what, state=state, remedy=remedy)
    found = [
        pod["metadata"]["name"]
        for pod in facts.at(PODS).items
        if pod["metadata"]["namespace"] == namespace
        and labels.items() <= (pod["metadata"].get("labels") or {}).items()
    ]
    if found:
        pods = f"{len(found)} pods" if len(found) > 1 else found[0]
        return Finding(
            group=GROUP, what=what, state=f"{pods} in {namespace} ({said}), port {ports}"
        )
    return Finding(
        group=GROUP,
        what=what,
        state=f"no pod in {namespace} has {said}",
        remedy=f"nothing would answer through the policies; change {key}",
    )
