"""One look at a run: every service, its metrics, the queues, and the run's folder if it is here."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlsd.local.addresses import RunAddresses
from rlsd.watching.asking import ANSWER_S, Answer, Queues, ask_queues, ask_services, redis_url
from rlsd.watching.samples import Samples

METRICS_PORT = 9464
"""Where the images and the chart put `/metrics`."""

_LONGEST_PAGE_BYTES = 16 * 1024 * 1024
_READ_BYTES = 4 * 1024 * 1024
"""From the end of a file of the run: a year's steps need not be read for a line of blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What one service said, over gRPC and over HTTP."""

    answer: Answer
    samples: Samples = field(default_factory=Samples)
    unread: str = ""
    """Why its metrics could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Everything that was found out at one moment."""

    at_s: float
    """Seconds since the epoch, by this machine's clock."""
    services: Mapping[str, Told]
    queues: Queues | None
    """None when nothing says where Redis is: the run's transport may be gRPC."""
    steps: Sequence[Mapping[str, Any]] = ()
    """Lines of `metrics.jsonl`; none without the run's folder."""
    evaluations: Sequence[Mapping[str, Any]] = ()

    @property
    def run_id(self) -> str:
        """Which run the services serve."""
        return next((t.answer.run_id for t in self.services.values() if t.answer.run_id), "")


async def take_reading(
    known: RunAddresses, folder: Path | None, *, metrics_port: int = METRICS_PORT
) -> Reading:
    """Ask everything at once; each question has 3 s."""
    answers, pages = await asyncio.gather(
        ask_services(known), _read_all_metrics(known, metrics_port)
    )
    services = {}
    for answer in answers:
        page = pages.get(answer.service)
        samples, unread = (page, "") if isinstance(page, Samples) else (Samples(), page or "")
        services[answer.service] = Told(answer=answer, samples=samples, unread=unread)
    url = redis_url(known)
    run_id = known.run_id or next((a.run_id for a in answers if a.run_id), "")
    return Reading(
        at_s=time.time(),
        services=services,
        queues=await ask_queues(url, run_id) if url else None,
        steps=_lines(folder / "metrics.jsonl") if folder else (),
        evaluations=_lines(folder / "evaluations.jsonl") if folder else (),
    )


def metrics_address(known: RunAddresses, service: str, port: int) -> str | None:
    """Where a service's metrics are: as told, else at the port of the images on the same host.

    None behind a Ray Serve proxy (`host:port/application`), whose host is no replica's.
    """
    if told := known.probes.get(service):
        return told
    address = known.services[service]
    return None if "/" in address else f"{address.rpartition(':')[0]}:{port}"


async def _read_all_metrics(known: RunAddresses, port: int) -> dict[str, Samples | str]:
    """The page of every service that has one, or why it could not be read."""
    addresses = {name: metrics_address(known, name, port) for name in known.services}
    asked = {name: address for name, address in addresses.items() if address}
    pages = await asyncio.gather(*(asyncio.to_thread(_read_metrics, a) for a in asked.values()))
    return dict(zip(asked, pages, strict=True))


def _read_metrics(address: str) -> Samples | str:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=ANSWER_S) as answer:
            return Samples.parse(answer.read(_LONGEST_PAGE_BYTES).decode())
    except urllib.error.URLError as error:
        cause = getattr(error.reason, "strerror", None) or error.reason
        return f"http://{address}/metrics: {cause}"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return f"http://{address}/metrics: {error or type(error).__name__}"


def _lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines at the end of a file that is being written."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            start = max(0, file.tell() - _READ_BYTES)
            file.seek(start)
            content = file.read()
    except FileNotFoundError:
        return []
    found = []
    for line in content.split(b"\n")[1 if start else 0 :]:
        with contextlib.suppress(ValueError):  # the last one may be half written
            found.append(json.loads(line))
    return found
