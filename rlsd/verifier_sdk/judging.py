"""Calls a team's function within the deadline and turns whatever it does into an answer."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from rlsd.verifier_contract.native import (
    DETAIL_LIMIT,
    Answer,
    ErrorAnswer,
    ScoredAnswer,
    VerifierVersion,
    VerifyRequest,
)

log = logging.getLogger(__name__)

LONGEST_DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A score with words about it; a plain number is enough where there are none."""

    score: float
    """Finite. The run's configuration says which score is reward 0 and which is reward 1."""
    detail: str = ""
    components: Mapping[str, float] = field(default_factory=dict)


class CannotDecide(Exception):
    """Raised by a check that can give no score: the run then learns nothing from it."""

    def __init__(self, code: str, detail: str = "", *, retryable: bool = False) -> None:
        """`retryable`: the same submission may be decided in a moment."""
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.retryable = retryable


Outcome = Score | float
Check = Callable[[VerifyRequest], Outcome | Awaitable[Outcome]]


class Judging:
    """A function with a bound on how often it runs at once."""

    def __init__(self, check: Check, *, name: str, version: str, max_concurrency: int) -> None:
        self._check = check
        self._verifier = VerifierVersion(name=name, version=version)
        self._free = asyncio.Semaphore(max_concurrency)
        self._threads = ThreadPoolExecutor(max_concurrency, thread_name_prefix="check")
        self._is_async = inspect.iscoroutinefunction(check) or inspect.iscoroutinefunction(
            getattr(check, "__call__", None)  # noqa: B004  an object may have an async __call__
        )

    async def judge(self, submission: VerifyRequest) -> Answer:
        """Its answer; a function that is late, fails or returns no number gives an error.

        A synchronous function runs in a thread, which nothing can stop: it keeps its place until
        it returns, also when its answer has been given up.
        """
        deadline_s = min(submission.deadline_ms / 1000, LONGEST_DEADLINE_S)
        work = asyncio.ensure_future(self._run(submission))
        try:
            async with asyncio.timeout(deadline_s):
                if self._is_async:
                    return self._answer(await work)
                return self._answer(await asyncio.shield(work))
        except TimeoutError:
            work.add_done_callback(_forget)
            return ErrorAnswer(retryable=True, code="deadline", detail=f"not in {deadline_s:g} s")
        except CannotDecide as error:
            return ErrorAnswer(
                retryable=error.retryable, code=error.code[:80], detail=error.detail[:DETAIL_LIMIT]
            )
        except Exception as error:
            log.exception("check failed", extra={"trajectory_id": submission.trajectory_id})
            return ErrorAnswer(code=type(error).__name__, detail="see the verifier's log")

    async def _run(self, submission: VerifyRequest) -> Outcome:
        async with self._free:
            if self._is_async:
                found = self._check(submission)
            else:
                loop = asyncio.get_running_loop()
                found = await loop.run_in_executor(self._threads, self._check, submission)
            return await found if inspect.isawaitable(found) else found

    def _answer(self, found: Outcome) -> ScoredAnswer:
        """Raises TypeError or ValueError for what is no finite number."""
        given = found if isinstance(found, Score) else Score(score=found)
        numbers = {"score": given.score, **given.components}
        for name, number in numbers.items():
            if not isinstance(number, int | float):
                raise TypeError(f"{name} is a {type(number).__name__} and not a number")
            if not math.isfinite(number):
                raise ValueError(f"{name} is {number}")
        return ScoredAnswer(
            score=float(given.score),
            components={name: float(number) for name, number in given.components.items()},
            detail=given.detail[:DETAIL_LIMIT].encode("utf-8", "replace").decode("utf-8"),
            verifier=self._verifier,
        )


def _forget(work: asyncio.Future[Outcome]) -> None:
    """Nobody waits for it any more; its error would be reported as never retrieved."""
    if not work.cancelled():
        work.exception()
