"""Run one service process: start, serve, drain, stop. The only place that handles signals.

A background loop's failure drains the server and then propagates; nothing is swallowed. A stop goes
in this order: loops stop taking work and hand back what they hold, in-flight calls drain, the port
closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from rlsd.errors import ConfigError
from rlsd.serving.channel import MESSAGE_LIMIT_BYTES
from rlsd.serving.http import split_address
from rlsd.serving.interceptors import ErrorStatus, ServerSpans
from rlsd.telemetry import tracing
from rlsd.telemetry.activity import Activity, Part, State
from rlsd.telemetry.logs import adopt_libraries

log = logging.getLogger(__name__)

_HEALTH_S = 1.0

Background = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Where a service listens and how long it may drain."""

    bind: str = "127.0.0.1:0"
    """host:port; port 0 takes a free one."""
    max_concurrent_rpcs: int = 1024
    drain_s: float = 20.0
    """Seconds that loops and in-flight calls may run on after SIGTERM."""


async def serve(
    config: ServerConfig,
    register: Callable[[grpc.aio.Server], str],
    background: Sequence[Background] = (),
    *,
    activity: Activity | None = None,
    lacks: Callable[[], str] = lambda: "",
    on_ready: Callable[[int], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT, or until a background loop returns or raises.

    Args:
        register: adds the servicer to the server and returns its full proto name.
        background: loops that return soon after the event is set. One that returns earlier (a
            learner that finished its steps) ends the whole service.
        activity: hears whether the service is up, stopping, and whether its event loop turns.
        lacks: what it needs to do its work and does not have; while it lacks anything, its health
            is NOT_SERVING.

    Raises:
        ConfigError: the port is taken.
        ExceptionGroup: a background loop raised; the server has been drained first.
    """
    server = grpc.aio.server(
        # The spans are inside: they see the error before it is a status.
        interceptors=[ErrorStatus(), ServerSpans()] if tracing.is_on() else [ErrorStatus()],
        maximum_concurrent_rpcs=config.max_concurrent_rpcs,
        options=[
            ("grpc.so_reuseport", 0),  # else two services share a port and each gets half the calls
            ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
            ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
        ],
    )
    checker = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    service_name = register(server)
    reflection.enable_server_reflection(
        (service_name, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name), server
    )
    port = _bind(server, config.bind)
    adopt_libraries()
    activity = activity or Activity()
    async with _stop_event() as stopping, activity.beating(Part.EVENTS):
        await server.start()
        telling = asyncio.create_task(_tell_health(checker, (service_name, ""), lacks))
        await _set_health(checker, (service_name, ""), lacks)
        log.info("service ready", extra={"port": port})
        activity.is_serving = True
        on_ready(port)
        try:
            await run_until_stopped(background, stopping, config.drain_s, activity)
        finally:
            telling.cancel()
            await checker.enter_graceful_shutdown()
            await server.stop(config.drain_s)
            log.info("service stopped")


async def _tell_health(
    checker: HealthServicer, names: Sequence[str], lacks: Callable[[], str]
) -> None:
    """Say now and then whether the service can do its work; never returns."""
    while True:
        await asyncio.sleep(_HEALTH_S)
        await _set_health(checker, names, lacks)


async def _set_health(
    checker: HealthServicer, names: Sequence[str], lacks: Callable[[], str]
) -> None:
    status = health_pb2.HealthCheckResponse
    for name in names:
        await checker.set(name, status.NOT_SERVING if lacks() else status.SERVING)


def _bind(server: grpc.aio.Server, bind: str) -> int:
    split_address(bind, "--bind")  # gRPC takes a port above 65535 modulo 65536
    try:
        return server.add_insecure_port(bind)
    except RuntimeError as cause:
        raise ConfigError(
            f"--bind {bind}: the address is in use or not of this machine; choose another port"
        ) from cause


async def run_until_stopped(
    background: Sequence[Background],
    stopping: asyncio.Event,
    drain_s: float,
    activity: Activity,
) -> None:
    """Run the loops; after the stop event they have `drain_s` to return."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_end_service_with(loop, stopping)) for loop in background]
        await stopping.wait()
        activity.is_serving = False
        activity.hold(State.STOPPING, "what is in hand is finished first")
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=drain_s)
            for task in late:
                log.warning("loop did not drain in time", extra={"drain_s": drain_s})
                task.cancel()


async def _end_service_with(loop: Background, stopping: asyncio.Event) -> None:
    """Run one loop; whichever way it ends, the service ends with it."""
    try:
        await loop(stopping)
    finally:
        stopping.set()


@contextlib.asynccontextmanager
async def _stop_event() -> AsyncIterator[asyncio.Event]:
    """An event set by SIGTERM or SIGINT; handlers are removed on exit."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    try:
        yield stopping
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
