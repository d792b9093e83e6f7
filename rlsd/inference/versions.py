"""Published weights in an inference engine: which it holds, and whether they are the learner's.

A version counts as held only once the engine's log-probs of the learner's probe agree with the
learner's own. Until then nothing that was computed under it may be handed on: an engine that kept
its old weights, or half of them, looks healthy in every other way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rlsd.errors import EngineError, UnfitError, WeightsError
from rlsd.inference.engine import InferenceEngine, ScoringRequest
from rlsd.telemetry.weights import UNMETERED, WeightFailure, WeightMeter, WeightPhase
from rlsd.weights import Fetched, Probe, WeightStore, fetch_newest

log = logging.getLogger(__name__)

_ATTEMPTS = 2
"""An engine that disagrees after the second installation is not fit to serve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """One version that went into the engine."""

    version: int
    pause_s: float
    """Seconds during which the engine computed nothing."""
    probe_difference: float
    """Largest |Δ log-prob| in nats between engine and learner on the probe."""
    fetched: Fetched
    """What was installed, and how long it took to get it here."""


class HeldWeights:
    """Brings versions into an engine, one at a time."""

    def __init__(
        self,
        engine: InferenceEngine,
        store: WeightStore,
        *,
        tolerance: float,
        meter: WeightMeter = UNMETERED,
        on_installed: Callable[[Installation], object] = lambda _: None,
    ) -> None:
        """Nothing is held yet.

        Args:
            tolerance: largest |Δ log-prob| in nats allowed on the probe.
            meter: hears of the phases and failures of each installation.
        """
        self._engine = engine
        self._store = store
        self._tolerance = tolerance
        self._meter = meter
        self._on_installed = on_installed
        self._turn = asyncio.Lock()
        self._proved: set[int] = set()
        self._probe: Probe | None = None
        self.version = -1

    async def newest(self, required: int) -> Fetched:
        """The newest version, which is `required` or later; the engine goes on meanwhile.

        Raises:
            EngineError: it is not published.
            WeightsError: it is not whole.
            ServiceError, StorageError: it cannot be brought here.
        """
        return await self._meter.take(fetch_newest(self._store, required))

    async def hold(self, fetched: Fetched) -> None:
        """Hold a version, unless what is held is as new.

        Raises:
            WeightsError: the engine did not take it; the old one stays.
            UnfitError: the engine does not compute what the learner computes.
        """
        async with self._turn:
            if self.version < fetched.manifest.version:
                await self._install(fetched)

    async def exactly(self, version: int) -> None:
        """Hold one version, also an older one; errors as in `newest` and `hold`."""
        async with self._turn:
            if self.version != version:
                fetching = asyncio.to_thread(self._store.fetch, version)
                await self._install(await self._meter.take(fetching))

    async def prove(self, versions: set[int]) -> None:
        """Return once it is known that these versions were computed as the learner does.

        Raises:
            EngineError: one of them was not; what it gave must be made again.
        """
        if not versions <= self._proved:
            async with self._turn:  # the installation under way decides
                pass
        if unproved := sorted(versions - self._proved):
            raise EngineError(
                f"computed under weights v{unproved[0]}, which the probe did not confirm"
            )

    async def _install(self, fetched: Fetched) -> None:
        meter, manifest = self._meter, fetched.manifest
        version = manifest.version
        for attempt in range(1, _ATTEMPTS + 1):
            with meter.phase(WeightPhase.INSTALL, fails_as=WeightFailure.ENGINE):
                pause_s = await self._put(fetched)
                reason = await self._disagreement(manifest.probe)
            if reason is None:
                break
            meter.failed(WeightFailure.PROBE)
            log.warning("weights not confirmed", extra={"version": version, "reason": reason})
            if attempt == _ATTEMPTS:
                raise UnfitError(f"weights v{version}: {reason}; restart this replica")
        meter.lasted(WeightPhase.PAUSE, pause_s)
        meter.moved(fetched.folder)
        self._proved.add(version)
        self._probe, self.version = manifest.probe, version
        self._on_installed(
            Installation(
                version=version,
                pause_s=pause_s,
                probe_difference=self._difference,
                fetched=fetched,
            )
        )

    async def _put(self, fetched: Fetched) -> float:
        """Seconds during which the engine computed nothing."""
        try:
            return await self._engine.install(fetched.folder, fetched.manifest.version)
        except WeightsError as error:
            await self._check_old_weights(error)
            raise

    async def _check_old_weights(self, error: WeightsError) -> None:
        """An engine that fails in the middle may hold neither the new weights nor the old ones."""
        if self._probe is None:
            return
        try:
            reason = await self._disagreement(self._probe)
        except EngineError:
            return  # it answers nothing, so nothing wrong either
        if reason is not None:
            raise UnfitError(
                f"{error}; and v{self.version} is damaged: {reason}; restart this replica"
            ) from error

    async def _disagreement(self, probe: Probe) -> str | None:
        """Why the engine's numbers are not those of the weights that the probe was taken of."""
        found = await self._engine.score(
            ScoringRequest(prefix_ids=probe.token_ids[:1], completion_ids=probe.token_ids[1:])
        )
        self._difference = _largest(found.logprobs, probe)
        if not self._difference <= self._tolerance:  # also NaN
            return (
                f"log-probs differ from the learner's by {self._difference:.2g} nats on the "
                f"probe, allowed {self._tolerance:g}"
            )
        before = self._probe
        if before is not None and before.token_ids == probe.token_ids:
            to_old = _largest(found.logprobs, before)
            moved = float(np.abs(np.subtract(probe.logprobs, before.logprobs)).max())
            if to_old < self._difference and moved > self._difference / 2:
                return f"log-probs are still those of v{self.version}"
        return None


def _largest(logprobs: np.ndarray[tuple[int], np.dtype[np.float32]], probe: Probe) -> float:
    return float(np.abs(logprobs - np.asarray(probe.logprobs, dtype=np.float32)).max())
