"""The whole system on one machine: Redis, three stages, the learner; started, watched, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from rlsd.config import RunConfig
from rlsd.errors import ConfigError, ServiceError
from rlsd.local.processes import Child, child_environment, free_ports, service_command
from rlsd.serving.channel import open_channel, wait_until_serving
from rlsd.streams.embedded import embedded_redis
from rlsd.wire.v1 import learner_service_pb2, learner_service_pb2_grpc

_STAGES = ("rollout", "verifier", "teacher")
_START_TIMEOUT_S = 600.0
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
        children = {
            name: _child(name, config, config_path, environment, ports[name], metrics[name])
            for name in ports
        }
        for name in _STAGES:
            await children[name].start()
            stack.push_async_callback(children[name].stop)
        await _all_serving([children[n] for n in _STAGES], ports)
        watcher.on_event("rollout, verifier and teacher are serving")
        learner = children["learner"]
        await learner.start()
        stack.push_async_callback(learner.stop)
        await _watch(learner, children, ports["learner"], stopping=stopping, watcher=watcher)


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
    if url := os.environ.get("RLSD_REDIS_URL"):
        yield url
        return
    async with embedded_redis() as url:
        yield url


async def _all_serving(children: list[Child], ports: dict[str, int]) -> None:
    """Wait for every child's health service; a child that ends meanwhile is the error."""

    async def serving(child: Child) -> None:
        ready = asyncio.ensure_future(
            wait_until_serving(f"127.0.0.1:{ports[child.name]}", timeout_s=_START_TIMEOUT_S)
        )
        assert child.process is not None
        ended = asyncio.ensure_future(child.process.wait())
        try:
            await asyncio.wait({ready, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                raise ServiceError(f"{child.last_words()} (log: {child.log_path})")
            await ready
        finally:
            ready.cancel()
            ended.cancel()

    try:
        async with asyncio.TaskGroup() as tasks:
            for child in children:
                tasks.create_task(serving(child))
    except* ServiceError as errors:
        raise errors.exceptions[0] from None


async def _watch(
    learner: Child,
    children: dict[str, Child],
    port: int,
    *,
    stopping: asyncio.Event,
    watcher: Watcher,
) -> None:
    """Follow the learner to its end, keeping the others alive."""
    asked_to_stop = False
    async with open_channel(f"127.0.0.1:{port}") as channel:
        stub = learner_service_pb2_grpc.LearnerServiceStub(channel)
        while learner.exit_code != 0:
            if stopping.is_set() and not asked_to_stop:
                asked_to_stop = True
                watcher.on_event("stopping: the learner ends its step and writes a checkpoint")
                await learner.stop()
                continue
            for name, child in children.items():
                if await child.ensure_running():
                    watcher.on_event(f"{name} was killed; started again")
            with contextlib.suppress(grpc.aio.AioRpcError):
                request = learner_service_pb2.LearnerServiceGetStatusRequest()
                watcher.on_status(await stub.GetStatus(request, timeout=2.0))
            assert learner.process is not None
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(learner.process.wait()), _POLL_S)
