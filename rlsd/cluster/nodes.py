"""Nodes with what is free on them, which pods they take, and how a release spreads. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from rlsd.cluster.quantities import quantity, words
from rlsd.cluster.wanted import total

_KEEPS_OUT = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Node:
    """A node, and what its pods leave."""

    name: str
    free: Mapping[str, Decimal]
    capacity: Mapping[str, Decimal]
    """Allocatable."""
    body: Mapping[str, Any] = field(repr=False)

    def takes(self, spec: Mapping[str, Any]) -> str:
        """Empty when a pod may be put here if there is room; else why not."""
        if not _is_ready(self.body):
            return "not ready"
        tolerations = spec.get("tolerations") or ()
        if self.body["spec"].get("unschedulable"):
            return "cordoned"
        for taint in self.body["spec"].get("taints") or ():
            if taint["effect"] in _KEEPS_OUT and not any(_tolerates(t, taint) for t in tolerations):
                value = f"={taint['value']}" if taint.get("value") else ""
                return f"tainted {taint['key']}{value}:{taint['effect']}"
        labels = self.body["metadata"].get("labels") or {}
        for key, value in (spec.get("nodeSelector") or {}).items():
            if labels.get(key) != value:
                return f"without label {key}={value}"
        affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
        required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
        terms = required.get("nodeSelectorTerms") or ()
        if terms and not any(_matches(term, labels, self.name) for term in terms):
            return "outside the required nodeAffinity"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What has to find one node: a pod, or pods that cannot be parted."""

    name: str
    specs: Sequence[Mapping[str, Any]]
    requests: Mapping[str, Decimal]
    pods: int = 1


def nodes_of(nodes: Iterable[Mapping[str, Any]], pods: Iterable[Mapping[str, Any]]) -> list[Node]:
    """Nodes, less what the pods on them have asked for."""
    used: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for pod in pods:
        on = used[pod["spec"].get("nodeName", "")]
        on["pods"] += 1
        for name, amount in total(pod["spec"], "requests").items():
            on[name] += amount
    found = []
    for node in nodes:
        name = node["metadata"]["name"]
        has = {r: quantity(x) for r, x in (node["status"].get("allocatable") or {}).items()}
        free = {r: max(x - used[name][r], Decimal(0)) for r, x in has.items()}
        found.append(Node(name, free, has, node))
    return found


def place(items: Iterable[Item], nodes: Sequence[Node]) -> list[tuple[Item, str]]:
    """Put the largest first where it leaves least; what finds no place, with the reason."""
    left = {node.name: dict(node.free) for node in nodes}
    homeless = []
    for item in sorted(items, key=_size, reverse=True):
        needs = {**item.requests, "pods": Decimal(item.pods)}
        willing = [n for n in nodes if not any(n.takes(spec) for spec in item.specs)]
        fitting = [n for n in willing if not _short_of(needs, left[n.name])]
        if not fitting:
            homeless.append((item, _why_homeless(item, needs, willing, nodes, left)))
            continue
        chosen = min(fitting, key=lambda n: _left_over(needs, left[n.name]))
        for resource, amount in needs.items():
            left[chosen.name][resource] -= amount
    return homeless


def _why_homeless(
    item: Item,
    needs: Mapping[str, Decimal],
    willing: Sequence[Node],
    nodes: Sequence[Node],
    left: Mapping[str, Mapping[str, Decimal]],
) -> str:
    kept_out = _kept_out(item, nodes, needs=needs)
    if not willing:
        all_out = kept_out or _kept_out(item, nodes, needs={})
        return f"no node takes it: {all_out}" if all_out else "there is no node"
    for resource, amount in sorted(needs.items(), key=lambda x: "/" not in x[0]):
        best = max(willing, key=lambda n: n.free.get(resource, Decimal(0)))
        has = best.free.get(resource, Decimal(0))
        if has < amount:
            text = (
                f"needs a node with {words(resource, amount)} free, the largest has "
                f"{words(resource, has)} ({best.name})"
            )
            return f"{text}; kept out: {kept_out}" if kept_out else text
    alone = [n for n in willing if not _short_of(needs, n.free)]
    if not alone:
        return "no node has CPU, memory and devices for it free at once"
    largest = max(alone, key=lambda n: _left_over({}, left[n.name]))
    lacking = _short_of(needs, left[largest.name])
    remains = words(lacking, left[largest.name].get(lacking, Decimal(0)))
    text = f"no room beside the others: {remains} left on {largest.name}"
    return f"{text}; kept out: {kept_out}" if kept_out else text


def _kept_out(item: Item, nodes: Sequence[Node], *, needs: Mapping[str, Decimal]) -> str:
    """Nodes with room for `needs` that do not take it, by the reason."""
    reasons: dict[str, list[str]] = defaultdict(list)
    for node in nodes:
        why = next((why for spec in item.specs if (why := node.takes(spec))), "")
        if why and not _short_of(needs, node.free):
            reasons[why].append(node.name)
    return "; ".join(f"{_some(names)} {why}" for why, names in reasons.items())


def _some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} nodes ({names[0]}, …)"


def _short_of(needs: Mapping[str, Decimal], has: Mapping[str, Decimal]) -> str:
    """The first resource that does not do; a node that says nothing of one has none."""
    for resource, amount in needs.items():
        if amount > has.get(resource, Decimal(0)):
            return resource
    return ""


def _size(item: Item) -> tuple[Decimal, Decimal, Decimal]:
    devices = sum((x for r, x in item.requests.items() if "/" in r), Decimal(0))
    zero = Decimal(0)
    return devices, item.requests.get("cpu", zero), item.requests.get("memory", zero)


def _left_over(
    needs: Mapping[str, Decimal], has: Mapping[str, Decimal]
) -> tuple[Decimal, Decimal, Decimal]:
    left = {r: x - needs.get(r, Decimal(0)) for r, x in has.items()}
    return _size(Item(name="", specs=(), requests=left))


def _is_ready(node: Mapping[str, Any]) -> bool:
    conditions = node["status"].get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _tolerates(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    if toleration.get("effect") not in (None, "", taint["effect"]):
        return False
    is_any: bool = toleration.get("operator", "Equal") == "Exists"
    if not toleration.get("key"):
        return is_any
    if toleration["key"] != taint["key"]:
        return False
    return bool(is_any or (toleration.get("value") or "") == (taint.get("value") or ""))


def _matches(term: Mapping[str, Any], labels: Mapping[str, str], name: str) -> bool:
    by_label = all(_holds(x, labels) for x in term.get("matchExpressions") or ())
    fields = {"metadata.name": name}
    by_field = all(_holds(x, fields) for x in term.get("matchFields") or ())
    is_empty = not (term.get("matchExpressions") or term.get("matchFields"))
    return by_label and by_field and not is_empty


def _holds(expression: Mapping[str, Any], values: Mapping[str, str]) -> bool:
    value, wanted = values.get(expression["key"]), list(expression.get("values") or ())
    match expression["operator"]:
        case "In":
            return value in wanted
        case "NotIn":
            return value not in wanted
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(wanted[0])
        case "Lt":
            return value is not None and int(value) < int(wanted[0])
    return False
