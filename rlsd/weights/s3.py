"""Versions in an object store: objects first, the manifest last and only if there is none.

    PREFIX/v00000012/MANIFEST.json                              what makes it a version
    PREFIX/v00000012/<of the manifest's sha256>/{config.json, model.safetensors, …}

Two writers of one version never touch each other's objects, unless they write the same.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path

from rlsd.errors import RlsdError, WeightsError
from rlsd.weights.bucket import Bucket
from rlsd.weights.cache import Cache
from rlsd.weights.manifest import (
    MANIFEST,
    Manifest,
    Probe,
    check_files,
    damaged,
    describe,
    read_manifest,
    unreadable,
)
from rlsd.weights.store import Fetched

log = logging.getLogger(__name__)

_KEY = re.compile(r"v(\d{8,})/(.+)")


class S3Store:
    """The versions of one run below a prefix of a bucket."""

    look_every_s = 2.0
    """A request of its own, which the store's owner is billed for."""

    def __init__(
        self, bucket: Bucket, prefix: str, run_id: str, local: Path, *, timeout_s: float
    ) -> None:
        """Remember the settings; nothing is asked yet.

        Args:
            local: folder of this machine for what is fetched, and for what is being published.
            timeout_s: until a version is published, verified or fetched, outages included.
        """
        self._bucket = bucket
        self._prefix = prefix
        self._run_id = run_id
        self._cache = Cache(local)
        self._timeout_s = timeout_s
        self._turn = threading.Lock()
        self._has_published = False

    def versions(self) -> list[int]:
        """Published versions, oldest first."""
        return sorted(v for v, keys in self._keys().items() if self._manifest_key(v) in keys)

    def latest(self) -> int | None:
        """The newest version, or None before the first publication."""
        return max(self.versions(), default=None)

    def publish(
        self, version: int, *, step: int, probe: Probe, save: Callable[[Path], None]
    ) -> None:
        """Write a version, whole or not at all."""
        deadline = time.monotonic() + self._timeout_s
        with self._cache.aside() as made:
            save(made.folder)
            manifest = describe(
                made.folder, run_id=self._run_id, version=version, step=step, probe=probe
            )
            content = manifest.encoded()
            there = self._bucket.read(self._manifest_key(version), deadline=deadline)
            if there is not None and there != content:
                self._make_way(version, deadline)
            for name in manifest.sha256:
                key = self._object_key(version, content, name)
                self._bucket.upload(made.folder / name, key, deadline=deadline)
        if there != content:
            self._publish_manifest(version, content, deadline)

    def _make_way(self, version: int, deadline: float) -> None:
        """Withdraw a version that is damaged; one that is whole was somebody's to publish."""
        try:
            self._verified(version, deadline)
        except WeightsError:
            self._bucket.delete(self._manifest_key(version), deadline=deadline)
        else:
            raise self._others(version)

    def _publish_manifest(self, version: int, content: bytes, deadline: float) -> None:
        key = self._manifest_key(version)
        if not self._bucket.write_new(key, content, deadline=deadline):
            # Ours, when the answer to the first attempt was lost.
            if self._bucket.read(key, deadline=deadline) != content:
                raise self._others(version)
        elif not self._has_published and self._bucket.write_new(key, content, deadline=deadline):
            log.warning(
                "weight store overwrites",
                extra={
                    "path": self._where(version),
                    "reason": "it ignores If-None-Match; the run's lease alone keeps a second "
                    "learner from writing",
                },
            )
        self._has_published = True

    def verify(self, version: int) -> Manifest:
        """The manifest of a version all of whose objects match it; they are read for that."""
        return self._verified(version, time.monotonic() + self._timeout_s)

    def _verified(self, version: int, deadline: float) -> Manifest:
        content, manifest = self._manifest(version, deadline)
        for name, expected in manifest.sha256.items():
            key = self._object_key(version, content, name)
            if self._bucket.sha256(key, deadline=deadline) != expected:
                raise damaged(self._bucket.url(key))
        return manifest

    def fetch(self, version: int) -> Fetched:
        """Bring a version to this machine, unless it is here, and verify it."""
        deadline = time.monotonic() + self._timeout_s
        with self._turn:
            started = time.monotonic()
            content, manifest = self._manifest(version, deadline)
            self._cache.sweep(wanted=version)
            here = self._here(version, content, manifest, started)
            return here or self._bring(version, content, manifest, started, deadline)

    def _here(
        self, version: int, content: bytes, manifest: Manifest, started: float
    ) -> Fetched | None:
        """The version that was fetched before, if it is still whole."""
        held = self._cache.find(version, content)
        if held is None:
            return None
        found = time.monotonic()
        try:
            check_files(held.folder, manifest)
        except WeightsError as error:
            log.warning("fetched again", extra={"version": version, "reason": str(error)})
            self._cache.discard(version)
            return None
        return Fetched(
            folder=held.folder,
            manifest=manifest,
            fetch_s=found - started,
            verify_s=time.monotonic() - found,
            num_bytes=0,
            hold=held.hold,
        )

    def _bring(
        self, version: int, content: bytes, manifest: Manifest, started: float, deadline: float
    ) -> Fetched:
        sizes: list[int] = []
        moments: list[float] = []

        def fill(folder: Path) -> None:
            for name in manifest.sha256:
                key = self._object_key(version, content, name)
                self._bucket.download(key, folder / name, deadline=deadline)
                sizes.append((folder / name).stat().st_size)
            moments.append(time.monotonic())
            try:
                check_files(folder, manifest)
            except WeightsError as error:
                raise WeightsError(f"{error}; fetched from {self._where(version)}") from error
            moments.append(time.monotonic())

        held = self._cache.take_in(version, content, fill)
        arrived, verified = moments
        return Fetched(
            folder=held.folder,
            manifest=manifest,
            fetch_s=arrived - started,
            verify_s=verified - arrived,
            num_bytes=sum(sizes),
            hold=held.hold,
        )

    def retain(self, keep: Collection[int]) -> None:
        """Delete every version that is not in `keep`; the newest always stays.

        What cannot be deleted now is deleted another time.
        """
        try:
            found = self._keys()
            published = [v for v, keys in found.items() if self._manifest_key(v) in keys]
            newest = max(published, default=-1)
            for version in sorted(v for v in found if v not in keep and v < newest):
                # The manifest first: a version is never there in part.
                manifest = self._manifest_key(version)
                for key in sorted(found[version], key=lambda k: (k != manifest, k)):
                    self._bucket.delete(key)
        except RlsdError as error:
            log.warning("old weights not deleted", extra={"reason": str(error)})

    def _manifest(self, version: int, deadline: float) -> tuple[bytes, Manifest]:
        content = self._bucket.read(self._manifest_key(version), deadline=deadline)
        where = self._where(version)
        if content is None:
            raise unreadable(where, "there is none")
        return content, read_manifest(content, where=where, run_id=self._run_id, version=version)

    def _keys(self) -> dict[int, set[str]]:
        """All keys by version, those of unfinished versions too."""
        found: defaultdict[int, set[str]] = defaultdict(set)
        start = f"{self._prefix}/v"
        for key in self._bucket.keys(start):
            if match := _KEY.fullmatch(key.removeprefix(f"{self._prefix}/")):
                found[int(match[1])].add(key)
        return found

    def _manifest_key(self, version: int) -> str:
        return f"{self._prefix}/v{version:08d}/{MANIFEST}"

    def _object_key(self, version: int, manifest: bytes, name: str) -> str:
        part = hashlib.sha256(manifest).hexdigest()[:16]
        return f"{self._prefix}/v{version:08d}/{part}/{name}"

    def _where(self, version: int) -> str:
        return self._bucket.url(f"{self._prefix}/v{version:08d}")

    def _others(self, version: int) -> WeightsError:
        return WeightsError(
            f"weights {self._where(version)}: is published with other content, by another learner "
            "or an earlier run; end that one, or choose another run.id or weights.url"
        )
