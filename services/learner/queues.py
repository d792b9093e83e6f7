"""The queues, measured about once a second, whatever the learner is doing.

| waits for | bound | unblocked by |
|---|---|---|
| Redis | `_DEADLINE_S` | its answer; without one the gauges are gone until there is one again |
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rlsd.errors import StreamError
from rlsd.streams.ending import end
from rlsd.streams.metrics import QueueGauges
from rlsd.streams.stream import GroupStream

_EVERY_S = 1.0
_DEADLINE_S = 2.0


@contextlib.asynccontextmanager
async def measured(stream: GroupStream, gauges: QueueGauges) -> AsyncIterator[None]:
    """Measure as long as the context lasts."""
    task = asyncio.get_running_loop().create_task(_measure(stream, gauges))
    try:
        yield
    finally:
        await end(task)
        gauges.forget()


async def _measure(stream: GroupStream, gauges: QueueGauges) -> None:
    while True:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                gauges.set(await stream.measure())
        except (StreamError, TimeoutError):
            gauges.forget()
        await asyncio.sleep(_EVERY_S)
