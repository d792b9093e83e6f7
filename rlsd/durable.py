"""Writing so that a reader, or a restart, sees the whole thing or nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from rlsd.errors import StorageError
from rlsd.failpoints import failpoint


def make_folder(path: Path) -> None:
    """Make folder `path` unless it is there; raises StorageError."""
    with _storage(path):
        path.mkdir(parents=True, exist_ok=True)


def write_file(path: Path, content: bytes, *, is_new: bool = False) -> None:
    """Put `content` at `path`: written aside, flushed to disk, renamed into place.

    Raises:
        FileExistsError: `is_new`, and the file is there already: it keeps what it holds.
        StorageError: it cannot be written; what was there before is kept.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with _storage(path):
        try:
            with aside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            failpoint("file-write/rename")
            if is_new:
                path.hardlink_to(aside)  # unlike a rename, fails when another writer was first
            else:
                aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        _sync(path.parent)


def write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    """Make folder `path` with what `fill` writes into it; an existing one is replaced.

    A failure (disk full, a crash in `fill`) leaves what was there before.

    Raises:
        StorageError: it cannot be written.
    """
    with _storage(path):
        _write_folder(path, fill)


def _write_folder(path: Path, fill: Callable[[Path], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{path.name}.*"):  # by a writer that was killed
        shutil.rmtree(left, ignore_errors=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.mkdir()
    try:
        fill(aside)
        for file in sorted(p for p in aside.rglob("*") if p.is_file()):
            _sync(file)
        _sync(aside)
        failpoint("folder-fill/rename")
        if path.exists():
            shutil.rmtree(path)
        aside.rename(path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    _sync(path.parent)


@contextlib.contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Name the path and the remedy when the operating system refuses."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as cause:
        raise StorageError(
            f"{path}: cannot be written ({cause.strerror or cause}); what was there before is "
            "kept; make room or mend the volume, then continue with --resume"
        ) from cause


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
