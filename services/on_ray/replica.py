"""One replica: the service as its own process would have it, with Ray Serve's calls as its port.

| task | waits for | unblocked by |
|---|---|---|
| `_live` | engine, then the stop event | Serve's shutdown of the replica; a loop's failure |
| `_until_ready` | what `/readyz` waits for | weights, a sandbox; a failure of `_live` |
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from http import HTTPStatus
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from rlsd.config import RunConfig
from rlsd.errors import ConfigError, RlsdError, ServiceError, UnfitError
from rlsd.serving.lifecycle import run_until_stopped
from rlsd.serving.service import Service
from rlsd.telemetry.activity import Part
from rlsd.telemetry.metrics import SERVICE
from rlsd.telemetry.process import prepare_process
from rlsd.telemetry.tracing import stop_tracing

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.2
_SAY_EVERY_S = 10.0
_DRAIN_S = 20.0


class _NotHereError(Exception):
    """A call for another application."""


class Replica:
    """Opened by Serve, which sends it calls once it is ready, and replaces it if it is unwell."""

    def __init__(self, service: str, config: RunConfig, folder: str) -> None:
        enter(folder)
        prepare_process(service, run_id=config.run.id, threads=config.run.threads)
        self._name = service
        self._requests = f"rlsd.wire.v1.{service}_service_pb2"
        self._config = config
        self._service: Service | None = None
        self._life: asyncio.Task[None] | None = None
        self._unfit = ""
        self._stopping = asyncio.Event()
        self._closing = False
        self._opened = asyncio.Event()

    async def open(self) -> None:
        """Return when it is ready as `/readyz` says.

        Raises:
            RlsdError, UnfitError: it cannot be started.
        """
        self._life = asyncio.get_running_loop().create_task(self._live())
        opened = asyncio.ensure_future(self._opened.wait())
        await asyncio.wait((self._life, opened), return_when=asyncio.FIRST_COMPLETED)
        opened.cancel()
        await self._until_ready(self._life)

    async def close(self) -> None:
        """Hand back what is in hand and stop; Serve has drained the calls before."""
        self._closing = True
        self._stopping.set()
        if self._life is not None:
            await asyncio.wait([self._life], timeout=2 * _DRAIN_S)
        await asyncio.to_thread(stop_tracing)

    async def call(self, method: str, request: Any, context: Any) -> Any:
        """One call, as the gRPC server of the service's own process answers it.

        Args:
            context: Ray Serve's; it has no `abort`, a status is set and the error raised.
        """
        try:
            servicer = self._addressed(method, request, context)
            return await getattr(servicer, method)(request, context)
        except RlsdError as error:
            _tell(context, error.status, str(error))
            raise
        except _NotHereError as error:
            _tell(context, grpc.StatusCode.NOT_FOUND, str(error))
            raise
        except UnfitError as error:
            self._unfit = str(error)
            _tell(context, grpc.StatusCode.UNAVAILABLE, str(error))
            raise

    def _addressed(self, method: str, request: Any, context: Any) -> Any:
        """Who answers: the servicer, or this for gRPC's health service."""
        meant = context.application() or self._name
        if meant != self._name:
            raise _NotHereError(f"application {meant!r} is not deployed; this is {self._name!r}")
        if self._service is None:
            raise ServiceError(f"{self._name}: this replica is closed")
        if isinstance(request, health_pb2.HealthCheckRequest):
            return self
        if type(request).__module__ != self._requests:
            raise _NotHereError(f"{self._name}: it has no {type(request).__name__}")
        return self._service.servicer

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> health_pb2.HealthCheckResponse:
        """What the health service of the process would say."""
        return self.health()

    def health(self) -> health_pb2.HealthCheckResponse:
        """What the health service of the process would say."""
        status = health_pb2.HealthCheckResponse
        lacks = self._service is None or self._service.probes.lacks()
        return status(status=status.NOT_SERVING if lacks else status.SERVING)

    def raise_if_unwell(self) -> None:
        """For Serve, which then replaces the replica.

        Raises:
            ServiceError: a loop has ended, a part stands still (`/livez`), or it is unfit.
        """
        if self._unfit:
            raise ServiceError(f"{self._name}: {self._unfit}")
        life = self._life
        if life is not None and life.done() and not self._closing:
            raise ServiceError(f"{self._name}: {_why(life)}")
        if self._service is not None:
            live = self._service.probes.live()
            if live.status is not HTTPStatus.OK:
                raise ServiceError(f"{self._name}: {live.words}")

    async def _live(self) -> None:
        """From start to end in one task, as context managers of asyncio demand."""
        async with _open(self._name, self._config) as service:
            activity = service.probes.activity
            SERVICE.watch(self._name, activity, service.probes.is_ready)
            async with activity.beating(Part.EVENTS):
                activity.is_serving = True
                self._service = service
                self._opened.set()
                try:
                    await run_until_stopped(service.background, self._stopping, _DRAIN_S, activity)
                finally:
                    self._service = None

    async def _until_ready(self, life: asyncio.Task[None]) -> None:
        said_at = 0.0
        clock = asyncio.get_running_loop().time
        while True:
            if life.done():
                life.result()
                raise ServiceError(f"{self._name}: it ended before it was ready")
            assert self._service is not None
            ready = self._service.probes.ready()
            if ready.status is HTTPStatus.OK:
                log.info("replica ready", extra={"reason": ready.words})
                return
            if clock() - said_at >= _SAY_EVERY_S:
                said_at = clock()
                log.info("replica not ready yet", extra={"reason": ready.words})
            await asyncio.sleep(_LOOK_EVERY_S)


def enter(folder: str) -> None:
    """Take relative paths of the configuration from where the command was given.

    Raises:
        ConfigError: this node has no such folder.
    """
    try:
        os.chdir(folder)
    except OSError as cause:
        raise ConfigError(
            f"folder {folder}: {cause.strerror} on this node; put the run and its model on storage "
            f"that all nodes see under the same path"
        ) from cause


@contextlib.asynccontextmanager
async def _open(name: str, config: RunConfig) -> Any:
    """The service; its libraries come in here, after the limit on compute threads."""
    if name == "rollout":
        from services.rollout.start import open_service as open_rollout

        async with open_rollout(config) as service:
            yield service
    elif name == "teacher":
        from services.teacher.start import open_service as open_teacher

        async with open_teacher(config) as service:
            yield service
    else:
        from services.verifier.start import open_service as open_verifier

        async with open_verifier(config, config.verifier) as (service, _):
            yield service


def _tell(context: Any, status: grpc.StatusCode, words: str) -> None:
    context.set_code(status)
    context.set_details(words)


def _why(task: asyncio.Task[None]) -> str:
    error: BaseException | None = None if task.cancelled() else task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if error is not None else "a background loop has ended"
