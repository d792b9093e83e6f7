"""`reasoning_gym`: the score that a reasoning-gym dataset itself gives to the answer.

The library is optional, heavy, and used by few runs: its children start with the first check.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from collections.abc import AsyncIterator
from typing import Any

from pydantic import Field

from rlsd.config import VerifierSection
from rlsd.errors import VerifierError
from rlsd.trajectory import Verdict, VerdictOutcome
from services.verifier.checks.check import InvalidTask, Kind, Params, Setup, Task, scored
from services.verifier.children.pool import ChildPool

_SCORING = "services.verifier.checks.reasoning_gym.scoring"
"""What the children of the pool run."""


class ReasoningGymParams(Params):
    """The item of the dataset; the task's own reference is not used."""

    dataset: str
    """Name in reasoning-gym's catalogue."""
    entry: dict[str, Any]
    """The item as JSON: `answer` and `metadata`."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The dataset's configuration where its scorer depends on it."""
    after: str | None = Field(default=None, min_length=1)
    """The answer is what follows the last occurrence of this marker."""


@contextlib.asynccontextmanager
async def open_reasoning_gym(setup: Setup) -> AsyncIterator[Kind]:
    """The kind; without the library each check says so."""
    async with contextlib.AsyncExitStack() as stack:
        pool = _OnDemand(setup.section, stack)
        yield Kind(ReasoningGymCheck(pool), ReasoningGymParams)


class ReasoningGymCheck:
    """The dataset's own scorer, in a child process."""

    def __init__(self, pool: _OnDemand) -> None:
        self._pool = pool

    async def __call__(self, task: Task[ReasoningGymParams], completion: str) -> Verdict:
        """The dataset's score, 0 … 1; a missing marker is 0.

        Raises:
            InvalidTask: an unknown dataset, or an entry whose own answer its scorer refuses.
        """
        params = task.params
        answer = completion
        if params.after is not None:
            _, marker, answer = completion.rpartition(params.after)
            if not marker:
                return scored(0.0, "no marker")
        question = {
            "dataset": params.dataset,
            "entry": params.entry,
            "config": params.config,
            "answer": answer.strip(),
        }
        try:
            reply = await (await self._pool.started()).ask(question)
        except TimeoutError:
            return Verdict(outcome=VerdictOutcome.TIMEOUT, reason="scoring took too long")
        if "wrong_task" in reply:
            raise InvalidTask(f"params of 'reasoning_gym': {reply['wrong_task']}")
        return scored(reply["score"], reply["reason"])


class _OnDemand:
    """A pool that starts when it is first needed."""

    def __init__(self, section: VerifierSection, stack: contextlib.AsyncExitStack) -> None:
        self._section = section
        self._stack = stack
        self._starting = asyncio.Lock()
        self._pool: ChildPool | None = None

    async def started(self) -> ChildPool:
        """The pool, warm; raises VerifierError when the library is missing."""
        if importlib.util.find_spec("reasoning_gym") is None:
            raise VerifierError(
                "no kind 'reasoning_gym': reasoning-gym is not installed; "
                "run pip install 'rlsd[reasoning-gym]'"
            )
        async with self._starting:
            if self._pool is None:
                section = self._section
                pool = ChildPool(
                    _SCORING, num_children=section.workers, timeout_s=section.timeout_s
                )
                self._pool = await self._stack.enter_async_context(pool)
        return self._pool
