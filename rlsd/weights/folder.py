"""Versions in a folder that all services see."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path

from rlsd import durable
from rlsd.weights.manifest import MANIFEST, Manifest, Probe, check_files, describe, read_manifest
from rlsd.weights.manifest import unreadable as _unreadable
from rlsd.weights.store import Fetched


class FolderStore:
    """The versions of one run in a folder that all services see."""

    look_every_s = 0.5

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder = folder
        self._run_id = run_id

    def path(self, version: int) -> Path:
        """Folder of a version, published or not."""
        return self._folder / f"v{version:08d}"

    def versions(self) -> list[int]:
        """Published versions, oldest first."""
        return sorted(int(p.parent.name[1:]) for p in self._folder.glob(f"v*/{MANIFEST}"))

    def latest(self) -> int | None:
        """The newest version, or None before the first publication."""
        return max(self.versions(), default=None)

    def publish(
        self, version: int, *, step: int, probe: Probe, save: Callable[[Path], None]
    ) -> None:
        """Write a version, whole or not at all; one that is there is replaced."""

        def fill(folder: Path) -> None:
            save(folder)
            manifest = describe(
                folder, run_id=self._run_id, version=version, step=step, probe=probe
            )
            (folder / MANIFEST).write_bytes(manifest.encoded())

        durable.write_folder(self.path(version), fill)

    def verify(self, version: int) -> Manifest:
        """The manifest of a version whose files all match it."""
        folder = self.path(version)
        try:
            content = (folder / MANIFEST).read_bytes()
        except OSError as cause:
            raise _unreadable(str(folder), cause) from cause
        manifest = read_manifest(content, where=str(folder), run_id=self._run_id, version=version)
        check_files(folder, manifest)
        return manifest

    def fetch(self, version: int) -> Fetched:
        """The folder of a version, verified; nothing is moved."""
        started = time.monotonic()
        manifest = self.verify(version)
        return Fetched(
            folder=self.path(version),
            manifest=manifest,
            fetch_s=0.0,
            verify_s=time.monotonic() - started,
            num_bytes=0,
        )

    def retain(self, keep: Collection[int]) -> None:
        """Delete every version that is not in `keep`; the newest always stays."""
        newest = self.latest()
        for version in self.versions():
            if version not in keep and version != newest:
                shutil.rmtree(self.path(version), ignore_errors=True)
