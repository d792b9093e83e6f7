"""What a version is made of: the checksums of its files, and who wrote it when."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from rlsd.errors import WeightsError

MANIFEST = "MANIFEST.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A short sequence and the learner's log-probs of it, by which an engine proves its weights."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    """Nats of token_ids[1:], each given the tokens before it, at temperature 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a version is, written last."""

    run_id: str
    version: int
    step: int
    sha256: dict[str, str]
    """By file name."""
    probe: Probe

    def encoded(self) -> bytes:
        """As it is written; equal for equal contents."""
        return json.dumps(asdict(self), indent=1).encode()


def describe(folder: Path, *, run_id: str, version: int, step: int, probe: Probe) -> Manifest:
    """The manifest of the files in `folder`."""
    files = {p.name: sha256_of(p) for p in sorted(folder.iterdir())}
    return Manifest(run_id=run_id, version=version, step=step, sha256=files, probe=probe)


def read_manifest(content: bytes, *, where: str, run_id: str, version: int) -> Manifest:
    """A manifest out of what was written.

    Args:
        where: of the version, for messages.

    Raises:
        WeightsError: torn, or of another run or version.
    """
    try:
        raw = json.loads(content)
        probe = Probe(**{k: tuple(v) for k, v in raw.pop("probe").items()})
        manifest = Manifest(**raw, probe=probe)
        strange = [name for name in manifest.sha256 if Path(name).name != name]
    except (ValueError, TypeError, KeyError, AttributeError) as cause:
        raise unreadable(where, cause) from cause
    if strange:
        raise unreadable(where, f"{strange[0]!r} is no file's name")
    if (manifest.run_id, manifest.version) != (run_id, version):
        raise WeightsError(
            f"weights {where}: written by run {manifest.run_id!r} as version "
            f"{manifest.version}, wanted {run_id!r} version {version}"
        )
    return manifest


def check_files(folder: Path, manifest: Manifest) -> None:
    """Return when every file in `folder` is the one that was published.

    Raises:
        WeightsError: one is missing, or has another checksum.
    """
    for name, expected in manifest.sha256.items():
        if not (folder / name).is_file() or sha256_of(folder / name) != expected:
            raise damaged(str(folder / name))


def unreadable(where: str, cause: object) -> WeightsError:
    """The error of a version whose manifest says nothing."""
    return WeightsError(f"weights {where}: no readable manifest ({cause})")


def damaged(where: str) -> WeightsError:
    """The error of a file that is not what was published."""
    return WeightsError(f"weights {where}: missing or its checksum differs")


def sha256_of(path: Path) -> str:
    """Of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
