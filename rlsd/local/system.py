"""The whole system on one machine: Redis, three stages, the learner; started, watched, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from rlsd.config import RunConfig, named_redis_url
from rlsd.errors import ConfigError
from rlsd.local.addresses import RunAddresses
from rlsd.local.processes import Child, child_environment, free_ports, service_command
from rlsd.serving.channel import open_channel
from rlsd.streams.embedded import embedded_redis
from rlsd.streams.redis import RedisStream
from rlsd.wire.v1 import learner_service_pb2, learner_service_pb2_grpc

_STAGES = ("rollout", "verifier", "teacher")
_POLL_S = 0.5

Status = learner_service_pb2.LearnerServiceGetStatusResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """What is told of a run while it goes."""

    on_event: Callable[[str], None]
    """A line for people: a service is ready, was restarted, …"""
    on_status: Callable[[Status], None]
    """The learner's answer, about twice a second."""


def prepare_run_folder(config: RunConfig, *, resume: bool) -> Path:
    """Make the run folder with its resolved configuration; returns the configuration's path.

    Raises:
        ConfigError: the folder holds a run already and `resume` is not given, or the reverse.
    """
    folder = config.run_dir
    has_run = (folder / "batches").exists() or (folder / "weights").exists()
    if has_run and not resume:
        raise ConfigError(f"run {folder} exists; continue it with --resume, or set run.id")
    if resume and not has_run:
        raise ConfigError(f"run {folder} does not exist; start it without --resume")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "config.json"
    path.write_text(json.dumps(config.model_dump(mode="json"), indent=2) + "\n")
    return path


async def run_system(
    config: RunConfig, config_path: Path, *, stopping: asyncio.Event, watcher: Watcher
) -> None:
    """Run to the end of the training, or until `stopping`: then the learner ends its step first.

    Raises:
        ServiceError, StreamError: a part could not be started or failed; with its own last words.
    """
    async with contextlib.AsyncExitStack() as stack:
        environment = {}
        if config.run.transport == "redis":
            environment["RLSD_REDIS_URL"] = await stack.enter_async_context(_redis())
        ports = dict(zip((*_STAGES, "learner"), free_ports(4), strict=True))
        metrics = dict(zip(ports, free_ports(4), strict=True))
        for stage in _STAGES:
            environment[f"RLSD_{stage.upper()}_ADDRESS"] = f"127.0.0.1:{ports[stage]}"
        RunAddresses(
            run_id=config.run.id,
            services={name: f"127.0.0.1:{port}" for name, port in ports.items()},
            probes={name: f"127.0.0.1:{port}" for name, port in metrics.items()},
            redis_url=environment.get("RLSD_REDIS_URL"),
        ).write(config.run_dir)
        stack.callback(RunAddresses.remove, config.run_dir)
        children = {
            name: _child(name, config, config_path, environment, ports[name], metrics[name])
            for name in ports
        }
        stack.push_async_callback(_stop_all, children, config.learner.stage_timeout_s)
        for child in children.values():
            await child.start()
        await _watch(children, ports["learner"], stopping=stopping, watcher=watcher)


async def _stop_all(children: dict[str, Child], step_timeout_s: float) -> None:
    """The learner first, which may need the stages to end its step; then the stages."""
    await children["learner"].stop(kill_after_s=step_timeout_s)
    await asyncio.gather(*(children[stage].stop() for stage in _STAGES))


def _child(
    name: str,
    config: RunConfig,
    config_path: Path,
    addresses: dict[str, str],
    port: int,
    metrics_port: int,
) -> Child:
    ranks = config.learner.ranks if name == "learner" else 1
    http = "--http" if name == "verifier" else "--metrics"
    return Child(
        name=name,
        command=[
            *service_command(name, config_path, ranks=ranks),
            f"--bind=127.0.0.1:{port}",
            f"{http}=127.0.0.1:{metrics_port}",
        ],
        environment=child_environment(config.run.threads, **addresses),
        log_path=config.run_dir / "logs" / f"{name}.log",
    )


@contextlib.asynccontextmanager
async def _redis() -> AsyncIterator[str]:
    """The Redis of the environment, or a private one."""
    if url := named_redis_url():
        stream = RedisStream.from_url(url, "probe")
        try:
            await stream.ping()
        finally:
            await stream.aclose()
        yield url
        return
    async with embedded_redis() as url:
        yield url


async def _watch(
    children: dict[str, Child], port: int, *, stopping: asyncio.Event, watcher: Watcher
) -> None:
    """Follow the learner to its end, keeping the others alive.

    The learner itself waits until the services that it calls are up.
    """
    learner = children["learner"]
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = learner_service_pb2_grpc.LearnerServiceStub(channel)
        while learner.exit_code != 0:
            if stopping.is_set():
                watcher.on_event("stopping: the learner ends its step and writes a checkpoint")
                return
            for name, child in children.items():
                if await child.ensure_running():
                    watcher.on_event(f"{name} was killed; started again")
            with contextlib.suppress(grpc.aio.AioRpcError):
                request = learner_service_pb2.LearnerServiceGetStatusRequest()
                watcher.on_status(await stub.GetStatus(request, timeout=2.0))
            await _first_of(learner, stopping)


async def _first_of(learner: Child, stopping: asyncio.Event) -> None:
    """Return when the learner ends, a stop is asked for, or the next poll is due."""
    assert learner.process is not None
    waits = [
        asyncio.ensure_future(learner.process.wait()),
        asyncio.ensure_future(stopping.wait()),
    ]
    await asyncio.wait(waits, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
