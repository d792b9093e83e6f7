"""What would refuse our objects in their namespace. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from rlsd.cluster.facts import PRIORITIES, RUNTIMES, Facts, namespaced
from rlsd.cluster.quantities import quantity, words
from rlsd.cluster.wanted import Wanted, total
from rlsd.finding import Finding

GROUP = "namespace"
_LEVEL = "pod-security.kubernetes.io/enforce"


def admission(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """The namespace, its level, its bounds, and what pods name."""
    yield from _namespace(facts)
    yield from _openshift(facts)
    yield from _quotas(facts, wanted)
    yield from _ranges(facts, wanted)
    yield from _named(facts, wanted, "runtimeClassName", RUNTIMES, "RuntimeClass")
    yield from _named(facts, wanted, "priorityClassName", PRIORITIES, "PriorityClass")
    yield from _queues(facts, wanted)
    yield from _secrets(facts, wanted)


def _namespace(facts: Facts) -> Iterator[Finding]:
    said = facts.at(namespaced(facts.namespace))
    if said.reason == "NotFound":
        yield Finding(
            group=GROUP,
            what="namespace",
            state=f"there is no {facts.namespace}",
            remedy=f"kubectl create namespace {facts.namespace}",
        )
        return
    if not said.is_given:
        yield Finding(
            group=GROUP,
            what="namespace",
            state=f"{facts.namespace}: not known ({said.reason})",
            remedy="its labels cannot be read",
            is_needed=False,
        )
        return
    level = (said.body["metadata"].get("labels") or {}).get(_LEVEL)
    if level:
        state = f"pod security {level}, which our pods keep to"
        yield Finding(group=GROUP, what=facts.namespace, state=state)
        return
    yield Finding(
        group=GROUP,
        what=facts.namespace,
        state="no pod security level is enforced; our pods keep to `restricted`",
        remedy=f"kubectl label namespace {facts.namespace} {_LEVEL}=restricted",
        is_needed=False,
    )


def _openshift(facts: Facts) -> Iterator[Finding]:
    if "security.openshift.io" in facts.groups:
        yield Finding(
            group=GROUP,
            what="OpenShift",
            state="its default constraint gives every namespace user ids of its own, ours is 10001",
            remedy="let the release's service accounts use the `nonroot-v2` constraint",
            is_needed=False,
        )


def _quotas(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    asked = _all_asked(wanted)
    for quota in facts.here("resourcequotas").items:
        name, status = quota["metadata"]["name"], quota.get("status") or {}
        used = status.get("used") or {}
        if quota["spec"].get("scopes") or quota["spec"].get("scopeSelector"):
            yield Finding(
                group=GROUP,
                what=f"quota {name}",
                state="counts only some pods: not looked at",
                remedy=f"kubectl -n {facts.namespace} describe quota {name}",
                is_needed=False,
            )
            continue
        short = []
        for key, hard in (status.get("hard") or {}).items():
            left = quantity(hard) - quantity(used.get(key, "0"))
            if asked.get(key, Decimal(0)) > left:
                short.append(f"{key}: {words(key, asked[key])} asked, {words(key, left)} left")
        if short:
            state = "; ".join(short)
            remedy = f"have it raised in {facts.namespace}, or ask for less"
            yield Finding(group=GROUP, what=f"quota {name}", state=state, remedy=remedy)
        else:
            yield Finding(group=GROUP, what=f"quota {name}", state="has room for the release")


def _all_asked(wanted: Wanted) -> dict[str, Decimal]:
    """By the keys of a ResourceQuota."""
    asked: dict[str, Decimal] = defaultdict(Decimal)
    for pods in wanted.pods:
        asked["pods"] += pods.count
        for kind, amounts in (("requests", pods.requests), ("limits", pods.limits)):
            for resource, amount in amounts.items():
                asked[f"{kind}.{resource}"] += amount * pods.count
                if kind == "requests" and "/" not in resource:
                    asked[resource] += amount * pods.count
    for claim in wanted.new_claims:
        asked["persistentvolumeclaims"] += 1
        asked["requests.storage"] += quantity(claim["spec"]["resources"]["requests"]["storage"])
    counted = {"ConfigMap": "configmaps", "Service": "services", "Deployment": "deployments.apps"}
    counted |= {"Job": "jobs.batch", "StatefulSet": "statefulsets.apps"}
    for kind, resource in counted.items():
        asked[f"count/{resource}"] += len(wanted.of_kind(kind))
        if "." not in resource:
            asked[resource] += len(wanted.of_kind(kind))
    asked["secrets"] += 1  # Helm's record of the release
    asked["count/secrets"] += 1
    return asked


def _ranges(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    for one in facts.here("limitranges").items:
        name = one["metadata"]["name"]
        broken = sorted({x for limit in one["spec"]["limits"] for x in _breaks(limit, wanted)})
        if broken:
            remedy = f"change resources there, or have the range widened in {facts.namespace}"
            yield Finding(group=GROUP, what=f"range {name}", state="; ".join(broken), remedy=remedy)
        else:
            yield Finding(group=GROUP, what=f"range {name}", state="our pods lie within it")


def _breaks(limit: Mapping[str, Any], wanted: Wanted) -> Iterator[str]:
    """What a LimitRange would refuse."""
    most, least = limit.get("max") or {}, limit.get("min") or {}
    if limit["type"] == "PersistentVolumeClaim":
        for claim in wanted.new_claims:
            size = quantity(claim["spec"]["resources"]["requests"]["storage"])
            yield from _outside("the new claim", {"storage": size}, {"storage": size}, most, least)
        return
    for pods in wanted.pods:
        spec = pods.spec
        parts = (
            [spec] if limit["type"] == "Pod" else [{"containers": [c]} for c in spec["containers"]]
        )
        for part in parts:
            asked, allowed = total(part, "requests"), total(part, "limits")
            yield from _outside(pods.component, asked, allowed, most, least)
            for resource, ratio in (limit.get("maxLimitRequestRatio") or {}).items():
                if asked.get(resource) and allowed.get(resource, Decimal(0)) / asked[
                    resource
                ] > quantity(ratio):
                    yield f"{pods.component}: limit above {ratio} × request of {resource}"


def _outside(
    who: str,
    asked: Mapping[str, Decimal],
    allowed: Mapping[str, Decimal],
    most: Mapping[str, str],
    least: Mapping[str, str],
) -> Iterator[str]:
    for resource, given in most.items():
        bound = quantity(given)
        if allowed.get(resource, bound) > bound:
            limit = words(resource, allowed[resource])
            yield f"{who}: limit {limit}, at most {words(resource, bound)}"
    for resource, given in least.items():
        bound = quantity(given)
        if asked.get(resource, bound) < bound:
            asks = words(resource, asked[resource])
            yield f"{who}: asks {asks}, at least {words(resource, bound)}"


def _named(facts: Facts, wanted: Wanted, key: str, path: str, kind: str) -> Iterator[Finding]:
    said = facts.at(path)
    there = {x["metadata"]["name"] for x in said.items}
    for name in sorted(wanted.named(key)):
        what = f"{kind} {name}"
        if name in there:
            yield Finding(group=GROUP, what=what, state="is there")
        elif not said.is_given:
            state, remedy = "not known", f"may not list them ({said.reason}); ask someone who may"
            yield Finding(group=GROUP, what=what, state=state, remedy=remedy, is_needed=False)
        else:
            remedy = f"make it, or change {key}; there: {', '.join(sorted(there)) or 'none'}"
            yield Finding(group=GROUP, what=what, state="is not there", remedy=remedy)


def _queues(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    if not wanted.queues:
        return
    paths = [p for p in facts.answers if p.endswith("/localqueues")]
    for name in sorted(wanted.queues):
        what = f"queue {name}"
        if not paths:
            yield Finding(
                group=GROUP,
                what=what,
                state="there is no Kueue (kueue.x-k8s.io is not served)",
                remedy="install Kueue, or leave kueue.queueName empty",
            )
            continue
        said = facts.at(paths[0])
        there = sorted(x["metadata"]["name"] for x in said.items)
        if name in there:
            yield Finding(group=GROUP, what=what, state="is there")
        elif not said.is_given:
            remedy = f"may not list LocalQueues ({said.reason})"
            yield Finding(group=GROUP, what=what, state="not known", remedy=remedy, is_needed=False)
        else:
            names = ", ".join(there) or "none"
            remedy = f"make the LocalQueue, or change kueue.queueName; there: {names}"
            yield Finding(group=GROUP, what=what, state=f"not in {facts.namespace}", remedy=remedy)


def _secrets(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """By name and key; what they hold is never read."""
    for name, keys in sorted(wanted.secrets.items()):
        said = facts.secrets.get(name)
        what = f"Secret {name}"
        if said is None or said.reason not in ("", "NotFound"):
            why = said.reason if said else "not asked"
            remedy = (
                f"may not read it ({why}); its keys should be {', '.join(sorted(keys)) or 'given'}"
            )
            yield Finding(group=GROUP, what=what, state="not known", remedy=remedy, is_needed=False)
            continue
        shown = ", ".join(sorted(keys))
        if said.reason == "NotFound":
            remedy = f"kubectl -n {facts.namespace} create secret" + (
                " docker-registry " + name + " …"
                if keys == {".dockerconfigjson"}
                else f" generic {name} "
                + " ".join(f"--from-file={k}=FILE" for k in sorted(keys) or ("KEY",))
            )
            yield Finding(group=GROUP, what=what, state=f"not in {facts.namespace}", remedy=remedy)
        elif missing := keys - set(said.body):
            has = ", ".join(said.body) or "none"
            remedy = f"add it, or change the key in the values; the Secret has: {has}"
            state = f"lacks key {', '.join(sorted(missing))}"
            yield Finding(group=GROUP, what=what, state=state, remedy=remedy)
        else:
            yield Finding(group=GROUP, what=what, state=f"has {shown or ', '.join(said.body)}")
