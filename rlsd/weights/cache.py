"""Fetched versions in a folder of this machine, which several processes may share.

A folder that somebody uses is held by a lock on itself, which ends with its owner however that
dies. A sweep takes away old versions that nobody holds; what a killed process was writing goes
before the next one is written.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rlsd.errors import StorageError
from rlsd.weights.manifest import MANIFEST

_KEPT_BESIDE = 1
"""Versions that nobody holds and that stay all the same: a teacher may go back to the last one."""
_ATTEMPTS = 5
_ASIDE = ".aside-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A folder that no sweep takes away while `hold` lives."""

    folder: Path
    hold: object


class Cache:
    """Versions below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, version: int) -> Path:
        """Folder of a version, there or not."""
        return self._folder / f"v{version:08d}"

    def find(self, version: int, manifest: bytes) -> Held | None:
        """The version, if it is here with the very same manifest; its files may be damaged."""
        folder = self.path(version)
        hold = _hold(folder)
        with contextlib.suppress(OSError):
            if hold is not None and (folder / MANIFEST).read_bytes() == manifest:
                return Held(folder=folder, hold=hold)
        return None

    def take_in(self, version: int, manifest: bytes, fill: Callable[[Path], None]) -> Held:
        """Make the version with what `fill` puts into a folder, whole or not at all.

        Raises:
            StorageError: it cannot be written here.
        """
        with self.aside() as made:
            fill(made.folder)
            (made.folder / MANIFEST).write_bytes(manifest)
            for _ in range(_ATTEMPTS):
                try:
                    made.folder.rename(self.path(version))
                except OSError as cause:
                    if cause.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
                else:
                    return Held(folder=self.path(version), hold=made.hold)
                if (others := self.find(version, manifest)) is not None:
                    return others  # another process was first; it has verified the same
                self.discard(version)
            raise StorageError(f"{self.path(version)}: other processes keep writing it")

    @contextlib.contextmanager
    def aside(self) -> Iterator[Held]:
        """A new, held folder, which is removed at the end unless it was renamed.

        Raises:
            StorageError: it, or what the caller writes into it, cannot be written.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for left in self._folder.glob(f"{_ASIDE}*"):  # by a process that was killed
                _remove_unheld(left)
            made = self._new()
            try:
                yield made
            finally:
                shutil.rmtree(made.folder, ignore_errors=True)
        except OSError as cause:
            raise StorageError(
                f"{self._folder}: cannot be written ({cause.strerror or cause}); make room for "
                "the weights there"
            ) from cause

    def discard(self, version: int) -> None:
        """Take a version away, also from those that hold it: it is damaged, or another one."""
        gone = self._folder / f"{_ASIDE}{uuid.uuid4().hex}"
        with contextlib.suppress(FileNotFoundError):
            self.path(version).rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def sweep(self, *, wanted: int) -> None:
        """Take away what nobody holds, except `wanted` and the newest version beside it."""
        found = {int(p.name[1:]) for p in self._folder.glob("v*") if p.name[1:].isdigit()}
        for version in sorted(found - {wanted}, reverse=True)[_KEPT_BESIDE:]:
            _remove_unheld(self.path(version))

    def _new(self) -> Held:
        for _ in range(_ATTEMPTS):  # a sweep may come before the lock
            folder = self._folder / f"{_ASIDE}{uuid.uuid4().hex}"
            folder.mkdir()
            if (hold := _hold(folder)) is not None:
                return Held(folder=folder, hold=hold)
        raise StorageError(f"{self._folder}: new folders vanish; who else cleans there?")


class _Hold:
    """A shared lock on a folder, until nobody refers to it."""

    def __init__(self, descriptor: int) -> None:
        weakref.finalize(self, os.close, descriptor)


def _hold(folder: Path) -> _Hold | None:
    """Hold a folder; None when it is not there, or is being taken away."""
    descriptor = _locked(folder, fcntl.LOCK_SH)
    if descriptor is None:
        return None
    hold = _Hold(descriptor)
    with contextlib.suppress(FileNotFoundError):
        there, ours = folder.stat(), os.fstat(descriptor)
        if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
            return hold
    return None


def _remove_unheld(folder: Path) -> None:
    descriptor = _locked(folder, fcntl.LOCK_EX)
    if descriptor is None:
        return
    try:
        # Aside first: whoever opens it from now on sees that it is not there any more.
        gone = folder.with_name(f"{_ASIDE}{uuid.uuid4().hex}")
        with contextlib.suppress(FileNotFoundError):
            folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
    finally:
        os.close(descriptor)


def _locked(folder: Path, kind: int) -> int | None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
