"""Turn concurrent requests into batches for one compute thread.

Whatever has arrived when the thread becomes free is its next batch: no timer, so a lone request
never waits and a burst is computed together. The thread is the only one that touches the model.
While nothing arrives it is given an empty job now and then, which shows that it would run a full
one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_PULSE_EVERY_S = 1.0


class Batcher(Generic[_Item, _Result]):
    """An async context manager; `submit` works inside it.

    Args:
        run: computes a batch, one result (or the exception to raise) for each item, in order.
        max_items: largest batch.
        initializer: called once on the compute thread.
        pulse: called on that thread after each batch, and once a second while there is none.
    """

    def __init__(
        self,
        run: Callable[[list[_Item]], list[_Result | Exception]],
        *,
        max_items: int,
        initializer: Callable[[], object] = lambda: None,
        pulse: Callable[[], object] = lambda: None,
    ) -> None:
        self._run = run
        self._max_items = max_items
        self._pulse = pulse
        self._thread = ThreadPoolExecutor(1, "compute", initializer=initializer)
        self._waiting: asyncio.Queue[tuple[_Item, asyncio.Future[_Result]]] = asyncio.Queue()
        self._loop_task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._loop_task = asyncio.get_running_loop().create_task(self._serve())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._loop_task is not None
        self._loop_task.cancel()
        await asyncio.wait([self._loop_task])
        self._thread.shutdown(wait=True)

    async def submit(self, item: _Item) -> _Result:
        """The result of one item. Callers bound how many they have in flight."""
        result: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((item, result))
        return await result

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await loop.run_in_executor(self._thread, self._pulse)
            batch = await self._next()
            if not batch:
                continue
            items = [item for item, _ in batch]
            try:
                results = await loop.run_in_executor(self._thread, self._run, items)
            except Exception as error:  # noqa: BLE001  the callers receive it, whatever it is
                results = [error] * len(items)
            for (_, future), result in zip(batch, results, strict=True):
                if future.done():  # its caller was cancelled
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)

    async def _next(self) -> list[tuple[_Item, asyncio.Future[_Result]]]:
        """What waits now, up to the limit; after a second without anything, nothing."""
        try:
            async with asyncio.timeout(_PULSE_EVERY_S):
                batch = [await self._waiting.get()]
        except TimeoutError:
            return []
        while len(batch) < self._max_items and not self._waiting.empty():
            batch.append(self._waiting.get_nowait())
        return batch
