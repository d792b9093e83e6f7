"""Put an application on a running Ray, watch it, and take it away again at the end."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time

import ray
from ray import serve
from ray.serve.config import gRPCOptions
from ray.serve.schema import ApplicationStatus

from rlsd.errors import ConfigError, RlsdError, ServiceError
from services.on_ray.deployments import SERVICER_FUNCTIONS, Options, build
from services.on_ray.proxy import check_proxy

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.5
_KNOCK_S = 5.0
_SAY_EVERY_S = 30.0
_LONGEST_WORDS = 500


def run(service: str, options: Options, *, port: int, http_port: int) -> None:
    """Deploy `service` and keep it until SIGTERM or SIGINT.

    Args:
        port: of Serve's gRPC proxy on every node, if Serve does not run yet.
        http_port: of its HTTP proxy, which has nothing of ours but cannot be left out.

    Raises:
        ConfigError: there is no Ray, or its Serve was started without these services.
        ConfigError: also, no replica starts, since its configuration is wrong.
        ServiceError: the deployment has failed otherwise.
    """
    application = build(service, options)
    connect()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # after Ray, which has handlers of its own
        signal.signal(number, lambda *_: stopping.set())
    start_serve(port=port, http_port=http_port)
    check_proxy(f"127.0.0.1:{port}")
    try:
        # Without an HTTP route the proxy would not know the application for gRPC either.
        target = serve.RunTarget(application, name=service, route_prefix=f"/{service}")
        serve.run_many([target], wait_for_applications_running=False)
        log.info("deployed", extra={"address": f"HOST:{port}/{service}"})
        _watch(service, stopping)
    finally:
        serve.delete(service)
        ray.shutdown()


def connect() -> None:
    """Join the Ray of `RAY_ADDRESS`, or the one on this machine.

    Raises:
        ConfigError: there is none. None is started: it would have this one machine alone.
    """
    address = os.environ.get("RAY_ADDRESS", "auto")
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as cause:
        first = str(cause).strip().splitlines()[0][:_LONGEST_WORDS]
        raise ConfigError(
            f"no Ray to deploy on ({first}); run `ray start --head`, or set RAY_ADDRESS"
        ) from cause


def _knock(address: str) -> None:
    """Raise OSError when nobody listens at `host:port`: Ray itself would try for two minutes."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()


def start_serve(*, port: int, http_port: int) -> None:
    """Start Serve with the gRPC proxy, unless it runs."""
    serve.start(
        proxy_location="EveryNode",
        http_options={"host": "127.0.0.1", "port": http_port},
        grpc_options=gRPCOptions(port=port, grpc_servicer_functions=SERVICER_FUNCTIONS),
    )


def _watch(name: str, stopping: threading.Event) -> None:
    """Say how it fares, until it is to stop or has failed."""
    said, said_at = "", 0.0
    while not stopping.wait(_LOOK_EVERY_S):
        found = serve.status().applications.get(name)
        if found is None:
            raise ServiceError(f"{name}: somebody else has deleted the application")
        if found.status is ApplicationStatus.DEPLOY_FAILED:
            said = " ".join(x.message for x in found.deployments.values()) or found.message
            raise _failure(said)(f"{name}: not deployed: {_last_line(said)}")
        now = time.monotonic()
        waits = found.status is not ApplicationStatus.RUNNING and now - said_at >= _SAY_EVERY_S
        if found.status.value != said or waits:
            said, said_at = found.status.value, now
            replicas = {x: dict(y.replica_states) for x, y in found.deployments.items()}
            log.info("application changed", extra={"status": said, "replicas": replicas})


def _failure(words: str) -> type[RlsdError]:
    """What kind of error a replica ended with, whose class is in its words alone."""
    return ConfigError if f"{ConfigError.__name__}: " in words else ServiceError


def _last_line(words: str) -> str:
    """The error that a traceback ends with."""
    lines = [x.strip() for x in words.splitlines() if x.strip()]
    return lines[-1][:_LONGEST_WORDS] if lines else "Ray does not say why (see its dashboard)"
