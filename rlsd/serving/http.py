"""HTTP beside gRPC: an ASGI application under the same lifecycle, `/metrics` for the others."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from prometheus_client import start_http_server

from rlsd.errors import ConfigError


def split_address(address: str, option: str) -> tuple[str, int]:
    """Host and port of `host:port`; raises ConfigError naming the option."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{option} {address!r}: write it as host:port, the port below 65536")
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def metrics_endpoint(address: str | None) -> Iterator[None]:
    """Serve `/metrics` of this process on `address`, if given, from a thread of its own."""
    if address is None:
        yield
        return
    host, port = split_address(address, "--metrics")
    try:
        server, thread = start_http_server(port, addr=host)
    except OSError as cause:
        raise ConfigError(
            f"--metrics {address}: {cause.strerror or cause}; choose another port"
        ) from cause
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


async def serve_app(app: Any, address: str, stopping: asyncio.Event, *, drain_s: float) -> None:
    """Serve an ASGI application until `stopping` is set; signals stay with the lifecycle."""
    import uvicorn  # the services without HTTP do not carry it

    host, port = split_address(address, "--http")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as cause:
        listener.close()
        raise ConfigError(f"--http {address}: {cause.strerror}; choose another port") from cause
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=int(drain_s)
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext

    async def stop() -> None:
        await stopping.wait()
        server.should_exit = True

    async with asyncio.TaskGroup() as group:
        stopper = group.create_task(stop())
        await server.serve(sockets=[listener])
        stopper.cancel()
