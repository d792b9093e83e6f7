"""Rates and lengths of runs that have been, from their folders.

Generation and teacher are only to be seen in what the learner waits for, so the runs must have been
synchronous. There the wait of a step is, by least squares over all steps,

    decode_s * longest + decode_s_per_sequence * drawn + teach_s_per_token * read

with the tokens of the longest completion, those of all of them (where the engine works batch by
batch each counts as the longest), and the positions that the teacher reads. Runs with one number of
completions a step cannot tell the first two apart; then decoding has one pace.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rlsd.batch_log import BatchLog
from rlsd.config import load
from rlsd.errors import ConfigError
from rlsd.planning.rates import Rates
from rlsd.planning.workload import GroupLoad, Measured
from rlsd.trajectory import Group, GroupOutcome, RejectReason

_WARM_UP_STEPS = 2
_FEWEST_STEPS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What runs show."""

    rates: Rates
    workload: Measured
    num_steps: int
    knows_batches: bool
    """Whether they tell how the pace of decoding depends on the number of completions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """One line of metrics.jsonl with the groups behind it."""

    phase_s: dict[str, float]
    loads: list[GroupLoad]
    is_continuous: bool

    @property
    def longest(self) -> int:
        return max(n for load in self.loads for n in load.completion_tokens)

    @property
    def num_sequences(self) -> int:
        return sum(len(load.completion_tokens) for load in self.loads)

    @property
    def drawn(self) -> int:
        if self.is_continuous:
            return sum(load.written_tokens for load in self.loads)
        return self.num_sequences * self.longest

    @property
    def read(self) -> int:
        return sum(load.read_tokens for load in self.loads if not load.is_rejected)

    @property
    def check_s(self) -> float:
        return max(load.verify_s for load in self.loads)


def read_measurement(folders: Sequence[Path]) -> Measurement:
    """Read synchronous runs; the lengths are those of the first.

    Raises:
        ConfigError: there is no such run, it is too short, or it was not synchronous.
        BatchLogError: its log is damaged.
    """
    runs = [_read(folder) for folder in folders]
    steps = [step for run in runs for step in run]
    evaluations = [
        e["duration_s"]
        for folder in folders
        for e in _lines(folder / "evaluations.jsonl")
        if e["step"]
    ]
    knows_batches = len({step.num_sequences for step in steps}) > 1
    rates = _rates(steps, knows_batches=knows_batches)
    return Measurement(
        rates=replace(rates, evaluate_s=float(np.mean(evaluations or [0.0]))),
        workload=Measured([load for step in runs[0] for load in step.loads]),
        num_steps=len(steps),
        knows_batches=knows_batches,
    )


def _read(folder: Path) -> list[_Step]:
    config = load(folder / "config.json")
    if config.run.max_staleness:
        raise ConfigError(
            f"--rates {folder}: run.max_staleness is {config.run.max_staleness}, so its waits hide "
            f"what generation takes; give a run with 0"
        )
    lines = _lines(folder / "metrics.jsonl")[_WARM_UP_STEPS:]
    if len(lines) < _FEWEST_STEPS:
        raise ConfigError(
            f"--rates {folder}: {len(lines)} steps after the first {_WARM_UP_STEPS}; give a run "
            f"with at least {_FEWEST_STEPS}"
        )
    log = BatchLog(folder / "batches", config.run.id)
    is_continuous = config.rollout.engine != "transformers"
    steps = [
        _Step(
            phase_s=line["phase_s"],
            loads=_loads(log.read(int(line["step"])).groups),
            is_continuous=is_continuous,
        )
        for line in lines
        if line["phase_s"]  # none of a step that was executed again after a restart
    ]
    return [step for step in steps if step.loads]


def _rates(steps: Sequence[_Step], *, knows_batches: bool) -> Rates:
    wait_s, log_s, train_s, publish_s = (
        np.array([step.phase_s[name] for step in steps])
        for name in ("wait", "log", "train", "publish")
    )
    checks_s = np.array([step.check_s for step in steps])
    drawn = [step.drawn if knows_batches else 0 for step in steps]
    read = [step.read for step in steps]
    decode_s, decode_s_per_sequence, teach_s_per_token = _fit(
        wait_s - checks_s, [step.longest for step in steps], drawn, [2 * n for n in read]
    )
    train_fixed_s, train_s_per_token = _fit(train_s, [1] * len(steps), read)
    return Rates(
        decode_s=decode_s,
        decode_s_per_sequence=decode_s_per_sequence,
        teach_s_per_token=teach_s_per_token,
        train_s=train_fixed_s,
        train_s_per_token=train_s_per_token,
        log_s=float(log_s.mean()),
        publish_s=float(publish_s.mean()),
        hop_s=0.0,  # it is in the waits
    )


def _fit(seconds: Any, *sizes: Sequence[float]) -> list[float]:
    """Seconds of a unit of each size by least squares; one that would be negative is 0."""
    columns = np.column_stack(sizes).astype(float)
    scales = np.maximum(np.linalg.norm(columns, axis=0), 1e-12)
    found = np.zeros(len(sizes))
    kept = [column for column in range(len(sizes)) if columns[:, column].any()]
    while kept:
        solved = np.linalg.lstsq((columns / scales)[:, kept], seconds, rcond=None)[0]
        if (solved >= 0).all():
            found[kept] = solved
            break
        kept.pop(int(solved.argmin()))
    return [float(x) for x in found / scales]


def _loads(groups: Sequence[Group]) -> list[GroupLoad]:
    """The groups that were sampled; one that failed on the way has nothing to measure."""
    return [_load(g) for g in groups if g.trajectories and g.outcome is not GroupOutcome.FAILED]


def _load(group: Group) -> GroupLoad:
    by_verdict = (RejectReason.ZERO_VARIANCE.value, RejectReason.NO_VERDICT.value)
    return GroupLoad(
        prompt_tokens=0 if group.prompt_token_ids is None else len(group.prompt_token_ids),
        completion_tokens=tuple(t.num_sampled for t in group.trajectories),
        tool_tokens=sum(t.num_tokens - t.num_sampled for t in group.trajectories),
        is_rejected=group.reason in by_verdict,
        verify_s=max(t.verdict.duration_s if t.verdict else 0.0 for t in group.trajectories),
    )


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as cause:
        raise ConfigError(f"--rates {path}: cannot be read ({cause}); give a whole run") from cause
