"""What a service is doing, what it waits for and whether it still moves.

Read by GetStatus, `/livez` and `rlsd why`. Progress is a tick. A wait that looks up now and then
ticks too, so an idle service is alive and only what is stuck is not. Each part that can be stuck
by itself ticks for itself: the others would tick on.

| part | ticked by | stuck when |
|---|---|---|
| event loop | `beating`, once a second | something blocks it |
| loop | each turn of the service's own loop; a bounded wait | it awaits what never comes |
| compute thread | each token or microbatch; an empty job when idle | a call does not return |
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

STALL_AFTER_S = 120.0
_BEAT_S = 1.0
WORTH_SAYING_S = 10.0
"""Progress, and a wait, younger than this is not mentioned."""


class State(StrEnum):
    """What a service does, or what keeps it from doing so."""

    STARTING = "starting"
    BUSY = "busy"
    WAITING_FOR_WORK = "waiting_for_work"
    """The stage before has sent nothing."""
    WAITING_FOR_WEIGHTS = "waiting_for_weights"
    """The version it needs is not published yet."""
    WAITING_FOR_QUEUES = "waiting_for_queues"
    """Redis cannot be reached."""
    WAITING_FOR_SERVICE = "waiting_for_service"
    """Another service has to be up, or to answer."""
    CHECKPOINTING = "checkpointing"
    """Learner: model and optimizer are written."""
    STOPPING = "stopping"


class Part(StrEnum):
    """What can be stuck while the rest goes on."""

    EVENTS = "event loop"
    LOOP = "loop"
    COMPUTE = "compute thread"


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A service's activity at one moment; ages, since clocks differ between machines."""

    state: State
    detail: str
    """What it is busy with, or what it waits for: the words after `waiting 12 s for`."""
    for_s: float
    """Seconds in this state."""
    progress_age_s: float
    """Seconds since the last tick of the part that is furthest behind."""
    stalled: str = ""
    """Why `/livez` answers 503; empty while it does not."""

    def words(self) -> str:
        """One line for people."""
        waits = self.state.name.startswith("WAITING")
        verb = "waiting" if waits else self.state.value
        said = f"{verb} {duration(self.for_s)}"
        if self.detail:
            said += f"{' for' if waits else ':'} {self.detail}"
        if self.stalled:
            return f"{said}; STALLED: {self.stalled}"
        if self.progress_age_s >= WORTH_SAYING_S:
            said += f"; last progress {duration(self.progress_age_s)} ago"
        return said


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Something outside the service that its work in hand waits for."""

    detail: str
    """The words after `waiting 12 s for`."""
    for_s: float


@dataclass(frozen=True, slots=True)
class _Phase:
    state: State
    detail: str
    since: float


class Activity:
    """One service's record, written by its loops and read from any thread."""

    def __init__(
        self,
        *,
        stall_after_s: float = STALL_AFTER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stall_after_s = stall_after_s
        self._clock = clock
        self._phase = _Phase(State.STARTING, "", clock())
        self._obstacles: dict[State, _Phase] = {}
        self._look: Callable[[], Obstacle | None] = lambda: None
        self._num_in_hand = 0
        self._in_hand_since = 0.0
        self._ticks: dict[Part, float] = {}
        self.is_serving = False
        """Whether the health service answers SERVING; set by the lifecycle."""
        self._counting = threading.RLock()
        self._seconds = dict.fromkeys(State, 0.0)
        self._counted_state = State.STARTING
        self._counted_until = clock()

    def enter(self, state: State, detail: str = "") -> None:
        """Say what the service does from now on; a wait of the same kind keeps its beginning."""
        same = state is self._phase.state and (state is not State.BUSY or detail == self.detail)
        self._phase = _Phase(state, detail, self._phase.since if same else self._clock())
        if not same:
            self._count()

    def hold(self, state: State, detail: str) -> None:
        """Say what stands in the way, whatever else goes on, until `release`."""
        if state not in self._obstacles:
            self._obstacles = {**self._obstacles, state: _Phase(state, detail, self._clock())}
            self._count()

    def release(self, state: State) -> None:
        """The obstacle is gone."""
        if state in self._obstacles:
            self._obstacles = {s: p for s, p in self._obstacles.items() if s is not state}
            self._count()

    def watch(self, look: Callable[[], Obstacle | None]) -> None:
        """Ask, at every snapshot and from any thread, what the work in hand waits for."""
        self._look = look

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """One group is in hand."""
        if not self._num_in_hand:
            self._in_hand_since = self._clock()
        self._num_in_hand += 1
        if self._num_in_hand == 1:
            self._count()
        try:
            yield
        finally:
            self._num_in_hand -= 1
            if not self._num_in_hand:  # what it waits for now, it waits for from here on
                self._phase = _Phase(self._phase.state, self._phase.detail, self._clock())
                self._count()

    def tick(self, part: Part = Part.LOOP) -> None:
        """A part has moved; from its first tick on it is watched."""
        self._ticks[part] = self._clock()

    @contextlib.asynccontextmanager
    async def beating(self, part: Part) -> AsyncIterator[None]:
        """Tick once a second as long as the event loop turns: a wait with a bound of its own."""
        task = asyncio.get_running_loop().create_task(self._beat(part))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _beat(self, part: Part) -> None:
        while True:
            self.tick(part)
            self._count()
            await asyncio.sleep(_BEAT_S)

    def seconds(self) -> dict[State, float]:
        """Seconds in each state since the beginning; every one is counted once, from any thread.

        What is visible counts. What `watch` finds, nobody tells of: it counts from the next look
        on, which comes within a second.
        """
        with self._counting:
            self._count()
            return dict(self._seconds)

    def _count(self) -> None:
        """Give the time until now to the state that it was spent in; called when that changes."""
        with self._counting:
            now = self._clock()
            self._seconds[self._counted_state] += now - self._counted_until
            self._counted_state, self._counted_until = self._visible().state, now

    @property
    def detail(self) -> str:
        """The words of the present phase, obstacles aside."""
        return self._phase.detail

    def snapshot(self) -> Snapshot:
        """How things stand."""
        now = self._clock()
        phase = self._visible()
        part, age_s = self._furthest_behind(now)
        stalled = ""
        if part is not None and age_s > self._stall_after_s:
            stalled = f"{part}: no progress for {duration(age_s)}"
        return Snapshot(
            state=phase.state,
            detail=phase.detail,
            for_s=now - phase.since,
            progress_age_s=age_s,
            stalled=stalled,
        )

    def _visible(self) -> _Phase:
        """An obstacle before the work in hand, and that before the wait for more."""
        for state in (State.STOPPING, State.WAITING_FOR_QUEUES, State.WAITING_FOR_WEIGHTS):
            if state in self._obstacles:
                return self._obstacles[state]
        if (obstacle := self._look()) is not None:
            since = self._clock() - obstacle.for_s
            return _Phase(State.WAITING_FOR_SERVICE, obstacle.detail, since)
        if self._num_in_hand:
            groups = "1 group" if self._num_in_hand == 1 else f"{self._num_in_hand} groups"
            return _Phase(State.BUSY, f"{groups} in hand", self._in_hand_since)
        return self._phase

    def _furthest_behind(self, now: float) -> tuple[Part | None, float]:
        ages = [(now - at, part) for part, at in self._ticks.copy().items()]
        if not ages:
            return None, 0.0
        age_s, part = max(ages)
        return part, age_s


def duration(seconds: float) -> str:
    """`12 s`, `3 min 20 s`, `2 h 5 min`."""
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    if hours:
        return f"{hours} h {rest_min} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"
