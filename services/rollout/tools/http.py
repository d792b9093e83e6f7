"""A tool behind HTTP: `POST {"tool", "arguments", "trajectory"}` → `{"answer": text}`.

| it says | that is |
|---|---|
| 200 with an answer | the answer |
| 400, 404, 409 or 422 with an answer | a refusal: the answer to arguments it can do nothing with |
| 408, 425, 429, 5xx, nothing in time, no connection | tried again with the same Idempotency-Key |
| anything else: another status, a redirect, no JSON, too large | an error at once |

A status alone is no refusal: a wrong path answers 404 too, and no policy should learn from it.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from http import HTTPStatus

from rlsd.config import HttpToolSection
from rlsd.errors import ConfigError, ToolError, VerifierError
from rlsd.telemetry import tracing
from rlsd.verifier_client.addresses import parse_endpoint
from rlsd.verifier_client.connections import Connections, Reply, Unavailable, tls_context
from rlsd.verifier_client.credentials import Credentials
from rlsd.verifier_client.retries import is_retryable, parse_retry_after, pause_s
from rlsd.verifier_contract.native import ContractError, read_json
from services.rollout import metrics
from services.rollout.tools.tool import Answer, Question

_REFUSALS = frozenset({400, 404, 409, 422})


class HttpTool:
    """Asks one configured address, with the guards of `rlsd.verifier_client`."""

    def __init__(self, name: str, section: HttpToolSection) -> None:
        """Raises ConfigError when its address, secret or certificates cannot be used."""
        self._name = name
        self._section = section
        endpoint = parse_endpoint(section.url, default_path="/")
        tls = None
        if endpoint.is_encrypted:
            tls = tls_context(ca=section.ca_file, certificate=None, key=None)
        self._connections = Connections(
            endpoint,
            allowed=section.allow_cidrs,
            tls=tls,
            connect_timeout_s=section.connect_timeout_s,
        )
        self._credentials = Credentials(bearer=section.bearer_file, hmac=())
        self._headers("", b"")  # a secret that cannot be read is known now

    async def answer(self, question: Question) -> Answer:
        """The answer to one call; raises ToolError."""
        body = json.dumps(question.content, allow_nan=False).encode("ascii")
        ends_at = time.monotonic() + self._section.total_timeout_s
        attempt = 0
        while True:
            try:
                return await self._try(body, question.key, ends_at)
            except Unavailable as failure:
                asked_s = parse_retry_after(failure.retry_after, now=time.time())
                pause = pause_s(attempt, retry_after_s=asked_s, random=random.random)
                if time.monotonic() + pause >= ends_at:
                    raise ToolError(
                        f"tool {self._name!r}: no answer within "
                        f"{self._section.total_timeout_s:g} s ({failure}); is it up?"
                    ) from failure
            except (ConfigError, VerifierError, ContractError) as error:
                raise ToolError(f"tool {self._name!r}: {error}") from error
            metrics.TOOL_RETRIES.labels(self._name).inc()
            await asyncio.sleep(pause)
            attempt += 1

    async def _try(self, body: bytes, key: str, ends_at: float) -> Answer:
        reply = await self._connections.request(
            body,
            self._headers(key, body),
            timeout_s=min(self._section.try_timeout_s, ends_at - time.monotonic()),
        )
        return _answer_of(reply)

    def _headers(self, key: str, body: bytes) -> dict[str, str]:
        signed = self._credentials.headers(message_id=key, timestamp=int(time.time()), body=body)
        return {"Idempotency-Key": key, **tracing.headers(), **signed}


def _answer_of(reply: Reply) -> Answer:
    """Raises Unavailable when another try may succeed, else ContractError."""
    status = reply.status
    if is_retryable(status):
        raise Unavailable(
            f"status {status}", http_status=status, retry_after=reply.headers.get("retry-after")
        )
    if status != HTTPStatus.OK and status not in _REFUSALS:
        raise ContractError(f"status {status}; see docs/tools.md for what it may say")
    value = read_json(reply.body)
    answer = value.get("answer") if isinstance(value, dict) else None
    if not isinstance(answer, str):
        raise ContractError(f'status {status} without {{"answer": text}}')
    return Answer(text=answer, is_refusal=status in _REFUSALS)
