"""The learner's part of each group's trace: sent off, back, sealed, trained, published.

    group ├─ queue.wait, rollout.generate, … ─┤├─ seal ─┤├─ train ─┤├─ publish ─┤
                                                             ┊ link
    step  ├──────────── gather ───────────────┤├─ log ──┤├─ train ─┤├─ publish ─┤

A group's root span is made when the group has ended, which is when its step is published; one that
is not trained on ends when it is logged. `train` and `publish` of a group name the step by a link:
a span may have 128, too few for a step to name its groups.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rlsd.streams.spans import waited
from rlsd.streams.stream import Delivery
from rlsd.telemetry import tracing
from rlsd.telemetry.tracing import Attribute, Attributes, Mark
from rlsd.telemetry.tracing.mark import group_ids, step_ids
from rlsd.trajectory import Group, GroupOutcome, failure_kind


@dataclass(frozen=True, slots=True)
class _Back:
    """A group that has come back and has not ended."""

    mark: Mark
    at_ns: int


class Traces:
    """The groups of one run whose spans are not all made; empty while tracing is off."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._back: dict[str, _Back] = {}

    def dispatched(self, group_id: str) -> str:
        """What a group that is sent off now carries; empty while tracing is off."""
        root = tracing.root_traceparent(group_ids(self.run_id, group_id))
        return str(Mark.begun(root)) if root else ""

    def delivered(self, delivery: Delivery) -> None:
        """A group has come back over the queues."""
        waited(delivery)
        self.back(delivery.group_id, delivery.trace)

    def back(self, group_id: str, trace: str) -> None:
        """A group has come back, with what it carried."""
        if tracing.is_on() and (mark := Mark.read(trace)) is not None:
            self._back.setdefault(group_id, _Back(mark, time.time_ns()))

    def forget(self, group: Group) -> None:
        """It came back although it has its outcome."""
        self._back.pop(group.group_id, None)

    def step(self, step: int, *, since_ns: int) -> StepSpans:
        """Of a step that began then."""
        return StepSpans(self, step, since_ns=since_ns)

    def repeated(self, step: int, groups: Sequence[Group]) -> StepSpans:
        """Of a step that is executed again, out of the batch log."""
        found = StepSpans(self, step, since_ns=time.time_ns(), resumed=True)
        found.hold(groups)
        for group in found.trained:
            self.back(group.group_id, self.dispatched(group.group_id))
        return found

    def sealed(self, groups: Sequence[Group], step: int) -> None:
        """They are in the batch log."""
        for group in groups:
            if (back := self._back.get(group.group_id)) is not None:
                tracing.record(
                    "seal",
                    parent=back.mark.traceparent,
                    start_ns=back.at_ns,
                    attributes=_of(group, {Attribute.STEP: step}),
                )

    def end_untrained(self, groups: Sequence[Group], step: int) -> None:
        """Of these, the ones that are not trained on end here."""
        for group in groups:
            if group.outcome is not GroupOutcome.TRAINED:
                self._end(group, {Attribute.STEP: step})

    def end(self, groups: Sequence[Group], step: int, *, resumed: bool) -> None:
        """All of these end, with the version that they produced."""
        more: Attributes = {Attribute.STEP: step, Attribute.POLICY_VERSION: step}
        for group in groups:
            self._end(group, {**more, Attribute.RESUMED: True} if resumed else more)

    def record(
        self, name: str, group: Group, start_ns: int, more: Attributes, *, link: str
    ) -> None:
        """A part of the step, in the trace of one of its groups."""
        if (back := self._back.get(group.group_id)) is not None:
            tracing.record(
                name,
                parent=back.mark.traceparent,
                start_ns=start_ns,
                attributes=_of(group, more),
                links=[link],
            )

    def _end(self, group: Group, more: Attributes) -> None:
        back = self._back.pop(group.group_id, None)
        if back is None:
            return
        attributes: dict[Attribute, str | int | bool] = {
            **_of(group, more),
            Attribute.GROUP_INDEX: group.index,
            Attribute.OUTCOME: group.outcome.value,
            Attribute.TRAJECTORIES: len(group.trajectories),
        }
        is_failed = group.outcome is GroupOutcome.FAILED
        if is_failed:
            attributes[Attribute.REASON] = failure_kind(group.reason)
        elif group.reason:
            attributes[Attribute.REASON] = group.reason
        tracing.record_root(
            "group",
            back.mark.traceparent,
            start_ns=back.mark.dispatched_ns,
            attributes=attributes,
            failed=is_failed,
        )


class StepSpans:
    """The spans of one step, in its own trace and in those of its groups."""

    def __init__(self, traces: Traces, step: int, *, since_ns: int, resumed: bool = False) -> None:
        self._traces = traces
        self._step = step
        self._root = tracing.root_traceparent(step_ids(traces.run_id, step))
        self._since_ns = since_ns
        self._resumed = resumed
        self._groups: Sequence[Group] = ()
        self.trained: list[Group] = []

    def hold(self, groups: Sequence[Group]) -> None:
        """These are the step's."""
        self._groups = groups
        self.trained = [g for g in groups if g.outcome is GroupOutcome.TRAINED]

    def gathered(self, groups: Sequence[Group]) -> None:
        """All of its groups are there."""
        self.hold(groups)
        more: Attributes = {Attribute.STEP: self._step}
        tracing.record("gather", parent=self._root, start_ns=self._since_ns, attributes=more)

    def logged(self) -> None:
        """Its groups are in the batch log."""
        if tracing.is_on():
            self._traces.sealed(self._groups, self._step)
            self._traces.end_untrained(self._groups, self._step)

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """`log`, `train` or `publish`; the last two are parts of each trained group, too."""
        start_ns = time.time_ns()
        yield
        if not tracing.is_on():
            return
        more: dict[Attribute, str | int | bool] = {Attribute.STEP: self._step}
        if name == "publish":
            more[Attribute.POLICY_VERSION] = self._step
        if self._resumed:
            more[Attribute.RESUMED] = True
        tracing.record(name, parent=self._root, start_ns=start_ns, attributes=more)
        if name in ("train", "publish"):
            for group in self.trained:
                self._traces.record(name, group, start_ns, more, link=self._root)

    def passed(self) -> None:
        """It was executed once more; it and its groups had ended before."""
        for group in self.trained:
            self._traces.forget(group)

    def published(self) -> None:
        """The step is over, and so are its groups."""
        if not tracing.is_on():
            return
        self._traces.end(self._groups, self._step, resumed=self._resumed)
        attributes: dict[Attribute, str | int | bool] = {
            Attribute.STEP: self._step,
            Attribute.POLICY_VERSION: self._step,
            Attribute.GROUPS: len(self._groups),
            Attribute.GROUPS_TRAINED: len(self.trained),
        }
        if self._resumed:
            attributes[Attribute.RESUMED] = True
        tracing.record_root("step", self._root, start_ns=self._since_ns, attributes=attributes)


def _of(group: Group, more: Attributes) -> Attributes:
    return {Attribute.GROUP_ID: group.group_id, **more}
