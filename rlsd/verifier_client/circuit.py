"""A circuit breaker whose callers wait: while it is open, work stands still and is not failed.

| state | tries | left when |
|---|---|---|
| closed | all | of 20 or more tries within 30 s at least half failed, or the last 20 |
| open | none | 15 s have passed |
| half open | 3 | all three succeeded (closed), or one failed (open) |
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum

WINDOW_S = 30.0
FEWEST_TRIES = 20
FAILED_SHARE = 0.5
OPEN_S = 15.0
NUM_PROBES = 3


class CircuitState(IntEnum):
    """The numbers are the metric's."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Outage(Exception):
    """The circuit did not close in time."""


class Circuit:
    """Counts tries and says whether another may be made."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        open_s: float = OPEN_S,
        tell: Callable[[CircuitState], None] = lambda _: None,
    ) -> None:
        """`tell` hears of each new state."""
        self._clock = clock
        self._open_s = open_s
        self._tell = tell
        self._state = CircuitState.CLOSED
        self._generation = 0
        self._tries: deque[tuple[float, bool]] = deque()
        self._num_failed = 0
        self._reopens_at = 0.0
        self._free_probes = 0
        self._num_succeeded = 0
        self._changed = asyncio.Event()
        tell(self._state)

    @property
    def state(self) -> CircuitState:
        """As of now: an open circuit is half open once its time has passed."""
        if self._state is CircuitState.OPEN and self._clock() >= self._reopens_at:
            self._enter(CircuitState.HALF_OPEN)
        return self._state

    def admit(self) -> Try | None:
        """The right to one try, which must be settled; None when there is none now."""
        if not self._admits:
            return None
        if self._state is CircuitState.HALF_OPEN:
            self._free_probes -= 1
        return Try(self, self._generation)

    async def passable(self, *, until: float) -> None:
        """Return when a try would be admitted.

        Raises:
            Outage: not by the time `until` of the clock.
        """
        while not self._admits:
            now = self._clock()
            if now >= until:
                raise Outage
            wakes_at = until
            if self._state is CircuitState.OPEN:
                wakes_at = min(until, self._reopens_at)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(wakes_at - now, 0.001)):
                    await self._changed.wait()

    def settle(self, generation: int, succeeded: bool | None) -> None:
        """Count a try; one that began in an earlier state says nothing about this one."""
        if generation != self._generation:
            return
        if self._state is CircuitState.HALF_OPEN:
            self._settle_probe(succeeded)
        elif succeeded is not None:
            self._count(succeeded)

    @property
    def _admits(self) -> bool:
        state = self.state
        return state is CircuitState.CLOSED or (
            state is CircuitState.HALF_OPEN and self._free_probes > 0
        )

    def _settle_probe(self, succeeded: bool | None) -> None:
        if succeeded is None:
            self._free_probes += 1
            self._wake()
        elif not succeeded:
            self._enter(CircuitState.OPEN)
        else:
            self._num_succeeded += 1
            if self._num_succeeded >= NUM_PROBES:
                self._enter(CircuitState.CLOSED)

    def _count(self, succeeded: bool) -> None:
        now = self._clock()
        self._tries.append((now, succeeded))
        self._num_failed += not succeeded
        while self._tries[0][0] <= now - WINDOW_S:
            self._num_failed -= not self._tries.popleft()[1]
        num_tries = len(self._tries)
        if num_tries < FEWEST_TRIES:
            return
        # A sudden outage after many successes: no check should have to fail before it is seen.
        is_away = not any(ok for _, ok in itertools.islice(reversed(self._tries), FEWEST_TRIES))
        if is_away or self._num_failed >= FAILED_SHARE * num_tries:
            self._enter(CircuitState.OPEN)

    def _enter(self, state: CircuitState) -> None:
        self._state = state
        self._generation += 1
        self._tries.clear()
        self._num_failed = 0
        self._free_probes, self._num_succeeded = NUM_PROBES, 0
        if state is CircuitState.OPEN:
            self._reopens_at = self._clock() + self._open_s
        self._wake()
        self._tell(state)

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


class Try:
    """One admitted try; a context manager that counts it as nothing unless told."""

    def __init__(self, circuit: Circuit, generation: int) -> None:
        self._circuit = circuit
        self._generation = generation
        self._succeeded: bool | None = None

    def __enter__(self) -> Try:
        return self

    def __exit__(self, *_: object) -> None:
        self._circuit.settle(self._generation, self._succeeded)

    def succeeded(self) -> None:
        """The verifier answered."""
        self._succeeded = True

    def failed(self) -> None:
        """It did not, or said to come back."""
        self._succeeded = False
