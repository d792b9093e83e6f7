"""Images and queues, as far as they are seen without a pod. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rlsd.cluster.facts import NODES, Facts
from rlsd.cluster.wanted import Wanted
from rlsd.finding import Finding

GROUP = "images"
_PUBLIC = ("redis",)
"""Names without a registry that are meant so."""


def images(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """Which nodes have them already."""
    said = facts.at(NODES)
    nodes = said.items
    held = [
        {name for x in n["status"].get("images") or () for name in x.get("names") or ()}
        for n in nodes
    ]
    for image in sorted(wanted.images):
        count = sum(any(_is_same(name, image) for name in names) for names in held)
        if nodes and count == len(nodes):
            yield Finding(group=GROUP, what=short(image), state="on every node")
            continue
        state = (
            f"on {count} of {len(nodes)} nodes" if count else "not among the images that nodes name"
        )
        if not said.is_given:
            state = f"not known: may not list nodes ({said.reason})"
        remedy = "--try pulls it"
        repository = image.partition("@")[0].rpartition(":")[0] or image
        if "/" not in repository and repository not in _PUBLIC:
            remedy = f"no registry: this is docker.io/library/{repository}; set images.registry"
        yield Finding(group=GROUP, what=short(image), state=state, remedy=remedy, is_needed=False)


def short(image: str) -> str:
    """Without its registry, and with the beginning of a digest."""
    name, _, digest = image.rpartition("/")[2].partition("@sha256:")
    return f"{name}@{digest[:12]}" if digest else name


def queues(wanted: Wanted) -> Iterator[Finding]:
    """Where the groups would wait."""
    if any(x["metadata"]["name"].endswith("-redis") for x in wanted.of_kind("StatefulSet")):
        yield Finding(group="network", what="Redis", state="the bundled one, for trying")
    elif wanted.redis_secret:
        yield Finding(
            group="network",
            what="Redis",
            state="outside, by a Secret: not known whether it answers",
            remedy="--try asks it from a pod",
            is_needed=False,
        )


def _is_same(on_node: str, image: str) -> bool:
    """A node writes `docker.io/library/` where the chart writes nothing."""
    return on_node in (image, f"docker.io/{image}", f"docker.io/library/{image}")
