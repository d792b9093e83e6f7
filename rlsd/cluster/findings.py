"""Everything that the facts come to. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rlsd.cluster import access, admission, images, network, room, storage
from rlsd.cluster.facts import Facts
from rlsd.cluster.wanted import Wanted
from rlsd.finding import Finding


def findings(facts: Facts, wanted: Wanted) -> Iterator[Finding]:
    """By topic; nothing but the server where that is not reachable."""
    server = access.server(facts)
    yield server
    if server.state.startswith("not reachable"):
        return
    yield from access.access(facts, wanted)
    yield from admission.admission(facts, wanted)
    yield from room.room(facts, wanted, together=storage.on_one_node(facts, wanted))
    yield from storage.storage(facts, wanted)
    yield from network.network(facts, wanted)
    yield from images.queues(wanted)
    yield from images.images(facts, wanted)
