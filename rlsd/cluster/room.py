"""Whether the release's pods find nodes with room: devices, CPU, memory. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import Decimal

from rlsd.cluster.facts import AUTOSCALER, NODES, PODS, Facts
from rlsd.cluster.nodes import Item, Node, nodes_of, place
from rlsd.cluster.quantities import all_words
from rlsd.cluster.wanted import Pods, Wanted
from rlsd.finding import Finding

GROUP = "room"
TOGETHER = "pods on one node"
_UNSAID = ("ephemeral-storage",)


def room(facts: Facts, wanted: Wanted, *, together: set[str]) -> Iterator[Finding]:
    """Devices, then each kind of pod; what mounts a claim of `together` has to share a node."""
    for path, what in ((NODES, "nodes"), (PODS, "pods of all namespaces")):
        if not facts.at(path).is_given:
            yield Finding(
                group=GROUP,
                what="nodes",
                state=f"not known: may not list {what} ({facts.at(path).reason})",
                remedy="ask someone who may: `kubectl describe nodes` shows what is free",
                is_needed=False,
            )
            return
    nodes = nodes_of(facts.at(NODES).items, facts.at(PODS).items)
    yield _nodes(nodes)
    for device in sorted(wanted.devices):
        yield _devices(device, nodes)
    grows = _grower(facts)
    homeless = place(items(wanted.pods, together), nodes)
    yield from _placed(wanted.pods, homeless, grows, together)
    scaled = [p for p in wanted.pods if p.most > p.count]
    if scaled and not homeless:
        yield _at_most(wanted.pods, nodes, grows, together)


def items(pods: Sequence[Pods], together: set[str], *, at_most: bool = False) -> list[Item]:
    """What has to find a node each."""
    found = []
    bound: list[Pods] = []
    for one in pods:
        if one.claims & together:
            bound.append(one)
            continue
        count = one.most if at_most else one.count
        item = Item(name=one.component, specs=[one.spec], requests=one.requests)
        found += [item] * count
    if bound:
        amounts: dict[str, Decimal] = defaultdict(Decimal)
        counts = [one.most if at_most else one.count for one in bound]
        for one, count in zip(bound, counts, strict=True):
            for resource, amount in one.requests.items():
                amounts[resource] += amount * count
        specs = [one.spec for one in bound]
        found.append(Item(name=TOGETHER, specs=specs, requests=dict(amounts), pods=sum(counts)))
    return found


def _nodes(nodes: Sequence[Node]) -> Finding:
    ready = [n for n in nodes if n.takes({}) not in ("not ready", "cordoned")]
    free: dict[str, Decimal] = defaultdict(Decimal)
    for node in ready:
        for resource in ("cpu", "memory"):
            free[resource] += node.free.get(resource, Decimal(0))
    state = f"{len(ready)} of {len(nodes)} ready"
    if not ready:
        return Finding(group=GROUP, what="nodes", state=state, remedy="add nodes, or uncordon some")
    return Finding(group=GROUP, what="nodes", state=f"{state}; free: {all_words(free)}")


def _devices(device: str, nodes: Sequence[Node]) -> Finding:
    having = [n for n in nodes if n.capacity.get(device)]
    if not having:
        offered = sorted(
            {r for n in nodes for r in n.capacity if "/" in r and "hugepages" not in r}
        )
        others = f"; nodes offer {', '.join(offered)} (gpuResource)" if offered else ""
        return Finding(
            group=GROUP,
            what=device,
            state="no node offers it",
            remedy=f"install the device plugin (NVIDIA's GPU operator){others}",
        )
    free, has = (
        sum((x.get(device, Decimal(0)) for x in amounts), Decimal(0))
        for amounts in ([n.free for n in having], [n.capacity for n in having])
    )
    best = max(having, key=lambda n: n.free.get(device, Decimal(0)))
    most = best.free.get(device, Decimal(0))
    state = f"{free} of {has} free on {len(having)} nodes; most on one: {most} ({best.name})"
    return Finding(group=GROUP, what=device, state=state)


def _placed(
    pods: Sequence[Pods], homeless: Sequence[tuple[Item, str]], grows: str, together: set[str]
) -> Iterator[Finding]:
    alone = [one for one in pods if not one.claims & together]
    bound = [one for one in pods if one.claims & together]
    for one in alone:
        count = f"{one.count} × " if one.count > 1 else ""
        state = f"{count}{all_words(one.requests, without=_UNSAID)}"
        yield _place_of(one.component, state, one.count, homeless, grows)
    if bound:
        [item] = items(bound, together)
        names = ", ".join(one.component for one in bound)
        state = f"{names} (by their claim): {all_words(item.requests, without=_UNSAID)}"
        yield _place_of(TOGETHER, state, 1, homeless, grows)


def _place_of(
    name: str, state: str, count: int, homeless: Sequence[tuple[Item, str]], grows: str
) -> Finding:
    lost = [why for item, why in homeless if item.name == name]
    if not lost:
        return Finding(group=GROUP, what=name, state=state)
    some = f": {count - len(lost)} of {count} find a place" if count > 1 else ": finds no place"
    remedy = f"{lost[0]}; {grows}" if grows else lost[0]
    return Finding(group=GROUP, what=name, state=state + some, remedy=remedy, is_needed=not grows)


def _at_most(
    pods: Sequence[Pods], nodes: Sequence[Node], grows: str, together: set[str]
) -> Finding:
    """Autoscaling to its end is a wish."""
    lost = place(items(pods, together, at_most=True), nodes)
    most = ", ".join(f"{one.component} {one.most}" for one in pods if one.most > one.count)
    state = f"up to {most}"
    if not lost:
        return Finding(group=GROUP, what="autoscaling", state=f"{state}: there is room")
    names = sorted({item.name for item, _ in lost})
    remedy = grows or f"{len(lost)} pods would stay Pending ({', '.join(names)}): {lost[0][1]}"
    return Finding(group=GROUP, what="autoscaling", state=state, remedy=remedy, is_needed=False)


def _grower(facts: Facts) -> str:
    """Who would add nodes, if anybody."""
    if "karpenter.sh" in facts.groups:
        return "Karpenter may add nodes"
    if facts.at(AUTOSCALER).is_given:
        return "the cluster autoscaler may add nodes"
    return ""
