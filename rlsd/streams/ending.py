"""End a loop that talks to the stream."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_S = 0.5


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel a task and wait until it has ended, asking again where it goes on.

    Before Python 3.12 `asyncio.wait_for`, through which redis-py writes every command, returns its
    result instead of a cancellation that comes in the same turn of the event loop.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_S)
