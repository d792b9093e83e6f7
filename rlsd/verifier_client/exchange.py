"""What one try says and hears: mostly one request, for some peers a short conversation."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Callable

from rlsd.config import HttpVerifierSection
from rlsd.errors import VerifierError
from rlsd.telemetry import tracing
from rlsd.verifier_client.adapters.adapter import Adapter, Step
from rlsd.verifier_client.adapters.choice import adapter_for
from rlsd.verifier_client.addresses import parse_endpoint
from rlsd.verifier_client.connections import (
    BrokenAnswer,
    Connections,
    Reply,
    Unavailable,
    tls_context,
)
from rlsd.verifier_client.credentials import Credentials
from rlsd.verifier_client.retries import is_retryable
from rlsd.verifier_contract.native import Answer, VerifyRequest, read_json


class Exchange:
    """Speaks to one configured verifier in its own shape."""

    def __init__(
        self, section: HttpVerifierSection, *, wall: Callable[[], float] = time.time
    ) -> None:
        """Raises ConfigError when its address, secrets or certificates cannot be used."""
        self.adapter: Adapter = adapter_for(section)
        self._connections = _connections_of(section, self.adapter)
        self._credentials = Credentials(
            bearer=section.bearer_file,
            hmac=section.hmac_files,
            bearer_header=self.adapter.bearer_header,
        )
        self._wall = wall
        self._signed(b"", "")  # a secret that cannot be read is known now

    def encode(self, request: VerifyRequest) -> bytes:
        """The body of the request; raises VerifierError when the task cannot be sent."""
        return _json(self.adapter.body(request))

    async def ask(self, request: VerifyRequest, *, key: str, timeout_s: float) -> Answer:
        """The answer of one try.

        Raises:
            Unavailable: none, or one that says to come back.
            BrokenAnswer, ContractError: one that cannot be read.
            ForbiddenAddress, ConfigError, VerifierError: nothing could be sent.
        """
        steps = itertools.count()

        async def send(step: Step) -> Reply:
            number = next(steps)
            reply = await self.send(
                _json(step.body),
                key=f"{key}.{number}" if number else key,
                timeout_s=timeout_s,
                step=step,
            )
            return _accepted(reply)

        try:
            async with asyncio.timeout(timeout_s):
                reply = await self.adapter.converse(send, self.adapter.body(request))
        except TimeoutError as cause:
            raise Unavailable(f"no answer within {timeout_s:.3g} s", is_timeout=True) from cause
        return self.adapter.answer(read_json(reply.body), request)

    async def send(
        self,
        body: bytes,
        *,
        key: str,
        timeout_s: float,
        step: Step | None = None,
        shows_credentials: bool = True,
    ) -> Reply:
        """One request with any body; any reply."""
        step = step or Step(body=None)
        headers = {"Idempotency-Key": key, **tracing.headers()}
        headers |= {**self.adapter.headers, **step.headers}
        if shows_credentials:
            headers |= self._signed(body, key)
        return await self._connections.request(
            body, headers, timeout_s=timeout_s, method=step.method, sibling=step.sibling
        )

    def _signed(self, body: bytes, key: str) -> dict[str, str]:
        return self._credentials.headers(message_id=key, timestamp=int(self._wall()), body=body)


def _accepted(reply: Reply) -> Reply:
    """A reply with status 200; raises Unavailable or BrokenAnswer."""
    status = reply.status
    if is_retryable(status):
        raise Unavailable(
            f"status {status}", http_status=status, retry_after=reply.headers.get("retry-after")
        )
    if 300 <= status < 400:
        raise BrokenAnswer(f"status {status}; redirects are not followed", http_status=status)
    if status != 200:
        raise BrokenAnswer(f"status {status}", http_status=status)
    return reply


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, allow_nan=False).encode("ascii")
    except (ValueError, RecursionError) as cause:
        raise VerifierError(f"invalid task: it cannot be sent ({cause})") from cause


def _connections_of(section: HttpVerifierSection, adapter: Adapter) -> Connections:
    endpoint = parse_endpoint(section.url, default_path=adapter.path)
    tls = None
    if endpoint.is_encrypted:
        tls = tls_context(ca=section.ca_file, certificate=section.cert_file, key=section.key_file)
    return Connections(
        endpoint,
        allowed=section.allow_cidrs,
        tls=tls,
        connect_timeout_s=section.connect_timeout_s,
    )
