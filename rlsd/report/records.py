"""What a run left on disk, read with tolerance: a run in progress has a report too.

One rule: a file that is missing or torn becomes a note on the page, never a failed report. Only a
folder that is not there is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsd import config
from rlsd.errors import ConfigError

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Where the admitted groups ended: `admitted = trained + rejected + failed + in_flight`."""

    admitted: int
    trained: int
    rejected: Mapping[str, int]
    """By reason."""
    failed: Mapping[str, int]
    """By kind."""
    in_flight: int

    @property
    def num_rejected(self) -> int:
        """Rejected groups, all reasons."""
        return sum(self.rejected.values())

    @property
    def num_failed(self) -> int:
        """Failed groups, all kinds."""
        return sum(self.failed.values())

    @property
    def residual(self) -> int:
        """Admitted groups without an outcome; anything but 0 is a lost or doubled group."""
        return self.admitted - self.trained - self.num_rejected - self.num_failed - self.in_flight


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One finite number for each step that has it."""

    steps: tuple[float, ...] = ()
    values: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """The folder of one run."""

    name: str
    config: config.RunConfig | None
    summary: Row | None
    """None while the run is going on, or after it was killed."""
    metrics: tuple[Row, ...]
    """One row a step, in step order."""
    evaluations: tuple[Row, ...]
    notes: tuple[str, ...]
    """What could not be read, in words."""

    @property
    def method(self) -> str:
        """Name of the method, or an empty string."""
        if self.config is not None:
            return self.config.method.name
        return str((self.summary or {}).get("method", ""))

    @property
    def last_step(self) -> int:
        """Steps done so far."""
        done = [int(row["step"]) for row in (*self.metrics, *self.evaluations)]
        return max([*done, int(number(self.summary, "steps") or 0)])

    @property
    def outcomes(self) -> Outcomes | None:
        """The final accounting, when there is one."""
        return outcomes_of((self.summary or {}).get("outcomes"))


def read_run(folder: Path) -> RunRecord:
    """Everything the report needs from `folder`, except the batch log.

    Raises:
        ConfigError: there is no such folder.
    """
    if not folder.is_dir():
        raise ConfigError(f"report: there is no run folder {folder}; give one that `rlsd run` made")
    notes: list[str] = []
    return RunRecord(
        name=folder.name,
        config=_read_config(folder / "config.json", notes),
        summary=_read_summary(folder / "summary.json", notes),
        metrics=read_rows(folder / "metrics.jsonl", notes),
        evaluations=read_rows(folder / "evaluations.jsonl", notes),
        notes=tuple(notes),
    )


def read_rows(path: Path, notes: list[str]) -> tuple[Row, ...]:
    """Rows of a JSONL file by step; a step written twice (after a resume) counts once, the last."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        notes.append(f"{path.name} is missing.")
        return ()
    by_step: dict[int, Row] = {}
    num_torn = 0
    for line in filter(str.strip, lines):
        row = _parse(line)
        step = number(row, "step")
        if row is None or step is None:
            num_torn += 1
            continue
        by_step[int(step)] = row
    if num_torn:
        notes.append(f"{path.name}: {num_torn} unreadable line(s) left out.")
    return tuple(by_step[step] for step in sorted(by_step))


def number(row: Row | None, key: str) -> float | None:
    """The finite number under a dotted `key`, or None."""
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def column(rows: Iterable[Row], key: str) -> Column:
    """The numbers under a dotted `key`, with the steps that have one."""
    found = [(float(row["step"]), number(row, key)) for row in rows]
    present = [(step, value) for step, value in found if value is not None]
    return Column(
        steps=tuple(step for step, _ in present), values=tuple(value for _, value in present)
    )


def flat_keys(rows: Sequence[Row]) -> list[str]:
    """All keys with numbers, nested ones dotted, in order of first appearance."""
    keys: dict[str, None] = {}
    for row in rows:
        for key, value in row.items():
            nested = value if isinstance(value, Mapping) else None
            names = [f"{key}.{inner}" for inner in nested] if nested is not None else [key]
            keys.update(dict.fromkeys(name for name in names if number(row, name) is not None))
    return [key for key in keys if key != "step"]


def outcomes_of(value: Any) -> Outcomes | None:
    """The accounting in a `summary.json` or `results.json`; None when it is not there."""
    if not isinstance(value, Mapping):
        return None
    return Outcomes(
        admitted=_count(value.get("admitted")),
        trained=_count(value.get("trained")),
        rejected=_counts(value.get("rejected")),
        failed=_counts(value.get("failed")),
        in_flight=_count(value.get("in_flight")),
    )


def _read_config(path: Path, notes: list[str]) -> config.RunConfig | None:
    if not path.is_file():
        notes.append("config.json is missing: method, model and data are not known.")
        return None
    try:
        return config.load(path)
    except ConfigError:
        notes.append("config.json cannot be read by this release: method and data are not known.")
        return None


def _read_summary(path: Path, notes: list[str]) -> Row | None:
    if not path.is_file():
        return None
    summary = _parse(path.read_text(encoding="utf-8", errors="replace"))
    if summary is None:
        notes.append("summary.json cannot be read.")
    return summary


def _parse(text: str) -> Row | None:
    """A JSON object, or None."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0


def _counts(value: Any) -> dict[str, int]:
    """Counts by reason; a bare number is one unnamed reason."""
    if isinstance(value, Mapping):
        return {str(key): _count(inner) for key, inner in value.items()}
    return {"unnamed": _count(value)} if _count(value) else {}
