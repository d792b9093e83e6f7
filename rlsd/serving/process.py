"""The frame of a service's `__main__`: arguments, configuration, stage worker, exit codes."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from rlsd.config import Addresses, RunConfig, load
from rlsd.errors import RlsdError, UnfitError
from rlsd.serving.lifecycle import Background
from rlsd.streams.redis import RedisStream
from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery
from rlsd.streams.worker import Advance, Job, Limits, work
from rlsd.telemetry.activity import Activity
from rlsd.telemetry.process import prepare_process
from rlsd.telemetry.tracing import stop_tracing
from rlsd.wire.convert import encode_failed

_DRAIN_S = 3.0
"""What a worker holds is finished within this time, or is another's within 5 s of SIGTERM."""


def service_parser(
    service: str, description: str, *, needs_config: bool = True
) -> argparse.ArgumentParser:
    """The arguments that all services share."""
    parser = argparse.ArgumentParser(prog=f"rlsd serve {service}", description=description)
    parser.add_argument("--config", type=Path, required=needs_config, help="the run's TOML file")
    parser.add_argument(
        "--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="override a value"
    )
    parser.add_argument("--bind", default="127.0.0.1:0", metavar="HOST:PORT", help="gRPC address")
    parser.add_argument(
        "--metrics", metavar="HOST:PORT", help="serve /metrics, /livez and /readyz there"
    )
    return parser


def configure(service: str, arguments: argparse.Namespace) -> RunConfig:
    """Load the configuration and prepare the process; call it before torch is imported."""
    config = load(arguments.config, arguments.set)
    prepare_process(service, run_id=config.run.id, threads=config.run.threads)
    return config


def stage_worker(
    stage: Stage,
    process: Callable[[Delivery], Awaitable[Advance]],
    config: RunConfig,
    *,
    max_in_flight: int,
    activity: Activity,
    lacks: Callable[[], str] = lambda: "",
) -> Background:
    """The background loop that works on `stage` of the run's queues while it lacks nothing."""
    consumer = f"{socket.gethostname()}-{os.getpid()}"

    async def loop(stopping: asyncio.Event) -> None:
        stream = RedisStream.from_url(
            Addresses.from_environment().redis_url,
            config.run.id,
            abandoned_after_s=config.run.abandoned_after_s,
        )
        job = Job(
            stage=stage,
            consumer=consumer,
            process=process,
            on_dead=lambda d, reason: encode_failed(d.payload, d.group_id, reason),
            activity=activity,
            lacks=lacks,
        )
        try:
            await work(
                stream,
                job,
                stopping=stopping,
                limits=Limits(max_in_flight=max_in_flight, drain_s=_DRAIN_S),
            )
        finally:
            await stream.aclose()

    return loop


@contextlib.contextmanager
def exit_on_error(service: str) -> Iterator[None]:
    """Turn an error of ours into one line on standard error and its exit code; send last spans."""
    failure: BaseException | None = None
    try:
        yield
    except* (RlsdError, UnfitError) as errors:
        failure = errors
        while isinstance(failure, BaseExceptionGroup):
            failure = failure.exceptions[0]
    finally:
        stop_tracing()
    if failure is not None:
        sys.stderr.write(f"rlsd {service}: {failure}\n")
        if isinstance(failure, RlsdError | UnfitError):
            raise SystemExit(failure.exit_code)
        raise SystemExit(1)
