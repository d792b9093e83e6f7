"""How a client reaches a service: one channel to its replicas, message limits, retries."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rlsd.errors import ServiceError
from rlsd.serving.interceptors import ClientSpans, with_metadata
from rlsd.telemetry import tracing

MESSAGE_LIMIT_BYTES = 256 * 1024 * 1024
"""Sixteen completions of 32k tokens with 64 support tokens each just fit."""

_LOOK_EVERY_S = 0.5
_NOT_YET = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.NOT_FOUND,  # by a proxy: the application is not deployed
    grpc.StatusCode.DEADLINE_EXCEEDED,
)

_SERVICE_CONFIG = json.dumps(
    {
        # Where a name stands for several replicas (a headless Service), they take turns.
        "loadBalancingConfig": [{"round_robin": {}}],
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2,
                    # CANCELLED: of calls whose replica was being stopped; not of our own.
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            }
        ],
    }
)


_BEHIND_PROXY = re.compile(r"(?P<proxy>.+:\d+)/(?P<application>[\w-]+)")


class _ToApplication(grpc.aio.UnaryUnaryClientInterceptor):
    """Names the application that a Ray Serve proxy is to pass a call to."""

    def __init__(self, application: str) -> None:
        self._application = application

    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Any],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        """The same call with one more word of metadata."""
        named = with_metadata(client_call_details, application=self._application)
        return await continuation(named, request)


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to `host:port`, or to `host:port/application` behind a Ray Serve proxy.

    gRPC itself retries with jitter inside the deadline.
    """
    behind = _BEHIND_PROXY.fullmatch(address)
    interceptors: list[grpc.aio.ClientInterceptor] = [ClientSpans()] if tracing.is_on() else []
    if behind:
        interceptors.append(_ToApplication(behind["application"]))
    return grpc.aio.insecure_channel(
        behind["proxy"] if behind else address,
        interceptors=interceptors or None,
        options=[
            ("grpc.service_config", _SERVICE_CONFIG),
            ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.enable_retries", 1),
        ],
    )


async def wait_until_serving(address: str, *, timeout_s: float) -> None:
    """Return once the health service of `address` answers SERVING.

    Raises:
        ServiceError: not within `timeout_s`, or something else is there.
    """
    said: str | None = "no answer"
    async with open_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    said = await _refusal(health, address, timeout_s)
                    if said is None:
                        return
                    await asyncio.sleep(_LOOK_EVERY_S)
    raise ServiceError(f"service at {address}: not serving within {timeout_s:g} s ({said})")


async def _refusal(
    health: health_pb2_grpc.HealthStub, address: str, timeout_s: float
) -> str | None:
    """Why it does not serve; behind a proxy the application may have to be deployed first."""
    try:
        await health.Check(health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True)
    except grpc.aio.AioRpcError as error:
        said = error.details() or error.code().name
        if error.code() not in _NOT_YET:
            raise ServiceError(f"service at {address}: no health service ({said})") from error
        return said
    return None


@contextlib.asynccontextmanager
async def calling(what: str) -> AsyncIterator[None]:
    """Turn a failed call into a ServiceError that says what was called and why it failed."""
    try:
        yield
    except grpc.aio.AioRpcError as cause:
        raise ServiceError(f"{what}: {cause.code().name}: {cause.details()}") from cause
