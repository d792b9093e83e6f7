"""Published policy weights: a version is a folder that is whole, verified and never changed.

    weights/v00000012/{config.json, model.safetensors, …, MANIFEST.json}

The learner publishes; rollout and teacher pull. A reader never loads a version whose manifest is
missing, whose files do not match their checksums, or which belongs to another run.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from pathlib import Path

from rlsd import durable
from rlsd.errors import WeightsError

_MANIFEST = "MANIFEST.json"


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


class WeightStore:
    """The versions of one run in a folder that all services see."""

    def __init__(self, folder: Path, run_id: str) -> None:
        self._folder = folder
        self._run_id = run_id

    def path(self, version: int) -> Path:
        """Folder of a version, published or not."""
        return self._folder / f"v{version:08d}"

    def versions(self) -> list[int]:
        """Published versions, oldest first."""
        return sorted(int(p.parent.name[1:]) for p in self._folder.glob(f"v*/{_MANIFEST}"))

    def latest(self) -> int | None:
        """The newest version, or None before the first publication.

        By listing, not by a pointer file: a writer that was paused cannot turn the clock back.
        """
        return max(self.versions(), default=None)

    def publish(
        self, version: int, *, step: int, probe: Probe, save: Callable[[Path], None]
    ) -> None:
        """Write a version with what `save` puts into the folder, whole or not at all."""

        def fill(folder: Path) -> None:
            save(folder)
            files = {p.name: _sha256(p) for p in sorted(folder.iterdir())}
            manifest = Manifest(
                run_id=self._run_id, version=version, step=step, sha256=files, probe=probe
            )
            (folder / _MANIFEST).write_text(json.dumps(asdict(manifest), indent=1))

        durable.write_folder(self.path(version), fill)

    def verify(self, version: int) -> Manifest:
        """The manifest of a version whose files all match it.

        Raises:
            WeightsError: missing, torn, corrupt, or of another run. Keep what is loaded.
        """
        folder = self.path(version)
        try:
            raw = json.loads((folder / _MANIFEST).read_text())
            probe = Probe(**{k: tuple(v) for k, v in raw.pop("probe").items()})
            manifest = Manifest(**raw, probe=probe)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as cause:
            raise WeightsError(f"weights {folder}: no readable manifest ({cause})") from cause
        if (manifest.run_id, manifest.version) != (self._run_id, version):
            raise WeightsError(
                f"weights {folder}: written by run {manifest.run_id!r} as version "
                f"{manifest.version}, wanted {self._run_id!r} version {version}"
            )
        for name, expected in manifest.sha256.items():
            if not (folder / name).is_file() or _sha256(folder / name) != expected:
                raise WeightsError(f"weights {folder / name}: missing or its checksum differs")
        return manifest

    def retain(self, keep: Collection[int]) -> None:
        """Delete every version that is not in `keep`; the newest always stays."""
        newest = self.latest()
        for version in self.versions():
            if version not in keep and version != newest:
                shutil.rmtree(self.path(version), ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
