"""Who dies next, and how: drawn from a seed, so that a run that fails can be repeated.

The draw is from a bag of all services that is shuffled anew when it is empty: each has its share of
the kills, in an order that nobody chose. Which of a service's processes it is, is drawn too.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.system import Supervisor


class Fault(StrEnum):
    """What happens to a process."""

    KILL = "kill"
    STOP = "stop"
    """Frozen for longer than its claims last, then let go on: a zombie."""
    TERM = "term"


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault that hit."""

    at: float
    """Seconds since the epoch, as file times are."""
    name: str
    fault: Fault

    @property
    def service(self) -> str:
        """Of the process."""
        return service_of(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How the faults follow one another."""

    interval_s: float
    """Mean pause between two faults."""
    stop_s: float = 4.0
    """Longest freeze."""
    together: float = 0.15
    """Share of the faults that hit right after the one before."""
    gentle: float = 0.2
    """Share of the faults that are no SIGKILL: half freezes, half SIGTERM."""


class Killer:
    """Strikes until a number of SIGKILLs have hit."""

    def __init__(
        self,
        supervisor: Supervisor,
        pace: Pace,
        *,
        seed: int,
        on_strike: Callable[[Strike], None] = lambda _: None,
        may_strike: Callable[[], bool] = lambda: True,
    ) -> None:
        self._supervisor = supervisor
        self._pace = pace
        self._random = random.Random(seed)
        self._on_strike = on_strike
        self._may_strike = may_strike
        self._bag: list[str] = []
        self.strikes: list[Strike] = []

    @property
    def kills(self) -> Counter[str]:
        """SIGKILLs by service."""
        return Counter(s.service for s in self.strikes if s.fault is Fault.KILL)

    async def run(self, kills: int, *, until: Callable[[], bool] = lambda: True) -> None:
        """Strike until `kills` SIGKILLs have hit and `until` holds."""
        async with asyncio.TaskGroup() as thaws:
            while self.kills.total() < kills or not until():
                while not self._may_strike():  # noqa: ASYNC110  other processes give no event
                    await asyncio.sleep(0.2)
                await asyncio.sleep(self._pause_s())  # the fault's time is what is drawn
                fault, name = self._fault(), self._victim()
                number = {Fault.STOP: signal.SIGSTOP, Fault.TERM: signal.SIGTERM}.get(
                    fault, signal.SIGKILL
                )
                if self._supervisor.signal(name, number):
                    self.strikes.append(Strike(time.time(), name, fault))
                    self._on_strike(self.strikes[-1])
                    if fault is Fault.STOP:
                        thaws.create_task(self._thaw(name, self._supervisor.pid(name)))

    async def _thaw(self, name: str, pid: int) -> None:
        await asyncio.sleep(self._random.uniform(0.5, 1.0) * self._pace.stop_s)
        if self._supervisor.pid(name) == pid:
            self._supervisor.signal(name, signal.SIGCONT)

    def _pause_s(self) -> float:
        if self.strikes and self._random.random() < self._pace.together:
            return 0.0
        return self._random.uniform(0.5, 1.5) * self._pace.interval_s

    def _fault(self) -> Fault:
        if self._random.random() >= self._pace.gentle:
            return Fault.KILL
        return self._random.choice([Fault.STOP, Fault.TERM])

    def _victim(self) -> str:
        children = sorted(self._supervisor.children)
        if not self._bag:
            self._bag = sorted({service_of(name) for name in children})
            self._random.shuffle(self._bag)
        service = self._bag.pop()
        return self._random.choice([name for name in children if service_of(name) == service])


def service_of(name: str) -> str:
    """A child's name without its number."""
    return name.partition("-")[0]
