"""`rlsd why`: what each part of a run waits for, since when, and on whom. One line each."""

from __future__ import annotations

import asyncio
import json
import os
import re
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
from rich.console import Console

from rlsd.config import Addresses
from rlsd.errors import ConfigError, RlsdError
from rlsd.local.addresses import RunAddresses
from rlsd.serving.channel import open_channel
from rlsd.streams.redis import RedisStream
from rlsd.streams.stage import Stage
from rlsd.telemetry.activity import duration
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

_ANSWER_S = 3.0
_MOST_LETTERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one part says, or what is said of it."""

    who: str
    says: str
    is_well: bool
    """False when it cannot be asked or has stalled."""
    run_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Service:
    """How a service is asked, and what its answer adds to its activity."""

    stub: Callable[[Any], Any]
    request: Callable[[], Any]
    adds: Callable[[Any], str]


_SERVICES = {
    "learner": _Service(
        stub=learner_service_pb2_grpc.LearnerServiceStub,
        request=learner_service_pb2.LearnerServiceGetStatusRequest,
        adds=lambda status: f" (step {status.step} of {status.num_steps})",
    ),
    "rollout": _Service(
        stub=rollout_service_pb2_grpc.RolloutServiceStub,
        request=rollout_service_pb2.RolloutServiceGetStatusRequest,
        adds=lambda status: _weights(status.policy_version),
    ),
    "verifier": _Service(
        stub=verifier_service_pb2_grpc.VerifierServiceStub,
        request=verifier_service_pb2.VerifierServiceGetStatusRequest,
        adds=lambda _: "",
    ),
    "teacher": _Service(
        stub=teacher_service_pb2_grpc.TeacherServiceStub,
        request=teacher_service_pb2.TeacherServiceGetStatusRequest,
        adds=lambda status: _weights(status.teacher_version),
    ),
}


def why_command(folder: Path | None) -> None:
    """Print a line for each part; exit code 1 when one cannot be asked or has stalled."""
    console = Console(highlight=False, markup=False, soft_wrap=True)
    known = from_environment() if folder is None else RunAddresses.read(folder)
    if known is None:
        assert folder is not None
        console.print(_ended(folder))
        return
    lines = asyncio.run(ask_all(known))
    for line in lines:
        console.print(f"{line.who:<9} {line.says}")
    if not all(line.is_well for line in lines):
        raise SystemExit(1)


def from_environment() -> RunAddresses:
    """The addresses that the services themselves use; Redis only where one is named."""
    values = asdict(Addresses.from_environment())
    url = values.pop("redis_url")
    is_named = bool({"RLSD_REDIS_URL", "RLSD_REDIS_URL_FILE"} & os.environ.keys())
    return RunAddresses(run_id="", services=values, redis_url=url if is_named else None)


async def ask_all(known: RunAddresses) -> list[Line]:
    """Ask every service at once, then Redis, whose keys carry the run's id."""
    asked = [
        ask(name, known.services[name], known.probes.get(name))
        for name in _SERVICES
        if name in known.services
    ]
    lines = list(await asyncio.gather(*asked))
    url = known.redis_url or os.environ.get("RLSD_REDIS_URL")
    if url:
        run_id = known.run_id or next((x.run_id for x in lines if x.run_id), "")
        lines += await ask_redis(url, run_id)
    return lines


async def ask(
    name: str, address: str, probes: str | None = None, *, answer_s: float = _ANSWER_S
) -> Line:
    """What a service says of itself within `answer_s`, or why it cannot be asked."""
    service = _SERVICES[name]
    async with open_channel(address) as channel:
        try:
            status = await service.stub(channel).GetStatus(service.request(), timeout=answer_s)
            activity = activity_from_proto(status.activity)
        except grpc.aio.AioRpcError as error:
            says = await _silence(error, address, probes, answer_s)
            return Line(who=name, says=says, is_well=False)
        except RlsdError as error:
            return Line(who=name, says=f"at {address}: {error}", is_well=False)
    return Line(
        who=name,
        says=activity.words() + service.adds(status),
        is_well=not activity.stalled,
        run_id=status.run_id,
    )


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
        with urllib.request.urlopen(f"http://{address}/livez", timeout=_ANSWER_S) as answer:
            return f"; /livez: {answer.read().decode().strip()}"
    except urllib.error.HTTPError as error:
        return f"; /livez: {error.read().decode().strip()}"
    except OSError as error:
        return f"; /livez at {address}: {error}"


async def ask_redis(url: str, run_id: str) -> list[Line]:
    """Whether Redis answers, what waits at each stage, and what was given up."""
    stream = RedisStream.from_url(url, run_id or "unknown")
    try:
        async with asyncio.timeout(_ANSWER_S):
            await stream.ping()
            if not run_id:
                says = "reachable; no service says which run it serves"
                return [Line(who="redis", says=says, is_well=True)]
            backlog, letters = await _backlog(stream), await _letters(stream)
    except TimeoutError:
        return [Line(who="redis", says=f"no answer within {_ANSWER_S:g} s", is_well=False)]
    except RlsdError as error:
        return [Line(who="redis", says=str(error), is_well=False)]
    finally:
        await stream.aclose()
    lines = [f"reachable; {backlog}", *letters]
    return [Line(who="redis" if n == 0 else "", says=x, is_well=True) for n, x in enumerate(lines)]


async def _backlog(stream: RedisStream) -> str:
    found = []
    for stage in Stage:
        if depth := await stream.depth(stage):
            age = duration(await stream.oldest_age_s(stage))
            found.append(f"{depth} at {stage} (oldest {age})")
    return ", ".join(found) or "nothing is at any stage"


async def _letters(stream: RedisStream) -> list[str]:
    """Dead letters by stage and reason, commonest first."""
    letters = await stream.dead_letters(_MOST_LETTERS)
    if not letters:
        return ["no dead letters"]
    many = "or more " if len(letters) == _MOST_LETTERS else ""
    reasons = Counter(f"at {letter.stage}: {letter.reason}" for letter in letters)
    said = [f"{count} × {reason}" for reason, count in reasons.most_common(5)]
    noun = "dead letter" if len(letters) == 1 else "dead letters"
    return [f"{len(letters)} {many}{noun}", *said]


def _weights(version: int) -> str:
    return f" (weights {version})" if version >= 0 else " (no weights yet)"


def _ended(folder: Path) -> str:
    """What to say of a run that nobody runs.

    Raises:
        ConfigError: it is no run's folder.
    """
    try:
        summary = json.loads((folder / "summary.json").read_text())
    except FileNotFoundError as cause:
        raise ConfigError(
            f"run {folder}: has no addresses.json, so nothing runs it on this machine; "
            "elsewhere, leave the folder out and set the RLSD_*_ADDRESS variables"
        ) from cause
    state = "was interrupted" if summary["interrupted"] else "ended"
    return (
        f"run {summary['run_id']} {state} at step {summary['steps']}: nothing runs, nothing waits"
    )
