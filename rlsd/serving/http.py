"""HTTP beside gRPC: an ASGI application under the same lifecycle, the probes of every service.

/metrics    for Prometheus, as text or as OpenMetrics
/livez      200 while every part of the service moves, else 503: restart it
/readyz     200 while it can do its work, else 503: send it nothing
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from socketserver import ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from rlsd.errors import ConfigError
from rlsd.serving.relay import relay_metrics
from rlsd.telemetry.activity import Activity

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def split_address(address: str, option: str) -> tuple[str, int]:
    """Host and port of `host:port`; raises ConfigError naming the option."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{option} {address!r}: write it as host:port, the port below 65536")
    return host.strip("[]"), int(port)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a probe says: 200 or 503, and one line for people."""

    status: HTTPStatus
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """Whether a service lives and whether it is ready."""

    activity: Activity = field(default_factory=Activity)
    lacks: Callable[[], str] = lambda: ""
    """What it needs before it can work, beyond being up; empty when it has all."""
    has: Callable[[], str] = lambda: ""
    """What else to say of a service that is ready."""
    engine_url: str = ""
    """Of the engine server whose metrics `/engine` passes on."""

    def live(self) -> Answer:
        """Whether all of it still moves."""
        snapshot = self.activity.snapshot()
        status = HTTPStatus.SERVICE_UNAVAILABLE if snapshot.stalled else HTTPStatus.OK
        return Answer(status=status, words=snapshot.words())

    def ready(self) -> Answer:
        """Whether its health service answers SERVING and it lacks nothing."""
        lacks = self.lacks() if self.activity.is_serving else "it does not serve (yet, or any more)"
        if lacks:
            return Answer(status=HTTPStatus.SERVICE_UNAVAILABLE, words=f"not ready: {lacks}")
        has = self.has()
        return Answer(status=HTTPStatus.OK, words=f"ready: {has}" if has else "ready")

    def is_ready(self) -> bool:
        """Whether `ready` says 200."""
        return self.ready().status is HTTPStatus.OK


@contextlib.contextmanager
def probes_endpoint(address: str | None, probes: Probes) -> Iterator[None]:
    """Serve the probes of this process on `address`, if given.

    From threads of their own, so that a blocked event loop is told and not shared.
    """
    if address is None:
        yield
        return
    host, port = split_address(address, "--metrics")
    try:
        server = _server_of(host)((host, port), _SilentHandler)
    except OSError as cause:
        raise ConfigError(
            f"--metrics {address}: {cause.strerror or cause}; choose another port"
        ) from cause
    server.set_app(probes_app(probes))
    thread = Thread(target=server.serve_forever, name="probes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)


def probes_app(probes: Probes) -> WSGIApplication:
    """The WSGI application over these routes."""
    metrics = make_wsgi_app()

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        match environ.get("PATH_INFO"):
            case "/metrics":
                answered: Iterable[bytes] = metrics(environ, start_response)
                return answered
            case "/engine" if probes.engine_url:
                relayed = relay_metrics(probes.engine_url, environ.get("HTTP_ACCEPT", ""))
                status = f"{relayed.status.value} {relayed.status.phrase}"
                start_response(status, [("Content-Type", relayed.content_type)])
                return [relayed.content]
            case "/livez":
                answer = probes.live()
            case "/readyz":
                answer = probes.ready()
            case _:
                words = "there are /metrics, /livez and /readyz"
                answer = Answer(status=HTTPStatus.NOT_FOUND, words=words)
        status = f"{answer.status.value} {answer.status.phrase}"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{answer.words}\n".encode()]

    return app


class _Server(ThreadingMixIn, WSGIServer):
    """A thread for each request: a slow scrape delays no probe."""

    daemon_threads = True


class _Server6(_Server):
    address_family = socket.AF_INET6


def _server_of(host: str) -> type[_Server]:
    return _Server6 if ":" in host else _Server


class _SilentHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: standard error carries JSON lines only."""


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
