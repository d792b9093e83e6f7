"""Who we are, what the server is and serves, and what we may do there. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rlsd.cluster.facts import VERSION, WHO, Facts
from rlsd.cluster.wanted import Wanted
from rlsd.finding import Finding

GROUP = "access"
OLDEST = (1, 28)
_CONTROLLERS = {
    "JobSet": ("JobSet", "learner.nodes: 1"),
    "LeaderWorkerSet": ("LeaderWorkerSet", "rollout.nodesPerReplica: 1"),
    "ScaledObject": ("KEDA", "autoscaling.*.mode: none"),
    "TriggerAuthentication": ("KEDA", "autoscaling.*.mode: none"),
    "PodMonitor": ("Prometheus operator", "monitoring.podMonitor.enabled: false"),
    "RayService": ("KubeRay", "runtime: processes"),
}
"""Who serves a kind, and the values that do without."""
_OF_AN_OLD_SERVER = {
    "PodDisruptionBudget": "podDisruptionBudgets.enabled: false",
    "HorizontalPodAutoscaler": "autoscaling.verifier.mode: none",
}


def server(facts: Facts) -> Finding:
    """Whether it answers, and its age."""
    said = facts.at(VERSION)
    if not said.is_given:
        return Finding(
            group=GROUP,
            what="server",
            state=f"not reachable: {said.reason}",
            remedy="look at --context, the VPN, and whether the credentials have expired "
            "(`kubectl version`)",
        )
    if version_of(facts) >= OLDEST:
        return Finding(group=GROUP, what="server", state=said.body["gitVersion"])
    return Finding(
        group=GROUP,
        what="server",
        state=f"{said.body['gitVersion']}, too old",
        remedy="the chart is meant for 1.28 and later; before that it needs values off "
        "(docs/kubernetes.md, Limits)",
    )


def version_of(facts: Facts) -> tuple[int, int]:
    """(1, 29) of `v1.29.3-gke.1`."""
    found = re.match(r"v?(\d+)\.(\d+)", facts.at(VERSION).body["gitVersion"])
    return (int(found[1]), int(found[2])) if found else (0, 0)


def access(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """The user, his rights, and the kinds that the server has."""
    yield _who(facts)
    yield _rights(facts)
    yield from _kinds(facts, wanted)


def _who(facts: Facts) -> Finding:
    said = facts.at(WHO)
    if said.is_given:
        user = said.body["status"]["userInfo"]["username"]
        return Finding(group=GROUP, what="user", state=user)
    return Finding(
        group=GROUP,
        what="user",
        state="not known",
        remedy=f"servers before 1.28 do not say ({said.reason})",
        is_needed=False,
    )


def _rights(facts: Facts) -> Finding:
    refused: dict[str, list[str]] = {}
    unknown = []
    for asked, said in facts.may.items():
        verb, _, resource = asked.partition(" ")
        if not said.is_given:
            unknown.append(f"{asked} ({said.reason})")
        elif not said.body:
            refused.setdefault(resource, []).append(verb)
    if refused:
        what = "; ".join(f"{', '.join(verbs)} {name}" for name, verbs in refused.items())
        remedy = (
            f"have a role with these bound to you in {facts.namespace}; the cluster's `admin` has "
            "all but custom resources"
        )
        return Finding(group=GROUP, what="rights", state=f"may not {what}", remedy=remedy)
    if unknown:
        remedy = f"the server does not answer: {unknown[0]}"
        return Finding(
            group=GROUP, what="rights", state="not known", remedy=remedy, is_needed=False
        )
    kinds = len({asked.partition(" ")[2] for asked in facts.may})
    state = f"may create and change all {kinds} kinds of objects in {facts.namespace}"
    return Finding(group=GROUP, what="rights", state=state)


def _kinds(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    said: dict[str, Finding] = {}
    for version, kind in wanted.kinds:
        controller, without = _CONTROLLERS.get(kind, (kind, _OF_AN_OLD_SERVER.get(kind, "")))
        if facts.resource(version, kind):
            if kind in _CONTROLLERS:
                found = Finding(group=GROUP, what=controller, state=f"serves {version}")
                said.setdefault(controller, found)
            continue
        remedy = "install it" if kind in _CONTROLLERS else "a newer server has it"
        if without:
            remedy += f", or set {without}"
        state = f"{version} is not served here"
        said[controller] = Finding(group=GROUP, what=controller, state=state, remedy=remedy)
    yield from said.values()
    if wanted.of_kind("HorizontalPodAutoscaler") and "metrics.k8s.io" not in facts.groups:
        yield Finding(
            group=GROUP,
            what="CPU metrics",
            state="metrics.k8s.io is not served here",
            remedy="install metrics-server, which autoscaling.verifier.mode: hpa reads",
        )
