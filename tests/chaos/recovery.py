"""How long a killed process takes to be of use again, seen from outside.

A stage's process has recovered when its own counter of finished groups leaves 0; the learner, when
the next batch is in the log; Redis, when the second one is, since the first may have been complete
before the kill.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.chaos.killer import Fault, Strike
from tests.chaos.system import Supervisor

_FINISHED = {
    "rollout": "rlsd_rollout_group_duration_seconds_count",
    "verifier": "rlsd_verifier_groups_total",
    "teacher": "rlsd_teacher_group_duration_seconds_count",
}
_BATCHES = {"learner": 1, "redis": 2}
_LOOK_EVERY_S = 0.1


class Recoveries:
    """Measures every SIGKILL; one that is cut short by another is counted, not measured."""

    def __init__(
        self, supervisor: Supervisor, metrics: Mapping[str, int], tasks: asyncio.TaskGroup
    ) -> None:
        self._supervisor = supervisor
        self._metrics = metrics
        self._tasks = tasks
        self._watches: set[asyncio.Task[None]] = set()
        self._measured: defaultdict[str, list[float]] = defaultdict(list)
        self.cut_short = 0

    def watch(self, strike: Strike) -> None:
        """Begin to wait for a stage's process."""
        if strike.fault is Fault.KILL and strike.service in _FINISHED:
            killed = self._supervisor.pid(strike.name)
            self._watches.add(self._tasks.create_task(self._watch(strike, killed)))

    @property
    def is_complete(self) -> bool:
        """Whether every process that was killed is of use again."""
        return all(watch.done() for watch in self._watches)

    def end(self) -> None:
        """Give up those that have no work to recover for."""
        for watch in self._watches:
            self.cut_short += watch.cancel()

    def seconds(self, strikes: Sequence[Strike], batches: Path) -> dict[str, dict[str, float]]:
        """p50 and p95 by service."""
        measured = {**self._measured}
        logged = sorted(p.stat().st_mtime for p in batches.glob("[0-9]*.batch"))
        for strike in strikes:
            later = [at for at in logged if at > strike.at]
            nth = _BATCHES.get(strike.service, 0)
            if strike.fault is Fault.KILL and 0 < nth <= len(later):
                measured.setdefault(strike.service, []).append(later[nth - 1] - strike.at)
        return {
            service: {"p50": _quantile(x, 0.5), "p95": _quantile(x, 0.95), "measured": len(x)}
            for service, x in sorted(measured.items())
        }

    async def _watch(self, strike: Strike, killed: int) -> None:
        name = strike.name
        loop = asyncio.get_running_loop()
        began = loop.time()
        await self._supervisor.restarted(name, killed)
        pid = self._supervisor.pid(name)
        while self._supervisor.pid(name) == pid:
            if await num_finished(strike.service, self._metrics[name]):
                self._measured[strike.service].append(loop.time() - began)
                return
            await asyncio.sleep(_LOOK_EVERY_S)
        self.cut_short += 1


async def num_finished(service: str, port: int, *, host: str = "127.0.0.1") -> float:
    """Groups that a stage's process has finished since its start; 0 while nobody answers."""
    metric = _FINISHED[service]
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
            text = (await reader.read()).decode()
            writer.close()
            lines = [x for x in text.splitlines() if x.startswith(metric)]
            return sum(float(x.rpartition(" ")[2]) for x in lines)
    return 0.0


def _quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of all do not exceed."""
    ordered = sorted(values)
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2)
