"""The arms of a comparison, from `results.json`, and the numbers that its tables show.

One rule: arms are compared at the same step. An arm that stopped early has no value at the end, and
is never given its last one instead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from rlsd.errors import ConfigError
from rlsd.report.records import Column, Outcomes, Row, column, number, outcomes_of
from rlsd.report.statistics import Estimate, PairedDifference, estimate, paired_difference

TARGET = 0.8
"""Accuracy of the "steps to" column."""
METRICS = ("mean_at_k", "greedy_accuracy")
"""In order of preference: the mean over samples is the less noisy."""


class Control(StrEnum):
    """An arm that keeps everything but one ingredient."""

    PERMUTED = "Δ permuted over tokens"
    OTHER_REFERENCE = "another prompt's reference"


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedRun:
    """One run of an arm."""

    seed: int
    evaluations: tuple[Row, ...]
    outcomes: Outcomes | None
    duration_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """All runs of one setting, by seed."""

    name: str
    runs: tuple[SeedRun, ...]
    settings: Mapping[str, Any]
    """Dotted key → value."""
    control: Control | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The whole file."""

    task: str
    steps: int
    metric: str
    """Key of the compared accuracy in the evaluations."""
    metric_words: str
    num_prompts: int | None
    half_step: int
    """The evaluated step nearest to the middle."""
    arms: tuple[Arm, ...]
    """The subject first."""

    @property
    def subject(self) -> Arm:
        """The arm that the others are measured against."""
        return self.arms[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One accuracy by seed."""

    by_seed: tuple[float | None, ...]
    estimate: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmRow:
    """One line of the table."""

    arm: Arm
    start: Cell
    half: Cell
    end: Cell
    greedy_end: Cell
    steps_to_target: tuple[int | None, ...]
    leakage_max: float | None
    leakage_last: float | None
    duration_s: float | None
    """Mean over seeds."""
    residuals: tuple[int, ...]
    """Of the runs whose accounting does not add up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Subject minus another arm, seed by seed."""

    arm: Arm
    half: PairedDifference | None
    end: PairedDifference | None


def read_comparison(path: Path) -> Comparison:
    """The comparison in a `results.json`.

    Raises:
        ConfigError: the file cannot be read, or holds no arm.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise ConfigError(
            f"report: {path} cannot be read ({cause}); give a results.json"
        ) from cause
    entries = values.get("arms") if isinstance(values, Mapping) else None
    entries = [e for e in entries or [] if isinstance(e, Mapping)]
    if not entries:
        raise ConfigError(f"report: {path} holds no arm; give what `rlsd compare` wrote")
    return comparison_of(values, entries)


def comparison_of(values: Row, entries: Sequence[Row]) -> Comparison:
    """The comparison in parsed JSON."""
    arms = _subject_first(_arms(entries))
    rows = [row for arm in arms for run in arm.runs for row in run.evaluations]
    metric = next((m for m in METRICS if all(_has(a, m) for a in arms)), METRICS[-1])
    evaluated = sorted({int(row["step"]) for row in rows})
    steps = int(number(values, "steps") or max(evaluated, default=0))
    k = next((int(k) for row in rows if (k := number(row, "k"))), 0)
    prompts = next((int(n) for row in rows if (n := number(row, "num_prompts"))), None)
    return Comparison(
        task=str(values.get("task", "")),
        steps=steps,
        metric=metric,
        metric_words=f"mean@{k}" if metric == "mean_at_k" else "greedy accuracy",
        num_prompts=prompts,
        half_step=min(evaluated, key=lambda s: (abs(s - steps / 2), s), default=0),
        arms=tuple(arms),
    )


def accuracy(run: SeedRun, metric: str, step: int) -> float | None:
    """The accuracy measured exactly at `step`."""
    row = next((r for r in run.evaluations if r["step"] == step), None)
    return number(row, metric)


def row_of(arm: Arm, comparison: Comparison) -> ArmRow:
    """The table line of an arm."""
    leakage = [column(run.evaluations, "leakage").values for run in arm.runs]
    leaked = [values for values in leakage if values]
    last = estimate([values[-1] for values in leaked])
    times = estimate([run.duration_s for run in arm.runs if run.duration_s is not None])
    residuals = [run.outcomes.residual for run in arm.runs if run.outcomes is not None]
    return ArmRow(
        arm=arm,
        start=_cell(arm, lambda run: accuracy(run, comparison.metric, 0)),
        half=_cell(arm, lambda run: accuracy(run, comparison.metric, comparison.half_step)),
        end=_cell(arm, lambda run: accuracy(run, comparison.metric, comparison.steps)),
        greedy_end=_cell(arm, lambda run: accuracy(run, "greedy_accuracy", comparison.steps)),
        steps_to_target=tuple(steps_to(run, comparison.metric, TARGET) for run in arm.runs),
        leakage_max=max((max(values) for values in leaked), default=None),
        leakage_last=None if last is None else last.mean,
        duration_s=None if times is None else times.mean,
        residuals=tuple(r for r in residuals if r != 0),
    )


def steps_to(run: SeedRun, metric: str, target: float) -> int | None:
    """The first evaluated step at or above `target`; None when it never was."""
    data = column(run.evaluations, metric)
    reached = (s for s, v in zip(data.steps, data.values, strict=True) if v >= target)
    return next((int(step) for step in reached), None)


def pair_of(first: Arm, second: Arm, comparison: Comparison) -> Pair:
    """First minus second at half and end, over the seeds that both have."""
    others = {run.seed: run for run in second.runs}

    def difference(step: int) -> PairedDifference | None:
        both = [
            (accuracy(run, comparison.metric, step), accuracy(other, comparison.metric, step))
            for run in first.runs
            if (other := others.get(run.seed)) is not None
        ]
        return paired_difference([a - b for a, b in both if a is not None and b is not None])

    return Pair(arm=second, half=difference(comparison.half_step), end=difference(comparison.steps))


def mean_curve(arm: Arm, metric: str) -> Column:
    """Mean over seeds at the steps that every seed has."""
    columns = [column(run.evaluations, metric) for run in arm.runs]
    tables = [dict(zip(c.steps, c.values, strict=True)) for c in columns if c]
    if not tables:
        return Column()
    steps = sorted(set.intersection(*(set(t) for t in tables)))
    values = [sum(t[s] for t in tables) / len(tables) for s in steps]
    return Column(steps=tuple(steps), values=tuple(values))


def _cell(arm: Arm, value: Callable[[SeedRun], float | None]) -> Cell:
    by_seed = tuple(value(run) for run in arm.runs)
    return Cell(by_seed=by_seed, estimate=estimate([v for v in by_seed if v is not None]))


def _arms(entries: Iterable[Row]) -> list[Arm]:
    """Entries grouped by name, in order of first appearance."""
    by_name: dict[str, list[Row]] = {}
    for entry in entries:
        by_name.setdefault(str(entry.get("name", "unnamed")), []).append(entry)
    arms = []
    for name, members in by_name.items():
        settings = _flat(members[0].get("settings"))
        runs = sorted((_run(m) for m in members), key=lambda run: run.seed)
        arms.append(Arm(name=name, runs=tuple(runs), settings=settings, control=_control(settings)))
    return arms


def _run(entry: Row) -> SeedRun:
    rows = [r for r in entry.get("evaluations") or [] if isinstance(r, Mapping)]
    return SeedRun(
        seed=int(number(entry, "seed") or 0),
        evaluations=tuple(
            sorted((r for r in rows if number(r, "step") is not None), key=lambda r: r["step"])
        ),
        outcomes=outcomes_of(entry.get("outcomes")),
        duration_s=number(entry, "duration_s"),
    )


def _control(settings: Mapping[str, Any]) -> Control | None:
    """Which ingredient the settings take away."""
    for key, value in settings.items():
        leaf = key.rpartition(".")[2]
        if leaf == "permute" and value is True:
            return Control.PERMUTED
        if leaf == "reference" and value == "other":
            return Control.OTHER_REFERENCE
    return None


def _subject_first(arms: list[Arm]) -> list[Arm]:
    """RLSD without a control setting is the subject; without one, the first arm."""

    def is_subject(arm: Arm) -> bool:
        method = arm.settings.get("method.name", arm.settings.get("method", arm.name))
        return arm.control is None and "rlsd" in (arm.name, method)

    candidates = [arm for arm in arms if is_subject(arm)] or arms
    subject = next((arm for arm in candidates if arm.name == "rlsd"), candidates[0])
    return [subject, *(arm for arm in arms if arm is not subject)]


def _has(arm: Arm, metric: str) -> bool:
    return any(column(run.evaluations, metric) for run in arm.runs)


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested settings with dotted keys."""
    flat: dict[str, Any] = {}
    for key, inner in value.items() if isinstance(value, Mapping) else ():
        if isinstance(inner, Mapping):
            flat |= _flat(inner, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _unquoted(inner)
    return flat


def _unquoted(value: Any) -> Any:
    """An override as written on the command line (`true`, `"other"`, `0.5`) as its value."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
