"""A mapping that forgets what was used longest ago."""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

V = TypeVar("V")


class Bounded(Generic[V]):
    """At most so many entries, of at most so much weight together."""

    def __init__(self, *, entries: int, weight: int) -> None:
        """`weight` is in the unit that `put` is given."""
        self._entries = entries
        self._weight = weight
        self._held: OrderedDict[str, tuple[V, int]] = OrderedDict()
        self._total = 0

    def get(self, key: str) -> V | None:
        """The value, which counts as used now."""
        if key not in self._held:
            return None
        self._held.move_to_end(key)
        return self._held[key][0]

    def put(self, key: str, value: V, *, weight: int = 0) -> None:
        """Remember a value; one that is too heavy by itself is not kept."""
        if weight > self._weight:
            return
        if key in self._held:
            self._total -= self._held.pop(key)[1]
        self._held[key] = (value, weight)
        self._total += weight
        while len(self._held) > self._entries or self._total > self._weight:
            self._total -= self._held.popitem(last=False)[1][1]
