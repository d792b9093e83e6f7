"""What a weight store does: the learner publishes into it, rollout and teacher fetch from it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from rlsd.errors import EngineError, ServiceError
from rlsd.weights.manifest import Manifest, Probe


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A version in a folder of this machine, all of whose files match their checksums."""

    folder: Path
    """Stays as it is at least as long as this object lives."""
    manifest: Manifest
    fetch_s: float
    """Until its files were here; about 0 when they were already."""
    verify_s: float
    """Spent on their checksums."""
    num_bytes: int
    """That were brought here; 0 when they were here already."""
    hold: object = field(default=None, repr=False)
    """Keeps the folder."""


class WeightStore(Protocol):
    """The versions of one run. Calls block; every one ends within its deadline.

    All raise ServiceError when the store cannot be reached in time and ConfigError when it refuses
    us (no such bucket, no credentials, access denied); a folder's do not.
    """

    look_every_s: float
    """How often a reader may ask for the latest version."""

    def versions(self) -> list[int]:
        """Published versions, oldest first."""
        ...

    def latest(self) -> int | None:
        """The newest version, or None before the first publication.

        By listing, not by a pointer: a writer that was paused cannot turn the clock back.
        """
        ...

    def publish(
        self, version: int, *, step: int, probe: Probe, save: Callable[[Path], None]
    ) -> None:
        """Write a version with what `save` puts into a folder, whole or not at all.

        A damaged version is replaced, and one of the same content is left as it is.

        Raises:
            StorageError: the disk is full, or gone.
            WeightsError: it is there with other content (a folder, whose only writer is the holder
                of the run's lease, replaces it).
        """
        ...

    def verify(self, version: int) -> Manifest:
        """The manifest of a version whose files, where it was published, all match it.

        Raises:
            WeightsError: missing, torn, corrupt, or of another run.
        """
        ...

    def fetch(self, version: int) -> Fetched:
        """Bring a version to this machine and verify it.

        Raises:
            WeightsError: missing, torn, corrupt, or of another run. Keep what is loaded.
            StorageError: there is no room for it.
        """
        ...

    def retain(self, keep: Collection[int]) -> None:
        """Delete every version that is not in `keep`; the newest always stays."""
        ...


async def fetch_newest(store: WeightStore, required: int) -> Fetched:
    """The newest version, off the event loop.

    Raises:
        EngineError: it is older than `required`.
        WeightsError, ServiceError, StorageError: as `WeightStore.fetch`.
    """
    try:
        newest = await asyncio.to_thread(store.latest)
    except ServiceError:
        newest = required  # fetching waits for the store, asking does not
    if newest is None or newest < required:
        raise EngineError(f"policy version {required} is required, newest published: {newest}")
    return await asyncio.to_thread(store.fetch, newest)
