"""Loading the prompts of a run: from a file or a catalogue to a `Dataset`.

A bad record is counted, with its place and reason; a source that is bad as a whole stops the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from rlsd.data import catalogues, files
from rlsd.data.converters import Shape, shape_of, to_record, usual_verifier
from rlsd.data.records import RecordError, parse_record
from rlsd.data.rows import LocatedRow, Rejection, Rows
from rlsd.errors import ConfigError
from rlsd.images.references import resolved
from rlsd.trajectory import Prompt

MAX_BAD_SHARE = 0.01
"""Above 1 % bad records a load fails. A stray or torn line in a large file stays far below it; a
wrong column, shape or export goes far beyond. In a file of under 100 records one bad record is
enough: there each one matters, and is quick to correct."""
NUM_REASONS = 3
"""Rejections that a message cites; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """The prompts of one source, in its order."""

    source: str
    prompts: tuple[Prompt, ...]
    rejected: tuple[Rejection, ...]

    @property
    def num_kept(self) -> int:
        """Good records."""
        return len(self.prompts)

    @property
    def summary(self) -> str:
        """One line: how many were kept and rejected, with the first reasons."""
        counts = f"{self.source}: {self.num_kept} prompts"
        if not self.rejected:
            return counts
        return f"{counts}, {len(self.rejected)} records rejected: {_first(self.rejected)}"


def load_prompts(
    source: str | Path,
    *,
    default_verifier: str | None = None,
    shape: str = "auto",
    limit: int | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
) -> Dataset:
    """Read, convert and check the records of a source.

    All prompts are held in memory (about 2 KB each); the file is not.

    Args:
        source: path of a .jsonl, .json or .parquet file, `reasoning_gym:TASK?size=N&seed=S`, or
            `datasets:NAME?split=S&name=CONFIGURATION`.
        default_verifier: kind for records that name none; None: the one their shape implies.
        shape: a `Shape`, or "auto": each record's own columns decide. Ours, for reasoning_gym.
        limit: stop after this many good records.
        max_bad_share: 0 … 1; a larger share of bad records among those read is an error.

    Raises:
        ConfigError: the source is missing, unreadable, empty or unknown, a package for it is not
            installed, no record is good, or too many are bad.
    """
    origin = _open(str(source), default_verifier, shape)
    tally = _Tally()
    with closing(origin.rows) as rows:
        for row in rows:
            tally.add(row, origin, default_verifier)
            if limit is not None and len(tally.prompts) >= limit:
                break
    _refuse_bad(str(source), tally, max_bad_share)
    return Dataset(source=str(source), prompts=tuple(tally.prompts), rejected=tuple(tally.rejected))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """Where rows come from and how they are read."""

    rows: Rows
    stem: str
    """First part of the ids of records that have none."""
    shape: Shape | None
    """None: each row's columns decide."""
    folder: Path | None = None
    """What paths of images are relative to."""


@dataclass(slots=True)
class _Tally:
    """What was read so far."""

    prompts: list[Prompt] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    line_of_id: dict[str, int] = field(default_factory=dict)

    def add(
        self, row: LocatedRow | Rejection, origin: _Origin, default_verifier: str | None
    ) -> None:
        if isinstance(row, Rejection):
            self.rejected.append(row)
            return
        try:
            prompt = _prompt(row, origin, default_verifier)
            first_line = self.line_of_id.setdefault(prompt.id, row.line)
            if first_line != row.line:
                raise RecordError(f"id {prompt.id!r} is that of line {first_line}; make it unique")
        except RecordError as cause:
            self.rejected.append(Rejection(file=row.file, line=row.line, reason=str(cause)))
        else:
            self.prompts.append(prompt)


def _prompt(row: LocatedRow, origin: _Origin, default_verifier: str | None) -> Prompt:
    values, default_id = row.values, f"{origin.stem}:{row.line}"
    if not isinstance(values, dict):
        raise RecordError(f"a record must be an object, not {type(values).__name__}; write {{...}}")
    shape = origin.shape or shape_of(values)
    verifier = default_verifier or usual_verifier(values, shape)
    try:
        record = to_record(values, shape)
        prompt = parse_record(record, default_id=default_id, default_verifier=verifier)
        return _with_images(prompt, origin.folder) if prompt.images else prompt
    except RecordError as cause:
        if shape is Shape.RLSD:
            raise
        raise RecordError(f"read as {shape}: {cause}") from cause


def _with_images(prompt: Prompt, folder: Path | None) -> Prompt:
    """Its images by references that every service understands, each of them there."""
    try:
        return replace(prompt, images=tuple(resolved(image, folder) for image in prompt.images))
    except ConfigError as cause:
        raise RecordError(str(cause)) from cause


def _open(source: str, default_verifier: str | None, shape: str) -> _Origin:
    if shape != "auto" and shape not in list(Shape):
        known = ", ".join(["auto", *Shape])
        raise ConfigError(f"data {source}: unknown shape {shape!r}; known shapes: {known}")
    chosen = None if shape == "auto" else Shape(shape)
    if source.startswith("reasoning_gym:"):
        catalogue = catalogues.parse_uri(source)
        rows = catalogues.reasoning_gym_rows(catalogue, default_verifier=default_verifier)
        stem = f"{catalogue.name}-{catalogue.query.get('seed', '0')}"
        return _Origin(rows=rows, stem=stem, shape=Shape.RLSD)
    if source.startswith("datasets:"):
        catalogue = catalogues.parse_uri(source)
        stem = f"{catalogue.name}-{catalogue.query.get('split', 'train')}"
        return _Origin(rows=catalogues.datasets_rows(catalogue), stem=stem, shape=chosen)
    path = Path(source)
    return _Origin(rows=files.file_rows(path), stem=path.stem, shape=chosen, folder=path.parent)


def _refuse_bad(source: str, tally: _Tally, max_bad_share: float) -> None:
    num_bad = len(tally.rejected)
    num_read = num_bad + len(tally.prompts)
    if num_read == 0:
        raise ConfigError(f"data {source}: no records; write at least one, or give another source")
    if not tally.prompts or num_bad > max_bad_share * num_read:
        raise ConfigError(
            f"data {source}: {num_bad} of {num_read} records cannot be used "
            f"(allowed: {max_bad_share:.0%}); correct or remove them: {_first(tally.rejected)}"
        )


def _first(rejected: Sequence[Rejection]) -> str:
    more = ", ..." if len(rejected) > NUM_REASONS else ""
    return ", ".join(str(rejection) for rejection in rejected[:NUM_REASONS]) + more
