"""HTTP to one inference server: each answer is whole, within a deadline and a size, or an error.

Each request has a connection of its own. One that is kept is closed by the server after a few idle
seconds, and a request sent at that moment is lost; and with many outstanding, finding a kept one
costs more than making one.

A server that cannot be reached is an `EngineError`: the work is given back and done again, here
once the server is back, or by another replica.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from rlsd.errors import ConfigError, EngineError
from rlsd.telemetry import tracing
from rlsd.verifier_client.credentials import SecretFile

log = logging.getLogger(__name__)

_CONNECT_TIMEOUT_S = 5.0
_ORDER_BYTES = 64 * 1024
"""Of an answer that says no more than that something was done."""
_START_TIMEOUT_S = 900.0
"""A large model takes minutes to load."""
_LOOK_EVERY_S = 1.0

A = TypeVar("A", bound=BaseModel)


class Refusal(EngineError):
    """The server answered with another status than 200."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.http_status = status


class ServerConnection:
    """An async context manager; a cancelled request closes its connection."""

    def __init__(
        self,
        url: str,
        *,
        key_file: Path | None = None,
        max_requests: int,
        timeout_s: float,
    ) -> None:
        """Check the address; nothing is sent.

        Args:
            key_file: holds the bearer token; read again when it changes.
            max_requests: of `ask` at once; further ones wait here.
            timeout_s: of one request, until its answer is complete.

        Raises:
            ConfigError: the address cannot be one.
        """
        self.url = _checked(url)
        self.timeout_s = timeout_s
        self._key = SecretFile(key_file) if key_file is not None else None
        self._places = asyncio.Semaphore(max_requests)
        self._client: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=_CONNECT_TIMEOUT_S),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            verify=self.url.startswith("https"),  # else certificates are read for nothing
            trust_env=False,  # an inference server is not behind the machine's proxy
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._client is not None
        await self._client.aclose()

    async def until_up(self, path: str) -> None:
        """Wait until a GET of `path` is answered with 200.

        Raises:
            EngineError: it was not within 15 minutes, or the server refuses.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        is_told = False
        while True:
            try:
                await self._exchange("GET", path, None, _ORDER_BYTES, _CONNECT_TIMEOUT_S)
                return
            except EngineError as error:
                is_final = isinstance(error, Refusal) and error.http_status < 500
                if is_final or time.monotonic() > deadline:
                    raise
                if not is_told:
                    log.warning("waiting for the engine's server", extra={"reason": str(error)})
                    is_told = True
            await asyncio.sleep(_LOOK_EVERY_S)

    async def ask(self, path: str, body: Mapping[str, Any], answer: type[A], *, limit: int) -> A:
        """Have something computed.

        Args:
            answer: what the JSON must be.
            limit: bytes of the answer.

        Raises:
            EngineError: no such answer within the deadline.
        """
        async with self._places:
            found = await self._exchange("POST", path, body, limit, self.timeout_s)
        try:
            return answer.model_validate_json(found)
        except ValidationError as cause:
            first = cause.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the whole"
            raise EngineError(
                f"{self.url}{path}: not the answer of such a server ({where}: {first['msg']})"
            ) from cause

    async def order(
        self, path: str, body: Mapping[str, Any] | None = None, *, timeout_s: float | None = None
    ) -> bytes:
        """Have something done, before all that waits for a place; errors as `ask`."""
        return await self._exchange("POST", path, body, _ORDER_BYTES, timeout_s or self.timeout_s)

    async def _exchange(
        self, method: str, path: str, body: Mapping[str, Any] | None, limit: int, timeout_s: float
    ) -> bytes:
        assert self._client is not None
        headers = {"Accept-Encoding": "identity", "Content-Type": "application/json"}
        headers |= tracing.headers()
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key.text()}"
        content = None if body is None else json.dumps(body).encode()
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._client.stream(
                    method, self.url + path, content=content, headers=headers
                ) as reply,
            ):
                found = await _read(reply, limit)
        except TimeoutError as cause:
            raise EngineError(f"{self.url}{path}: no answer within {timeout_s:g} s") from cause
        except (httpx.ConnectError, httpx.ConnectTimeout) as cause:
            raise EngineError(
                f"{self.url} cannot be reached ({str(cause) or type(cause).__name__}); start the "
                f"server, or correct engine_url"
            ) from cause
        except httpx.HTTPError as cause:
            raise EngineError(
                f"{self.url}{path}: no whole answer ({str(cause) or type(cause).__name__})"
            ) from cause
        if found is None:
            raise EngineError(f"{self.url}{path}: an answer of more than {limit} bytes")
        if reply.status_code != httpx.codes.OK:
            raise Refusal(
                f"{self.url}{path}: HTTP {reply.status_code}{_reason(reply.status_code, found)}",
                reply.status_code,
            )
        return found


async def _read(reply: httpx.Response, limit: int) -> bytes | None:
    """The body as it was sent, or None when it is longer than `limit`."""
    body = bytearray()
    async for part in reply.aiter_raw():
        body += part
        if len(body) > limit:
            return None
    return bytes(body)


def _checked(url: str) -> str:
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as cause:
        raise ConfigError(f"engine_url {url!r}: {cause}") from cause
    if parts.scheme not in ("http", "https") or not parts.host or parts.userinfo or parts.query:
        raise ConfigError(
            f"engine_url {parts.host!r}: give http://host:port or https://…, and a key as a file "
            f"(engine_key_file)"
        )
    return url.rstrip("/")


def _reason(status: int, body: bytes) -> str:
    """What the server says of its refusal, on one line."""
    if status in (401, 403) and b"scale-out" not in body.lower():
        return "; engine_key_file must hold the server's key"
    text = " ".join(body.decode(errors="replace").split())
    try:
        found = json.loads(body)
        for name in ("error", "message", "detail"):
            if isinstance(found, dict) and name in found:
                found = found[name]
        text = " ".join(str(found).split())
    except ValueError:
        pass
    return f": {text[:300]}" if text else ""
