"""How long weights take from the learner into an engine, how large they are, and what fails."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import Counter, Histogram

from rlsd.errors import ServiceError, StorageError, WeightsError
from rlsd.telemetry.metrics import LONG, create, labelled

if TYPE_CHECKING:
    from rlsd.weights import Fetched


class WeightPhase(StrEnum):
    """A part of the way."""

    PUBLISH = "publish"
    """Learner: gathered from its ranks, written, named."""
    FETCH = "fetch"
    """Brought to this machine; with a shared volume there is none."""
    VERIFY = "verify"
    """Compared with the checksums."""
    INSTALL = "install"
    """Put into the engine and proved by the probe."""
    PAUSE = "pause"
    """The part of it in which the engine computed nothing."""


class WeightFailure(StrEnum):
    """Why a version was not installed."""

    DAMAGED = "damaged"
    """Missing, torn, of another run, or not of this model's shape."""
    PROBE = "probe"
    """The engine does not compute what the learner computes."""
    ENGINE = "engine"
    """The engine could not take it."""
    OTHER = "other"
    """It could not be brought here: the store is away, or the disk full."""


_TAKERS: Final = ("rollout", "teacher")

DURATION = labelled(
    Histogram(
        "rlsd_weight_sync_duration_seconds",
        "One version's way by phase; `pause`: the engine computed nothing.",
        ["service", "phase"],
        buckets=LONG,
    ),
    service=("learner", *_TAKERS),
    phase=tuple(WeightPhase),
)
BYTES = labelled(
    Counter("rlsd_weight_bytes", "Files of versions.", ["service", "direction"]),
    service=("learner", *_TAKERS),
    direction=("published", "taken"),
)
FAILURES = labelled(
    Counter(
        "rlsd_weight_install_failures",
        "Versions that could not be installed; each try counts.",
        ["service", "reason"],
    ),
    service=_TAKERS,
    reason=tuple(WeightFailure),
)


class WeightMeter:
    """Measures one service's weights; without a service, nothing."""

    def __init__(self, service: str = "") -> None:
        self._service = service
        if service in _TAKERS:
            create(FAILURES, service=service)
            BYTES.labels(service, "taken")
        elif service:
            BYTES.labels(service, "published")

    @contextlib.contextmanager
    def phase(self, phase: WeightPhase, *, fails_as: WeightFailure | None = None) -> Iterator[None]:
        """Time a phase; one that raises is counted as a failure instead."""
        started = time.monotonic()
        try:
            yield
        except Exception:
            if fails_as is not None:
                self.failed(fails_as)
            raise
        self.lasted(phase, time.monotonic() - started)

    async def take(self, fetching: Awaitable[Fetched]) -> Fetched:
        """What is fetched, timed by its own account; what fails is counted."""
        try:
            fetched = await fetching
        except WeightsError:
            self.failed(WeightFailure.DAMAGED)
            raise
        except (ServiceError, StorageError):
            self.failed(WeightFailure.OTHER)
            raise
        if fetched.num_bytes:
            self.lasted(WeightPhase.FETCH, fetched.fetch_s)
        self.lasted(WeightPhase.VERIFY, fetched.verify_s)
        return fetched

    def lasted(self, phase: WeightPhase, seconds: float) -> None:
        """Note a phase that was timed elsewhere."""
        if self._service:
            DURATION.labels(self._service, phase).observe(seconds)

    def failed(self, reason: WeightFailure) -> None:
        """Count a version that could not be installed."""
        if self._service:
            FAILURES.labels(self._service, reason).inc()

    def moved(self, folder: Path) -> None:
        """Count the bytes of a version that was published or taken."""
        if self._service:
            direction = "taken" if self._service in _TAKERS else "published"
            BYTES.labels(self._service, direction).inc(_num_bytes(folder))


UNMETERED: Final = WeightMeter()


def _num_bytes(folder: Path) -> int:
    """What the files hold; 0 for a version that is being deleted."""
    try:
        return sum(path.stat().st_size for path in folder.iterdir())
    except OSError:
        return 0
