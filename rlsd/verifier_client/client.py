"""One verifier outside this system, asked with every guard between its answer and the loss.

| waits for | bound | unblocked by |
|---|---|---|
| a free slot | `max_concurrency` checks | another check's end, at most `total_timeout_s` later |
| an answer | `try_timeout_s` | the answer, or the deadline |
| the next try | `total_timeout_s` for all of them | time |
| the circuit | `outage_s` | three probes that succeed, or the deadline |
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rlsd.config import HttpVerifierSection
from rlsd.errors import ConfigError, VerifierError
from rlsd.verifier_client import metrics
from rlsd.verifier_client.adapters.adapter import Adapter
from rlsd.verifier_client.adapters.choice import adapter_for
from rlsd.verifier_client.addresses import ForbiddenAddress, parse_endpoint
from rlsd.verifier_client.circuit import OPEN_S, Circuit, CircuitState, Outage, Try
from rlsd.verifier_client.connections import (
    BrokenAnswer,
    Connections,
    Reply,
    Unavailable,
    tls_context,
)
from rlsd.verifier_client.credentials import Credentials
from rlsd.verifier_client.retries import is_retryable, parse_retry_after, pause_s
from rlsd.verifier_contract.native import (
    Answer,
    ContractError,
    ErrorAnswer,
    ScoredAnswer,
    VerifyRequest,
    read_json,
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

    def __init__(
        self, name: str, section: HttpVerifierSection, connections: Connections, *, pace: Pace
    ) -> None:
        self._name = name
        self._section = section
        self._connections = connections
        self._pace = pace
        self._adapter: Adapter = adapter_for(section)
        self._credentials = Credentials(bearer=section.bearer_file, hmac=section.hmac_files)
        self._slots = asyncio.Semaphore(section.max_concurrency)
        self._circuit = Circuit(
            clock=pace.monotonic, open_s=pace.open_s, tell=metrics.CIRCUIT.labels(name).set
        )
        self._send_headers(b"", "")  # a secret that cannot be read is known now

    async def judge(self, request: VerifyRequest) -> Judgement:
        """What the verifier says about a completion.

        Raises:
            TooLarge: the request is; nothing was sent.
            TimeoutError: no answer within `total_timeout_s`.
            VerifierError: whatever else keeps a score from being had.
        """
        request = redacted(request, self._section.redact)
        if len(self._encode(request)) > REQUEST_LIMIT_BYTES:
            raise TooLarge(f"a request of more than {REQUEST_LIMIT_BYTES} bytes")
        until = self._pace.monotonic() + self._section.outage_s
        num_failed = 0
        while True:
            await self._wait_for_the_circuit(until)
            try:
                async with self._slots:
                    with metrics.OUTSTANDING.labels(self._name).track_inprogress():
                        answer = await self._tries(request)
            except _FailedInOutage as outage:
                num_failed += 1
                if num_failed > _MOST_FAILED_IN_OUTAGE:
                    raise self._given_up(outage.failure) from outage
                continue
            if answer is not None:
                return judgement(self._name, self._section, answer)

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

    async def _tries(self, request: VerifyRequest) -> ScoredAnswer | None:
        """The answer; None when no try is admitted, so that the check waits again.

        Raises:
            _FailedInOutage: a try of this check opened the circuit or kept it open.
        """
        ends_at = self._pace.monotonic() + self._section.total_timeout_s
        for attempt in range(self._section.retries + 1):
            admitted = self._circuit.admit()
            if admitted is None:
                return None
            if attempt:
                metrics.RETRIES.labels(self._name).inc()
            try:
                return await self._try(request, admitted, ends_at)
            except Unavailable as failure:
                if self._circuit.state is not CircuitState.CLOSED:
                    raise _FailedInOutage(failure) from failure
                pause = pause_s(
                    attempt,
                    retry_after_s=parse_retry_after(failure.retry_after, now=self._pace.wall()),
                    random=self._pace.random,
                )
                is_late = self._pace.monotonic() + pause >= ends_at
                if attempt == self._section.retries or is_late:
                    raise self._given_up(failure) from failure
                await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    def _given_up(self, failure: Unavailable) -> Exception:
        kind = TimeoutError if failure.is_timeout else VerifierError
        return kind(f"{self._name}: {failure}")

    async def _try(self, request: VerifyRequest, admitted: Try, ends_at: float) -> ScoredAnswer:
        """One request; raises Unavailable when another may succeed, else VerifierError."""
        timeout_s = min(self._section.try_timeout_s, ends_at - self._pace.monotonic())
        body = self._encode(request.model_copy(update={"deadline_ms": int(timeout_s * 1000)}))
        with admitted, self._counted() as count:
            try:
                headers = self._send_headers(body, idempotency_key(request))
                reply = await self._connections.post(body, headers, timeout_s=timeout_s)
                answer = self._answer(reply, request)
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
            words = f"{answer.code[:80]} {answer.detail[:_QUOTED]}".strip() or "no reason given"
            raise VerifierError(f"{self._name} says error: {words}")
        return answer

    def _answer(self, reply: Reply, request: VerifyRequest) -> Answer:
        if is_retryable(reply.status):
            raise Unavailable(
                f"status {reply.status}", retry_after=reply.headers.get("retry-after")
            )
        if 300 <= reply.status < 400:
            raise BrokenAnswer(f"status {reply.status}; redirects are not followed")
        if reply.status != 200:
            raise BrokenAnswer(f"status {reply.status}")
        answer = self._adapter.answer(read_json(reply.body), request)
        if isinstance(answer, ErrorAnswer) and answer.retryable:
            words = f"{answer.code[:80]} {answer.detail[:_QUOTED]}".strip()
            raise Unavailable(f"says error: {words}")
        return answer

    def _encode(self, request: VerifyRequest) -> bytes:
        try:
            return json.dumps(self._adapter.body(request), allow_nan=False).encode("ascii")
        except (ValueError, RecursionError) as cause:
            raise VerifierError(
                f"invalid task: {self._name} cannot be sent it ({cause})"
            ) from cause

    def _send_headers(self, body: bytes, key: str) -> dict[str, str]:
        signed = self._credentials.headers(
            message_id=key, timestamp=int(self._pace.wall()), body=body
        )
        return {"Idempotency-Key": key, **signed}

    @contextlib.contextmanager
    def _counted(self) -> Iterator[Callable[[str], None]]:
        started = self._pace.monotonic()
        try:
            yield lambda result: metrics.TRIES.labels(self._name, result).inc()
        finally:
            metrics.DURATION.labels(self._name).observe(self._pace.monotonic() - started)


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
        return HttpVerifier(name, section, connections_of(section), pace=pace or Pace())
    except ConfigError as cause:
        raise ConfigError(f"verifier.http.{name}: {cause}") from cause


def connections_of(section: HttpVerifierSection) -> Connections:
    """Guarded connections to the configured address; raises ConfigError."""
    endpoint = parse_endpoint(section.url, default_path=adapter_for(section).path)
    tls = None
    if endpoint.is_encrypted:
        tls = tls_context(ca=section.ca_file, certificate=section.cert_file, key=section.key_file)
    return Connections(
        endpoint,
        allowed=section.allow_cidrs,
        tls=tls,
        connect_timeout_s=section.connect_timeout_s,
    )


def idempotency_key(request: VerifyRequest) -> str:
    """The same for every try of one check, another for every other check.

    A trajectory that was sampled anew after a crash keeps its id and may have another text: so the
    key covers all that a score can depend on.
    """
    content = request.model_dump(mode="json", by_alias=True, exclude={"deadline_ms"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode("ascii")).hexdigest()


def redacted(request: VerifyRequest, fields: tuple[str, ...]) -> VerifyRequest:
    """The request without some of its fields, named with dots; their defaults take their place."""
    if not fields:
        return request
    content = request.model_dump(mode="json", by_alias=True)
    for field in fields:
        *parents, last = field.split(".")
        table: Any = content
        for parent in parents:
            table = table.get(parent) if isinstance(table, dict) else None
        if isinstance(table, dict):
            table.pop(last, None)
    return VerifyRequest.model_validate(content)
