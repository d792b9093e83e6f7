"""The Serve applications, one for each service; for `serve deploy` and for `rlsd serve` alike.

Serve's gRPC proxy knows a method by its name alone, without its service, and while there is but one
application it gets every call, whatever application the call names. So each replica looks itself.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import re
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from rlsd.config import RunConfig, load
from rlsd.errors import ConfigError
from services.on_ray.metrics import reporter
from services.on_ray.replica import Replica

SERVICER_FUNCTIONS = [
    "rlsd.wire.v1.rollout_service_pb2_grpc.add_RolloutServiceServicer_to_server",
    "rlsd.wire.v1.verifier_service_pb2_grpc.add_VerifierServiceServicer_to_server",
    "rlsd.wire.v1.teacher_service_pb2_grpc.add_TeacherServiceServicer_to_server",
    "grpc_health.v1.health_pb2_grpc.add_HealthServicer_to_server",
]
"""All of them at Serve's start: its proxy takes none later."""

_REPLICAS = re.compile(r"(?P<min>[1-9]\d*)(:(?P<max>[1-9]\d*))?")
_HEALTH_PERIOD_S = 5.0
_CONSTRUCTIONS = 2
"""A replica that cannot be started is tried once more, then the deployment has failed."""


class Options(BaseModel):
    """What an application is built from: the command's arguments, or `args` in a Serve file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: Path
    """The run's TOML file."""
    set: list[str] = Field(default_factory=list)
    """Overrides of it."""
    folder: Path = Field(default_factory=Path.cwd)
    """Where relative paths of the configuration begin, on every node."""
    replicas: str = "1"
    """A number, or MIN:MAX: by the calls under way."""
    target: int | None = Field(default=None, ge=1)
    """Calls under way that one replica is to have; None: as many groups as it works on at once."""
    cpus: float = Field(default=1.0, ge=0)
    """CPUs that Ray reserves for a replica."""
    gpus: float = Field(default=0.0, ge=0)
    """Devices that Ray reserves for a replica, and shows to it."""

    def bounds(self) -> tuple[int, int]:
        """Fewest and most replicas.

        Raises:
            ConfigError: it is no such pair.
        """
        found = _REPLICAS.fullmatch(self.replicas)
        low, high = (int(found["min"]), int(found["max"] or found["min"])) if found else (1, 0)
        if low > high:
            raise ConfigError(
                f"--replicas {self.replicas}: give a number, or MIN:MAX with MIN not above MAX"
            )
        return low, high


class Deployment:
    """A replica behind the methods of all services; Serve finds them by name."""

    async def __init__(  # type: ignore[misc]  # awaited by Serve
        self, service: str, config: RunConfig, folder: str
    ) -> None:
        self._replica = Replica(service, config, folder)
        self._reporter = reporter(run=config.run.id, service=service)
        self._reporter.start()
        await self._replica.open()

    async def Generate(self, request: Any, grpc_context: Any) -> Any:
        """Of the rollout service."""
        return await self._replica.call("Generate", request, grpc_context)

    async def Verify(self, request: Any, grpc_context: Any) -> Any:
        """Of the verifier service."""
        return await self._replica.call("Verify", request, grpc_context)

    async def Score(self, request: Any, grpc_context: Any) -> Any:
        """Of the teacher service."""
        return await self._replica.call("Score", request, grpc_context)

    async def GetStatus(self, request: Any, grpc_context: Any) -> Any:
        """Of the replica that the call happens to reach."""
        return await self._replica.call("GetStatus", request, grpc_context)

    async def Check(self, request: Any, grpc_context: Any) -> Any:
        """Of gRPC's health service; the verifier's own method of that name."""
        return await self._replica.call("Check", request, grpc_context)

    async def check_health(self) -> None:
        """Asked by Serve."""
        self._replica.raise_if_unwell()

    async def __del__(self) -> None:
        """Awaited by Serve when the replica is stopped."""
        await self._replica.close()
        await asyncio.to_thread(self._reporter.stop)


def rollout(args: Options) -> serve.Application:
    """The rollout service."""
    return build("rollout", args)


def verifier(args: Options) -> serve.Application:
    """The verifier service."""
    return build("verifier", args)


def teacher(args: Options) -> serve.Application:
    """The teacher service."""
    return build("teacher", args)


def build(service: str, options: Options) -> serve.Application:
    """The application of a service.

    Raises:
        ConfigError: the configuration or an option is wrong.
    """
    folder = options.folder.absolute()
    config = load(folder / options.config, options.set)
    low, high = options.bounds()
    if config.run.transport == "redis" and low < high:
        raise ConfigError(
            f"--replicas {options.replicas}: with run.transport = 'redis' replicas take their work "
            f"from the queues, where Serve sees no calls to scale by; give one number"
        )
    start = importlib.import_module(f"services.{service}.start")
    target = options.target or start.groups_at_once(config)
    scaling: dict[str, Any] = {"num_replicas": low}
    if low < high:
        scaling = {
            "autoscaling_config": {
                "min_replicas": low,
                "max_replicas": high,
                "target_ongoing_requests": target,
            }
        }
    deployment = serve.deployment(
        Deployment,
        name=service,
        max_ongoing_requests=target + target // 4 + 2,  # beside calls, status and health
        max_constructor_retry_count=_CONSTRUCTIONS,
        health_check_period_s=_HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=config.learner.stage_timeout_s,
        ray_actor_options={
            "num_cpus": options.cpus,
            "num_gpus": options.gpus,
            "runtime_env": {"env_vars": {"OMP_NUM_THREADS": str(config.run.threads)}},
        },
        **scaling,
    )
    return deployment.bind(service, config, os.fspath(folder))
