"""A judge is believed only while it knows right from wrong.

Its canaries are completions with known verdicts. They are asked at the start and then every
`canary_every_s`, like any other check and with ids of their own, so that no remembered answer is
given for one.

| its last round | it is | checks |
|---|---|---|
| as known | believed | are asked |
| one judged wrongly | not believed | wait up to `outage_s`; those then being asked are errors |
| no answer, never a good round | not known yet | wait up to `outage_s` |
| no answer, a good round within two periods | believed | are asked: an outage says nothing |

After a round that was not good the next one is in 1 s, 2 s, 4 s … up to 5 min.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Sequence
from enum import IntEnum

from rlsd.config import HttpVerifierSection
from rlsd.errors import ConfigError, VerifierError
from rlsd.telemetry.activity import Obstacle
from rlsd.verifier_client import metrics
from rlsd.verifier_client.cases import Case, read_cases, tells_apart
from rlsd.verifier_client.client import Judgement, Pace
from rlsd.verifier_client.waits import Waits, Want
from rlsd.verifier_contract.native import VerifyRequest
from services.verifier.checks.http.judge import Judge

log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 300.0
_PERIODS_BELIEVED = 2
_FULL = 1.0


class CanaryState(IntEnum):
    """The numbers are the metric's."""

    RIGHT = 0
    UNKNOWN = 1
    WRONG = 2


class _NoAnswer(Exception):
    """A round says nothing about what the judge knows."""


class _JudgedWrongly(Exception):
    """It does not know right from wrong."""


@contextlib.asynccontextmanager
async def watched(
    name: str, section: HttpVerifierSection, judge: Judge, *, pace: Pace | None = None
) -> AsyncIterator[WatchedJudge]:
    """The judge behind its canaries; the first round has begun, and is not waited for.

    Raises:
        ConfigError: `canary_file` cannot be used.
    """
    assert section.canary_file is not None
    option = f"verifier.http.{name}.canary_file"
    cases = read_cases(section.canary_file, option=option)
    if not tells_apart(cases):
        raise ConfigError(
            f"{option} {section.canary_file}: give at least one line whose expect.passed is true, "
            "and one where it is false"
        )
    watched_judge = WatchedJudge(name, section, judge, cases, pace=pace or Pace())
    task = asyncio.get_running_loop().create_task(watched_judge.watch())
    task.add_done_callback(watched_judge.ended)
    try:
        yield watched_judge
    finally:
        task.cancel()
        await asyncio.wait([task])


class WatchedJudge:
    """Asks a judge while its canaries are judged as they should be."""

    def __init__(
        self,
        name: str,
        section: HttpVerifierSection,
        judge: Judge,
        cases: Sequence[Case],
        *,
        pace: Pace,
    ) -> None:
        self._name = name
        self._section = section
        self._judge = judge
        self._cases = cases
        self._pace = pace
        self._why = "no canary was answered yet"
        self._right_at = 0.0
        self._num_doubts = 0
        self._believed = asyncio.Event()
        self._waits = Waits(pace.monotonic)
        self._enter(CanaryState.UNKNOWN)

    @property
    def doubt(self) -> str:
        """Why it is not believed; empty while it is."""
        if self._state is CanaryState.RIGHT:
            return ""
        return f"verifier {self._name!r} is not believed: {self._why}"

    def obstacle(self) -> Obstacle | None:
        """What checks wait for; from any thread."""
        oldest = self._waits.oldest()
        if oldest is None or self._state is CanaryState.RIGHT:
            return self._judge.obstacle()
        num_checks, age_s, _ = oldest
        words = f"the verifier {self._name!r}: {Want.CANARY} ({self._why}); {num_checks} in hand"
        return Obstacle(detail=words, for_s=age_s)

    async def judge(self, request: VerifyRequest) -> Judgement:
        """The judge's own answer, if it is believed from before the question until after it."""
        with self._waits.check():
            await self._until_believed()
        num_doubts = self._num_doubts
        judgement = await self._judge.judge(request)
        if self._num_doubts != num_doubts:
            raise VerifierError(f"{self._name}: was asked while a canary failed ({self._why})")
        return judgement

    async def _until_believed(self) -> None:
        if self._believed.is_set():
            return
        try:
            with metrics.WAITING.labels(self._name).track_inprogress():
                async with asyncio.timeout(self._section.outage_s):
                    await self._believed.wait()
        except TimeoutError as cause:
            raise VerifierError(
                f"{self._name}: not believed for {self._section.outage_s:g} s: {self._why}"
            ) from cause

    async def watch(self) -> None:
        """Ask the canaries for ever."""
        pause = _FIRST_PAUSE_S
        while True:
            if await self._is_right():
                pause = _FIRST_PAUSE_S
                await asyncio.sleep(self._section.canary_every_s)
            else:
                await asyncio.sleep(min(pause, self._section.canary_every_s))
                pause = min(2 * pause, _LONGEST_PAUSE_S)

    def ended(self, task: asyncio.Task[None]) -> None:
        """Believe nothing any more when the watch itself has failed."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._doubt(CanaryState.WRONG, f"its canaries ended ({type(error).__name__}: {error})")

    async def _is_right(self) -> bool:
        """One round."""
        try:
            for number, case in enumerate(self._cases, start=1):
                await self._ask(case, number)
        except _JudgedWrongly as wrong:
            self._doubt(CanaryState.WRONG, str(wrong))
            return False
        except _NoAnswer as silence:
            believed_s = _PERIODS_BELIEVED * self._section.canary_every_s
            is_recent = self._pace.monotonic() - self._right_at <= believed_s
            if self._state is not CanaryState.RIGHT or not is_recent:
                state = CanaryState.UNKNOWN if self._believed.is_set() else self._state
                self._doubt(state, str(silence))
            return False
        self._right_at = self._pace.monotonic()
        self._enter(CanaryState.RIGHT)
        return True

    async def _ask(self, case: Case, number: int) -> None:
        known = "right" if case.passes else "wrong"
        what = f"canary {number}, known to be {known},"
        request = case.request.model_copy(
            update={"verifier": self._name, "trajectory_id": secrets.token_hex(16)}
        )
        try:
            judgement = await self._judge.judge(request)
        except (VerifierError, TimeoutError) as error:
            raise _NoAnswer(f"{what} got no score: {error}") from error
        if (judgement.reward >= _FULL) is not case.passes:
            raise _JudgedWrongly(f"{what} got reward {judgement.reward:g}")

    def _doubt(self, state: CanaryState, why: str) -> None:
        self._why = why
        self._num_doubts += 1
        log.error("verifier not believed", extra={"verifier": self._name, "reason": why})
        self._enter(state)

    def _enter(self, state: CanaryState) -> None:
        self._state = state
        metrics.CANARY.labels(self._name).set(state)
        if state is CanaryState.RIGHT:
            self._believed.set()
        else:
            self._believed.clear()
