"""One verifier outside this system, asked with every guard between its answer and the loss.

| waits for | bound | unblocked by |
|---|---|---|
| a free slot | `max_concurrency` checks | another check's end: its turn + `total_timeout_s` |
| a turn | `max_concurrency / max_per_second` s | time; a second try's is in its total |
| an answer | `try_timeout_s` | the answer, or the deadline |
| the next try | `total_timeout_s` for all of them | time |
| the circuit | `outage_s` | three probes that succeed, or the deadline |
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rlsd.config import HttpVerifierSection
from rlsd.errors import ConfigError, VerifierError
from rlsd.telemetry.activity import WORTH_SAYING_S, Obstacle
from rlsd.verifier_client import metrics
from rlsd.verifier_client.addresses import ForbiddenAddress
from rlsd.verifier_client.circuit import OPEN_S, Circuit, CircuitState, Outage, Try
from rlsd.verifier_client.connections import BrokenAnswer, Unavailable
from rlsd.verifier_client.exchange import Exchange
from rlsd.verifier_client.requests import idempotency_key, redacted
from rlsd.verifier_client.retries import parse_retry_after, pause_s
from rlsd.verifier_client.turns import Turns
from rlsd.verifier_client.waits import WaitingCheck, Waits, Want
from rlsd.verifier_contract.native import (
    ContractError,
    ErrorAnswer,
    ScoredAnswer,
    VerifyRequest,
)

REQUEST_LIMIT_BYTES = 1024 * 1024
_QUOTED = 200
_DRAW_S = 0.1
_MOST_FAILED_IN_OUTAGE = 3
"""Then it is this check that fails, whatever the others do: when only such checks are left, no
probe of theirs would ever close the circuit."""


class TooLarge(VerifierError):
    """The request has more than `REQUEST_LIMIT_BYTES`."""


class _FailedInOutage(Exception):
    """A try failed and the circuit is open."""

    def __init__(self, failure: Unavailable) -> None:
        super().__init__(str(failure))
        self.failure = failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Time and chance; tests bring their own."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    random: Callable[[], float] = random.random
    open_s: float = OPEN_S
    """How long an open circuit stays open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A score that the run can use."""

    reward: float
    """0 to 1."""
    detail: str


class HttpVerifier:
    """Asks one configured verifier; any number of callers at once."""

    def __init__(self, name: str, section: HttpVerifierSection, *, pace: Pace) -> None:
        self._name = name
        self._section = section
        self._pace = pace
        self._exchange = Exchange(section, wall=pace.wall)
        self._slots = asyncio.Semaphore(section.max_concurrency)
        self._turns = Turns(section.max_per_second, clock=pace.monotonic)
        self._waits = Waits(pace.monotonic)
        self._last_failure = ""
        metrics.create_of(name)
        self._is_away = False
        self._circuit = Circuit(clock=pace.monotonic, open_s=pace.open_s, tell=self._hear)

    def _hear(self, state: CircuitState) -> None:
        metrics.CIRCUIT.labels(self._name).set(state)
        self._is_away = state is not CircuitState.CLOSED

    def obstacle(self) -> Obstacle | None:
        """What checks wait for, when that is worth saying; from any thread."""
        if (oldest := self._waits.oldest()) is None:
            return None
        num_checks, age_s, want = oldest
        want = Want.CIRCUIT if self._is_away else want
        if not self._is_away and age_s < WORTH_SAYING_S:
            return None
        is_failing = want in (Want.CIRCUIT, Want.RETRY)
        why = f"{want} ({self._last_failure})" if is_failing and self._last_failure else str(want)
        return Obstacle(
            detail=f"the verifier {self._name!r}: {why}; {num_checks} in hand", for_s=age_s
        )

    async def judge(self, request: VerifyRequest) -> Judgement:
        """What the verifier says about a completion.

        Raises:
            TooLarge: the request is; nothing was sent.
            TimeoutError: no answer within `total_timeout_s`.
            VerifierError: whatever else keeps a score from being had.
        """
        request = redacted(request, self._section.redact)
        if len(self._exchange.encode(request)) > REQUEST_LIMIT_BYTES:
            raise TooLarge(f"a request of more than {REQUEST_LIMIT_BYTES} bytes")
        with self._waits.check() as check:
            answer = await self._answer(request, check)
        return judgement(self._name, self._section, answer)

    async def _answer(self, request: VerifyRequest, check: WaitingCheck) -> ScoredAnswer:
        until = self._pace.monotonic() + self._section.outage_s
        num_failed = 0
        while True:
            await self._wait_for_the_circuit(until)
            check.want = Want.PLACE
            try:
                async with self._slots:
                    with metrics.OUTSTANDING.labels(self._name).track_inprogress():
                        answer = await self._tries(request, check)
            except _FailedInOutage as outage:
                num_failed += 1
                if num_failed > _MOST_FAILED_IN_OUTAGE:
                    raise self._given_up(outage.failure) from outage
                continue
            if answer is not None:
                return answer

    async def _wait_for_the_circuit(self, until: float) -> None:
        if self._circuit.state is CircuitState.CLOSED:
            return
        try:
            with metrics.WAITING.labels(self._name).track_inprogress():
                await self._circuit.passable(until=until)
        except Outage as cause:
            raise VerifierError(
                f"{self._name}: not available for {self._section.outage_s:g} s"
            ) from cause
        # Who makes the probes is drawn: one request that always fails, first in the queue every
        # time, would keep the circuit open for all the others.
        await asyncio.sleep(self._pace.random() * _DRAW_S)

    async def _tries(self, request: VerifyRequest, check: WaitingCheck) -> ScoredAnswer | None:
        """The answer; None when no try is admitted, so that the check waits again.

        Raises:
            _FailedInOutage: a try of this check opened the circuit or kept it open.
        """
        await self._turn(check, until=math.inf)
        ends_at = self._pace.monotonic() + self._section.total_timeout_s
        for attempt in range(self._section.retries + 1):
            admitted = self._circuit.admit()
            if admitted is None:
                return None
            if attempt:
                metrics.RETRIES.labels(self._name).inc()
            check.want = Want.ANSWER
            try:
                return await self._try(request, admitted, ends_at)
            except Unavailable as failure:
                self._last_failure = str(failure)[:_QUOTED]
                if self._circuit.state is not CircuitState.CLOSED:
                    raise _FailedInOutage(failure) from failure
                check.want = Want.RETRY
                may_try = attempt < self._section.retries
                if not (may_try and await self._paused(attempt, failure, check, ends_at)):
                    raise self._given_up(failure) from failure
        raise AssertionError("the last try returns or raises")

    async def _paused(
        self, attempt: int, failure: Unavailable, check: WaitingCheck, ends_at: float
    ) -> bool:
        """Wait for the next try; False, at once, when there is none in time."""
        pause = pause_s(
            attempt,
            retry_after_s=parse_retry_after(failure.retry_after, now=self._pace.wall()),
            random=self._pace.random,
        )
        if self._pace.monotonic() + pause >= ends_at:
            return False
        await asyncio.sleep(pause)
        return await self._turn(check, until=ends_at)

    async def _turn(self, check: WaitingCheck, *, until: float) -> bool:
        """Wait for a turn; False, at once, when it comes later than that."""
        turn_s = self._turns.take(within_s=until - self._pace.monotonic())
        if turn_s is None:
            return False
        if turn_s > 0:
            check.want = Want.TURN
            await asyncio.sleep(turn_s)
        return True

    def _given_up(self, failure: Unavailable) -> Exception:
        kind = TimeoutError if failure.is_timeout else VerifierError
        return kind(f"{self._name}: {failure}")

    async def _try(self, request: VerifyRequest, admitted: Try, ends_at: float) -> ScoredAnswer:
        """One request; raises Unavailable when another may succeed, else VerifierError."""
        timeout_s = min(self._section.try_timeout_s, ends_at - self._pace.monotonic())
        timed = request.model_copy(update={"deadline_ms": int(timeout_s * 1000)})
        key = idempotency_key(request)
        with admitted, self._counted() as count:
            try:
                answer = await self._exchange.ask(timed, key=key, timeout_s=timeout_s)
                if isinstance(answer, ErrorAnswer) and answer.retryable:
                    raise Unavailable(f"says error: {_words(answer)}")
            except Unavailable as failure:
                admitted.failed()
                count("timeout" if failure.is_timeout else "unavailable")
                raise
            except (ForbiddenAddress, ConfigError) as error:
                count("forbidden")
                raise VerifierError(f"{self._name}: {error}") from error
            except (BrokenAnswer, ContractError) as error:
                admitted.succeeded()  # it is there, and another try would be answered alike
                count("broken")
                raise VerifierError(f"{self._name}: {error}") from error
            admitted.succeeded()
            count(answer.outcome)
        if isinstance(answer, ErrorAnswer):
            raise VerifierError(f"{self._name} says error: {_words(answer) or 'no reason given'}")
        return answer

    @contextlib.contextmanager
    def _counted(self) -> Iterator[Callable[[str], None]]:
        started = self._pace.monotonic()
        try:
            yield lambda result: metrics.TRIES.labels(self._name, result).inc()
        finally:
            metrics.DURATION.labels(self._name).observe(self._pace.monotonic() - started)


def _words(answer: ErrorAnswer) -> str:
    return f"{answer.code[:80]} {answer.detail[:_QUOTED]}".strip()


def judgement(name: str, section: HttpVerifierSection, answer: ScoredAnswer) -> Judgement:
    """The score clamped to the configured range and mapped to 0 … 1."""
    low, high = section.score_min, section.score_max
    score = min(max(answer.score, low), high)
    if score != answer.score:
        metrics.CLAMPED.labels(name).inc()
    detail = answer.detail or f"score {answer.score:g}"
    return Judgement(reward=(score - low) / (high - low), detail=f"{name}: {detail}")


def http_verifier(
    name: str, section: HttpVerifierSection, *, pace: Pace | None = None
) -> HttpVerifier:
    """The verifier of a configured name; raises ConfigError naming what is wrong."""
    try:
        return HttpVerifier(name, section, pace=pace or Pace())
    except ConfigError as cause:
        raise ConfigError(f"verifier.http.{name}: {cause}") from cause
