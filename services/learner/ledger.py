"""The account of a run: every admitted group has exactly one outcome. Pure bookkeeping.

    admitted = trained + rejected + failed + in_flight

The batch log is the durable form of the same facts; after a restart the ledger is rebuilt from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from rlsd.staleness import is_stale
from rlsd.trajectory import Group, GroupOutcome, RejectReason, failure_kind, num_scored


class Ledger:
    """Counts outcomes and knows which groups are still out."""

    def __init__(self) -> None:
        self.trained = 0
        self.rejected: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.duplicates = 0
        self.in_flight: set[int] = set()
        self._resolved: set[int] = set()
        self._prefix = 0

    @property
    def admitted(self) -> int:
        """Groups that were ever admitted."""
        return len(self._resolved | self.in_flight)

    @property
    def residual(self) -> int:
        """Groups without an outcome that are not in flight either; must be 0."""
        outcomes = self.trained + self.rejected.total() + self.failed.total()
        return self.admitted - outcomes - len(self.in_flight)

    def next_indices(self, count: int, *, stop: int | None) -> list[int]:
        """The lowest `count` indices that were never admitted, below `stop`."""
        found: list[int] = []
        index = self._first_free()
        while len(found) < count and (stop is None or index < stop):
            if index not in self._resolved and index not in self.in_flight:
                found.append(index)
            index += 1
        return found

    def admit(self, indices: Iterable[int]) -> None:
        """Note that groups are out."""
        self.in_flight.update(indices)

    def is_known(self, index: int) -> bool:
        """Whether a group already has its outcome: a second delivery of it is dropped."""
        return index in self._resolved

    def resolve(self, group: Group) -> None:
        """Count the outcome of a group that is logged now.

        Raises:
            AssertionError: it has one already, or none yet.
        """
        assert group.index not in self._resolved, f"{group.group_id} has an outcome already"
        self.in_flight.discard(group.index)
        self._resolved.add(group.index)
        self.verdicts.update(t.verdict.outcome.value for t in group.trajectories if t.verdict)
        match group.outcome:
            case GroupOutcome.TRAINED:
                self.trained += 1
            case GroupOutcome.REJECTED:
                self.rejected[group.reason] += 1
            case GroupOutcome.FAILED:
                self.failed[failure_kind(group.reason)] += 1
            case GroupOutcome.IN_FLIGHT:
                raise AssertionError(f"{group.group_id} is logged without an outcome")

    def outcomes(self) -> dict[str, object]:
        """The account as `summary.json` has it."""
        return {
            "admitted": self.admitted,
            "trained": self.trained,
            "rejected": dict(self.rejected),
            "failed": dict(self.failed),
            "in_flight": len(self.in_flight),
        }

    def _first_free(self) -> int:
        """Where the dense prefix of resolved indices ends; remembered between calls."""
        while self._prefix in self._resolved:
            self._prefix += 1
        return self._prefix


def decide(group: Group, *, learner_version: int, max_staleness: int) -> Group:
    """The group with its outcome, as the learner accounts for it at consumption."""
    if group.outcome is not GroupOutcome.IN_FLIGHT:
        return group
    if num_scored(group.rewards) < 2:
        reason = RejectReason.NO_VERDICT
    elif any(
        is_stale(learner_version, t.min_policy_version, max_staleness=max_staleness)
        for t in group.trajectories
    ):
        reason = RejectReason.STALE
    else:
        return replace(group, outcome=GroupOutcome.TRAINED)
    return replace(group, outcome=GroupOutcome.REJECTED, reason=reason.value)
