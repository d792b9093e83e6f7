"""The ledger of a run: one file a step, written before the step is trained, chained by hash.

The file of step n holds every group that step accounts for (trained, rejected, failed) and the
checksum of the file of step n-1. A restart loads a checkpoint and executes the steps after it from
here; the report, the audit and a replay read the same files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import message

from rlsd import durable
from rlsd.errors import RlsdError
from rlsd.trajectory import Group
from rlsd.wire.convert import group_from_proto, group_to_proto
from rlsd.wire.v1 import batch_pb2


class BatchLogError(RlsdError):
    """The log is torn, out of order, or of another run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step accounts for."""

    step: int
    groups: tuple[Group, ...]
    sha256: str
    """Of the file."""


class BatchLog:
    """The batch files of one run."""

    def __init__(self, folder: Path, run_id: str = "") -> None:
        self._folder = folder
        self._run_id = run_id

    def path(self, step: int) -> Path:
        """File of a step."""
        return self._folder / f"{step:08d}.batch"

    def steps(self) -> list[int]:
        """Logged steps in order, from 1 without a gap.

        Raises:
            BatchLogError: a step is missing in between.
        """
        steps = sorted(int(p.stem) for p in self._folder.glob("[0-9]*.batch"))
        if steps != list(range(1, len(steps) + 1)):
            raise BatchLogError(f"batch log {self._folder}: steps {steps[:3]}… have a gap")
        return steps

    def append(self, step: int, groups: Sequence[Group], *, previous_sha256: str) -> str:
        """Write step `step` durably and return its checksum, the next step's `previous_sha256`.

        Raises:
            BatchLogError: the step is logged already: another learner writes this run.
        """
        record = batch_pb2.Batch(
            run_id=self._run_id,
            step=step,
            previous_sha256=previous_sha256,
            groups=[group_to_proto(g) for g in groups],
        )
        content = record.SerializeToString(deterministic=True)
        durable.make_folder(self._folder)
        try:
            durable.write_file(self.path(step), content, is_new=True)
        except FileExistsError as cause:
            raise BatchLogError(
                f"batch log {self.path(step)}: written by another learner; this one stops"
            ) from cause
        return hashlib.sha256(content).hexdigest()

    def read(self, step: int, *, previous_sha256: str | None = None) -> Batch:
        """Step `step`; with `previous_sha256`, its place in the chain is checked too."""
        path = self.path(step)
        record = batch_pb2.Batch()
        try:
            content = path.read_bytes()
            record.ParseFromString(content)
        except (OSError, message.DecodeError) as cause:
            raise BatchLogError(f"batch log {path}: cannot be read ({cause})") from cause
        if record.step != step or (self._run_id and record.run_id != self._run_id):
            raise BatchLogError(
                f"batch log {path}: holds step {record.step} of run {record.run_id!r}"
            )
        if previous_sha256 is not None and record.previous_sha256 != previous_sha256:
            raise BatchLogError(f"batch log {path}: does not follow the step before it")
        return Batch(
            step=step,
            groups=tuple(group_from_proto(g) for g in record.groups),
            sha256=hashlib.sha256(content).hexdigest(),
        )
