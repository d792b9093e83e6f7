"""The same request gets the same answer, also while the first one is still being worked on."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from rlsd.verifier_contract.native import Answer, ErrorAnswer, VerifyRequest


class KeyReused(Exception):
    """A key came with another request than before."""


class Answers:
    """Answers by their idempotency key, at most `size` of them; the oldest go first."""

    def __init__(self, *, size: int) -> None:
        self._size = size
        self._known: OrderedDict[str, tuple[VerifyRequest, asyncio.Task[Answer]]] = OrderedDict()

    async def get(
        self,
        key: str,
        submission: VerifyRequest,
        judge: Callable[[VerifyRequest], Awaitable[Answer]],
    ) -> Answer:
        """The known answer, or `judge`'s; an error that may pass is not kept.

        Raises:
            KeyReused: the key belongs to another submission.
        """
        asked = submission.model_copy(update={"deadline_ms": 0})  # a retry has less time
        known = self._known.get(key)
        if known is None:
            task = asyncio.ensure_future(_judged(judge, submission))
            self._known[key] = asked, task
            task.add_done_callback(lambda done: self._ended(key, done))
            while len(self._known) > self._size:
                self._known.popitem(last=False)
        else:
            first, task = known
            if first != asked:
                raise KeyReused
            self._known.move_to_end(key)
        return await asyncio.shield(task)  # a client that goes away does not stop it for others

    def _ended(self, key: str, task: asyncio.Task[Answer]) -> None:
        is_final = not task.cancelled() and task.exception() is None
        if is_final and isinstance(answer := task.result(), ErrorAnswer):
            is_final = not answer.retryable
        known = self._known.get(key)
        if not is_final and known is not None and known[1] is task:
            del self._known[key]


async def _judged(
    judge: Callable[[VerifyRequest], Awaitable[Answer]], submission: VerifyRequest
) -> Answer:
    return await judge(submission)
