"""Which groups the batch log has trained on: the ledger's guard, checked by something else."""

from __future__ import annotations

from collections.abc import Iterable

from rlsd.trajectory import Group, GroupOutcome


class TrainedGroups:
    """A bit for each admission index: a million groups take 125 kB."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def note(self, groups: Iterable[Group]) -> int:
        """Note the trained ones of a logged batch; how many of them a batch before had, too."""
        twice = 0
        for group in groups:
            if group.outcome is not GroupOutcome.TRAINED:
                continue
            place, bit = divmod(group.index, 8)
            if place >= len(self._bits):
                self._bits.extend(bytes(place + 1 - len(self._bits)))
            twice += self._bits[place] >> bit & 1
            self._bits[place] |= 1 << bit
        return twice
