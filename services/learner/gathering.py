"""Groups on their way out and back: admitted while there are credits, gathered into batches.

admit ─▶ stages ─▶ receive ─▶ ready ─▶ batch (lowest indices first) ─▶ logged ─▶ settle
                      └ rejected, and another may take its place: settled at once
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from rlsd.config import RunConfig
from rlsd.errors import ServiceError, StreamError
from rlsd.telemetry.activity import Activity, State
from rlsd.trajectory import Group, GroupOutcome, group_id_of, index_of
from services.learner import metrics
from services.learner.feeder import Feeder, Position
from services.learner.lease import Lease
from services.learner.ledger import Ledger, decide
from services.learner.progress import Progress
from services.learner.stages import Stages
from services.learner.traces import Traces

log = logging.getLogger(__name__)

_COLLECT_WAIT_S = 1.0
_IDLE_EVERY_S = 60.0
"""While rank 0 waits for groups, the other ranks hear of it this often (they time out at 600 s)."""
_QUIET_S = 5.0
"""When no group comes back for this long, the queues are asked whether they still have them."""


class Gathering:
    """Knows which groups are out and which are back, and makes the next step's batch of them."""

    def __init__(  # noqa: PLR0913  the learner's parts
        self,
        config: RunConfig,
        stages: Stages,
        feeder: Feeder,
        *,
        resamples: bool,
        ledger: Ledger,
        progress: Progress,
        lease: Lease,
        traces: Traces,
        activity: Activity,
    ) -> None:
        """Remember the parts.

        Args:
            resamples: a rejected group gives its place in the step to another.
        """
        self._config = config
        self._stages = stages
        self._feeder = feeder
        self._resamples = resamples
        self._ledger = ledger
        self._progress = progress
        self._lease = lease
        self._traces = traces
        self._activity = activity
        self._ready: dict[int, Group] = {}
        self._early: list[Group] = []
        """Rejected, and settled before their step so that others could take their place."""
        self._backpressure = metrics.Backpressure()
        self._admitted_at: dict[int, float] = {}

    async def batch(
        self, stopping: asyncio.Event, *, idle: Callable[[], Awaitable[object]]
    ) -> list[Group] | None:
        """The groups of the next step in index order, or None when the run is to stop.

        Args:
            idle: called now and then while nothing else happens.

        Raises:
            ServiceError: no group comes back for `learner.stage_timeout_s`.
            StreamError: Redis is away for as long.
        """
        deadline = _Deadline(self._config.learner.stage_timeout_s)
        idling, quiet = _Deadline(_IDLE_EVERY_S), _Deadline(_QUIET_S)
        self._activity.enter(State.WAITING_FOR_WORK, "groups")
        while not stopping.is_set():
            self._activity.tick()
            try:
                await self._admit()
                groups = self._seal()
                if groups is not None:
                    return groups
                if await self._collect():
                    deadline.reset()
                    quiet.reset()
                if quiet.passed:
                    self._lease.check()
                    await self._readmit_lost()
                    quiet.reset()
            except StreamError as error:
                log.warning("redis unreachable", extra={"reason": str(error)})
                self._activity.enter(State.WAITING_FOR_QUEUES, f"Redis: {error}")
                if deadline.passed:
                    raise
                await asyncio.sleep(_COLLECT_WAIT_S)
            if deadline.passed:
                raise ServiceError(
                    f"no group has come back for {deadline.after_s:g} s; "
                    f"{self._progress.waiting_for()}; see that service's log"
                )
            if idling.passed:
                await idle()
                idling.reset()
        return None

    async def logged(self, groups: list[Group]) -> None:
        """These are in the batch log: their outcomes count, and their credits return."""
        for group in groups:
            if not self._ledger.is_known(group.index):
                self._ledger.resolve(group)
        self._note_credits()
        await self.settle(groups)

    async def settle(self, groups: list[Group]) -> None:
        """Return credits.

        When the queues are away this is made up for later: a group that comes back although it
        has its outcome is settled then.
        """
        try:
            await self._stages.settle(groups)
        except StreamError as error:
            log.warning("redis unreachable", extra={"reason": str(error)})

    async def _admit(self) -> None:
        """Fill the credits with new groups, in index order."""
        self._note_credits()
        free = self._feeder.limit - len(self._ledger.in_flight)
        if free <= 0:
            return
        run = self._config.run
        stop = None if self._resamples else run.steps * run.groups_per_step
        indices = self._ledger.next_indices(free, stop=stop)
        if indices:
            before = len(self._ledger.in_flight)
            self._ledger.admit(indices)
            self._note_credits()
            self._admitted_at |= dict.fromkeys(indices, time.monotonic())
            metrics.ADMITTED.inc(len(indices))
            await self._send(indices, num_ahead=before)

    async def _send(self, indices: list[int], *, num_ahead: int = 0) -> None:
        """Put groups on their way; repeating it changes nothing."""
        version = self._progress.step
        groups = [
            self._feeder.group(
                index, Position(policy_version=version, num_in_flight=num_ahead + place)
            )
            for place, index in enumerate(indices)
        ]
        await self._stages.admit(groups, limit=self._feeder.limit)

    async def _collect(self) -> bool:
        """Receive what has come back; whether anything has."""
        self._progress.depths = await self._stages.depths()
        waits_for = f"groups: {self._progress.at_stages() or 'none is at any stage'}"
        self._activity.enter(State.WAITING_FOR_WORK, waits_for)
        collected = await self._stages.collect(wait_s=_COLLECT_WAIT_S)
        for group in collected:
            await self._receive(group)
        return bool(collected)

    async def _receive(self, group: Group) -> None:
        """Keep a group that came back for its step; drop one that has an outcome already."""
        if self._ledger.is_known(group.index) or group.index in self._ready:
            self._ledger.duplicates += 1
            metrics.DUPLICATES.inc()
            await self._stages.settle([group])
            if self._ledger.is_known(group.index):
                self._traces.forget(group)
            return
        decided = self._decide(group)
        if self._resamples and decided.outcome is not GroupOutcome.TRAINED:
            # Its credit must return now, or no other group could take its place in this step.
            # Not lost: it is logged with the step, and made again if we crash before that.
            self._early.append(decided)
            self._ledger.resolve(decided)
            self._note_credits()
            await self._stages.settle([decided])
            return
        self._ready[group.index] = group  # decided when it is consumed: it may grow stale yet

    async def _readmit_lost(self) -> None:
        """Make again what the queues have forgotten; what they still hold is left alone."""
        waiting = sorted(self._ledger.in_flight - set(self._ready))
        lost = await self._stages.lost([group_id_of(i) for i in waiting])
        if lost:
            log.warning("groups readmitted", extra={"num_groups": len(lost)})
            metrics.READMITTED.inc(len(lost))
            await self._send([index_of(group_id) for group_id in lost])

    def _seal(self) -> list[Group] | None:
        """The batch of the next step, once enough groups have come back; lowest indices first."""
        needed = self._config.run.groups_per_step
        if len(self._ready) < needed:
            return None
        chosen = [self._decide(self._ready.pop(i)) for i in sorted(self._ready)[:needed]]
        early, self._early = self._early, []
        now = time.monotonic()
        for group in (*chosen, *early):
            if (admitted_at := self._admitted_at.pop(group.index, None)) is not None:
                metrics.GROUP_AGE.observe(now - admitted_at)
        return sorted([*chosen, *early], key=lambda g: g.index)

    def _decide(self, group: Group) -> Group:
        max_staleness = self._config.run.max_staleness
        return decide(group, learner_version=self._progress.step, max_staleness=max_staleness)

    def _note_credits(self) -> None:
        self._backpressure.note(is_full=len(self._ledger.in_flight) >= self._feeder.limit)


class _Deadline:
    """A point in time that progress pushes away."""

    def __init__(self, after_s: float) -> None:
        self.after_s = after_s
        self.reset()

    def reset(self) -> None:
        self._at = time.monotonic() + self.after_s

    @property
    def passed(self) -> bool:
        return time.monotonic() > self._at
