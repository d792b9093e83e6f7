"""How a client reaches a service: one channel, message limits, retries within the deadline."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rlsd.errors import ServiceError

MESSAGE_LIMIT_BYTES = 256 * 1024 * 1024
"""Sixteen completions of 32k tokens with 64 support tokens each just fit."""

_RETRY_POLICY = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to `host:port`. gRPC itself retries UNAVAILABLE with jitter inside the deadline."""
    return grpc.aio.insecure_channel(
        address,
        options=[
            ("grpc.service_config", _RETRY_POLICY),
            ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.enable_retries", 1),
        ],
    )


async def wait_until_serving(address: str, *, timeout_s: float) -> None:
    """Return once the health service of `address` answers SERVING.

    Raises:
        ServiceError: not within `timeout_s`.
    """
    async with open_channel(address) as channel:
        try:
            await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=timeout_s, wait_for_ready=True
            )
        except grpc.aio.AioRpcError as cause:
            raise ServiceError(
                f"service at {address}: not serving within {timeout_s:g} s ({cause.details()})"
            ) from cause


@contextlib.asynccontextmanager
async def calling(what: str) -> AsyncIterator[None]:
    """Turn a failed call into a ServiceError that says what was called and why it failed."""
    try:
        yield
    except grpc.aio.AioRpcError as cause:
        raise ServiceError(f"{what}: {cause.code().name}: {cause.details()}") from cause
