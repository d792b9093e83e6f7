"""Asking the parts of a run: what each service and Redis say of themselves, or why they are silent.

Every question has a deadline; an answer that does not come is an answer.
"""

from __future__ import annotations

import asyncio
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import grpc

from rlsd.config import Addresses
from rlsd.errors import RlsdError
from rlsd.local.addresses import RunAddresses
from rlsd.serving.channel import open_channel
from rlsd.streams.redis import RedisStream
from rlsd.streams.stage import Stage
from rlsd.streams.stream import DeadLetter
from rlsd.telemetry.activity import Snapshot
from rlsd.wire.convert import activity_from_proto
from rlsd.wire.v1 import (
    learner_service_pb2,
    learner_service_pb2_grpc,
    rollout_service_pb2,
    rollout_service_pb2_grpc,
    teacher_service_pb2,
    teacher_service_pb2_grpc,
    verifier_service_pb2,
    verifier_service_pb2_grpc,
)

ANSWER_S = 3.0
MOST_LETTERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a service says of itself."""

    service: str
    run_id: str = ""
    activity: Snapshot | None = None
    """None when it is silent."""
    silence: str = ""
    """Why it cannot be asked; empty when it answered."""
    status: Any = None
    """Its whole `GetStatus` response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits at a stage."""

    stage: Stage
    entries: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Queues:
    """What Redis says of a run."""

    backlog: Sequence[Backlog] = ()
    """Every stage in order; none when the run is not known."""
    letters: Sequence[DeadLetter] = ()
    """The newest `MOST_LETTERS`."""
    silence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """How a service is asked."""

    stub: Callable[[Any], Any]
    request: Callable[[], Any]


_SERVICES = {
    "learner": _Service(
        stub=learner_service_pb2_grpc.LearnerServiceStub,
        request=learner_service_pb2.LearnerServiceGetStatusRequest,
    ),
    "rollout": _Service(
        stub=rollout_service_pb2_grpc.RolloutServiceStub,
        request=rollout_service_pb2.RolloutServiceGetStatusRequest,
    ),
    "verifier": _Service(
        stub=verifier_service_pb2_grpc.VerifierServiceStub,
        request=verifier_service_pb2.VerifierServiceGetStatusRequest,
    ),
    "teacher": _Service(
        stub=teacher_service_pb2_grpc.TeacherServiceStub,
        request=teacher_service_pb2.TeacherServiceGetStatusRequest,
    ),
}
SERVICES = tuple(_SERVICES)
"""In the order in which they are told of."""


def from_environment() -> RunAddresses:
    """The addresses that the services themselves use; Redis only where one is named."""
    values = asdict(Addresses.from_environment())
    url = values.pop("redis_url")
    is_named = bool({"RLSD_REDIS_URL", "RLSD_REDIS_URL_FILE"} & os.environ.keys())
    return RunAddresses(run_id="", services=values, redis_url=url if is_named else None)


async def ask_services(known: RunAddresses) -> list[Answer]:
    """Ask every service at once."""
    asked = [
        ask_service(name, known.services[name], known.probes.get(name))
        for name in SERVICES
        if name in known.services
    ]
    return list(await asyncio.gather(*asked))


async def ask_service(
    name: str, address: str, probes: str | None = None, *, answer_s: float = ANSWER_S
) -> Answer:
    """What a service says of itself within `answer_s`, or why it cannot be asked."""
    service = _SERVICES[name]
    async with open_channel(address) as channel:
        try:
            status = await service.stub(channel).GetStatus(service.request(), timeout=answer_s)
            activity = activity_from_proto(status.activity)
        except grpc.aio.AioRpcError as error:
            silence = await _silence(error, address, probes, answer_s)
            return Answer(service=name, silence=silence)
        except RlsdError as error:
            return Answer(service=name, silence=f"at {address}: {error}")
    return Answer(service=name, run_id=status.run_id, activity=activity, status=status)


async def _silence(
    error: grpc.aio.AioRpcError, address: str, probes: str | None, answer_s: float
) -> str:
    """Why a service gave no answer."""
    details = error.details() or ""
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            return f"not reachable at {address} ({_cause(details)}): is it running?"
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            lives = await asyncio.to_thread(_livez, probes) if probes else ""
            return f"no answer from {address} within {answer_s:g} s{lives}"
        case code:
            return f"at {address}: {code.name}: {details}"


def _cause(details: str) -> str:
    """`connection refused` out of what gRPC says about it."""
    found = re.search(r"([A-Za-z ]+) \(\d+\)$", details)
    return (found[1].strip() if found else details.rpartition(": ")[2]).lower()


def _livez(address: str) -> str:
    """What a service whose event loop is silent says from another thread."""
    try:
        with urllib.request.urlopen(f"http://{address}/livez", timeout=ANSWER_S) as answer:
            return f"; /livez: {answer.read().decode().strip()}"
    except urllib.error.HTTPError as error:
        return f"; /livez: {error.read().decode().strip()}"
    except OSError as error:
        return f"; /livez at {address}: {error}"


def redis_url(known: RunAddresses) -> str | None:
    """Where Redis is, if anything says so: a file may not hold a password, the environment may."""
    return known.redis_url or os.environ.get("RLSD_REDIS_URL")


async def ask_queues(url: str, run_id: str) -> Queues:
    """Whether Redis answers; with a run's id, what waits at each stage and what was given up."""
    stream = RedisStream.from_url(url, run_id or "unknown")
    try:
        async with asyncio.timeout(ANSWER_S):
            await stream.ping()
            if not run_id:
                return Queues()
            backlog = [
                Backlog(
                    stage=stage,
                    entries=await stream.depth(stage),
                    oldest_age_s=await stream.oldest_age_s(stage),
                )
                for stage in Stage
            ]
            return Queues(backlog=backlog, letters=await stream.dead_letters(MOST_LETTERS))
    except TimeoutError:
        return Queues(silence=f"no answer within {ANSWER_S:g} s")
    except RlsdError as error:
        return Queues(silence=str(error))
    finally:
        await stream.aclose()
