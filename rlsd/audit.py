"""Recompute a run's account from its batch log alone and hold it against what the run says.

Shares no code with the learner's ledger: a mistake there must show here. Reads one batch file at a
time, and only files: a run may go on meanwhile.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlsd.batch_log import Batch, BatchLog, BatchLogError
from rlsd.errors import ConfigError
from rlsd.trajectory import Group, GroupOutcome, failure_kind, group_id_of, num_scored

_MOST_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    is_ok: bool
    found: str
    """One line: what holds, or what is off and where."""


@dataclass(slots=True, kw_only=True)
class Account:
    """What a log accounts for."""

    steps: int = 0
    trained: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    trajectories: int = 0
    """Of trained groups."""
    trained_twice: int = 0

    @property
    def logged(self) -> int:
        """Groups with an outcome."""
        return self.trained + self.rejected.total() + self.failed.total()

    def as_json(self) -> dict[str, Any]:
        """Plain values, under the names of `summary.json`."""
        return {
            "steps": self.steps,
            "trained": self.trained,
            "rejected": dict(self.rejected),
            "failed": dict(self.failed),
            "verdicts": dict(self.verdicts),
            "trajectories": self.trajectories,
            "trained_twice": self.trained_twice,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit found."""

    run_id: str
    account: Account
    checks: tuple[Check, ...]

    @property
    def off(self) -> list[str]:
        """Names of the checks that do not hold."""
        return [check.name for check in self.checks if not check.is_ok]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "run_id": self.run_id,
            "ok": not self.off,
            "off": self.off,
            "account": self.account.as_json(),
            "checks": [asdict(check) for check in self.checks],
        }


def audit(folder: Path, run_id: str) -> Audit:
    """Read a run's folder and check its account.

    Raises:
        ConfigError: there is no batch log.
    """
    if not (folder / "batches").is_dir():
        raise ConfigError(f"run {folder}: has no batches folder; give the folder of a run")
    summary = _summary(folder)
    reading = _Reading(until=summary["steps"] if summary else None)
    broken = ""
    try:
        for batch in _batches(BatchLog(folder / "batches", run_id)):
            reading.add(batch)
    except BatchLogError as error:
        broken = str(error)
    checks = [
        _check("chain", broken, f"{reading.whole.steps} files, each follows the one before it"),
        *reading.checks(),
    ]
    if not broken:  # else all that follows would be off for this one reason
        checks += [_checkpoints(folder, reading.sha256), *_summary_checks(reading, summary)]
    return Audit(run_id=run_id, account=reading.whole, checks=tuple(checks))


def _summary_checks(reading: _Reading, summary: Mapping[str, Any] | None) -> list[Check]:
    if summary is None:
        found = f"none yet; {reading.whole.logged} groups have their outcome"
        return [_check("summary", "", found)]
    return [
        _indices(reading, summary),
        _identity(reading, summary),
        _against_summary(reading, summary),
    ]


def _batches(log: BatchLog) -> Iterator[Batch]:
    sha256 = ""
    for step in log.steps():
        batch = log.read(step, previous_sha256=sha256)
        sha256 = batch.sha256
        yield batch


def _summary(folder: Path) -> Mapping[str, Any] | None:
    path = folder / "summary.json"
    try:
        found: Mapping[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError as cause:
        raise ConfigError(f"{path}: not JSON ({cause})") from cause
    return found


class _Reading:
    """One pass over the log."""

    def __init__(self, *, until: int | None) -> None:
        self._until = until
        self.whole = Account()
        self.within = Account()
        """Up to the step that the summary speaks of: a resumed run goes on after it."""
        self.indices: set[int] = set()
        """Of the groups within."""
        self.sha256: dict[int, str] = {}
        self._steps_of: dict[str, int] = {}
        self._trained: set[str] = set()
        self._wrong_outcomes: list[str] = []
        self._wrong_verdicts: list[str] = []
        self._twice: list[str] = []
        self._num_unscored = 0

    def add(self, batch: Batch) -> None:
        is_within = self._until is None or batch.step <= self._until
        accounts = [self.whole, self.within] if is_within else [self.whole]
        self.sha256[batch.step] = batch.sha256
        for account in accounts:
            account.steps = batch.step
        for group in batch.groups:
            is_again = group.outcome is GroupOutcome.TRAINED and group.group_id in self._trained
            for account in accounts:
                _count(account, group)
                account.trained_twice += is_again
            if is_within:
                self.indices.add(group.index)
            self._look_at_outcome(group, batch.step)
            self._look_at_verdicts(group)

    def checks(self) -> list[Check]:
        """What holds of the log by itself."""
        num_groups = len(self._steps_of)
        outcomes = f"{num_groups} groups, each with exactly one outcome"
        verdicts = f"{self._num_unscored} errors and timeouts in trained groups, none has a reward"
        return [
            _check("outcomes", _some(self._wrong_outcomes), outcomes),
            _check("trained once", _some(self._twice), f"{self.whole.trained} groups, none twice"),
            _check("verdicts", _some(self._wrong_verdicts), verdicts),
        ]

    def _look_at_outcome(self, group: Group, step: int) -> None:
        name = group.group_id
        if group.outcome is GroupOutcome.IN_FLIGHT:
            self._wrong_outcomes.append(f"{name} is logged at step {step} without an outcome")
        if name != group_id_of(group.index):
            self._wrong_outcomes.append(f"{name} has the index {group.index}")
        if name in self._steps_of:
            earlier = self._steps_of[name]
            self._wrong_outcomes.append(f"{name} has two, at steps {earlier} and {step}")
        self._steps_of.setdefault(name, step)
        if group.outcome is GroupOutcome.TRAINED:
            if name in self._trained:
                self._twice.append(f"{name} again at step {step}")
            self._trained.add(name)

    def _look_at_verdicts(self, group: Group) -> None:
        if group.outcome is not GroupOutcome.TRAINED:
            return
        name = group.group_id
        if num_scored(group.rewards) < 2:
            self._wrong_verdicts.append(f"{name} is trained on fewer than two scored verdicts")
        for member in group.trajectories:
            verdict = member.verdict
            if verdict is None or not verdict.is_scored:
                self._num_unscored += 1
            if verdict is not None and not verdict.is_scored and verdict.reward != 0.0:
                said = (
                    f"{name}/{member.member}: {verdict.outcome} carries reward {verdict.reward:g}"
                )
                self._wrong_verdicts.append(said)
            if verdict is not None and verdict.is_scored and not math.isfinite(verdict.reward):
                self._wrong_verdicts.append(f"{name}/{member.member}: reward {verdict.reward}")


def _count(account: Account, group: Group) -> None:
    account.verdicts.update(t.verdict.outcome.value for t in group.trajectories if t.verdict)
    match group.outcome:
        case GroupOutcome.TRAINED:
            account.trained += 1
            account.trajectories += len(group.trajectories)
        case GroupOutcome.REJECTED:
            account.rejected[group.reason] += 1
        case GroupOutcome.FAILED:
            account.failed[failure_kind(group.reason)] += 1
        case GroupOutcome.IN_FLIGHT:
            pass


def _indices(reading: _Reading, summary: Mapping[str, Any]) -> Check:
    """Groups are admitted in index order, so every index below `admitted` is logged or was out."""
    admitted, out = summary["outcomes"]["admitted"], summary["outcomes"]["in_flight"]
    out += _unlogged(reading, summary)
    beyond = sorted(i for i in reading.indices if i >= admitted)
    missing = sorted(set(range(admitted)) - reading.indices)
    wrong = ""
    if beyond:
        wrong = f"{_some([str(i) for i in beyond])} logged, but only {admitted} were admitted"
    elif len(missing) != out:
        wrong = f"{_some([str(i) for i in missing]) or 'none'} missing, {out} were still out"
    kept = f"0 to {admitted - 1} without a gap" if not out else f"{admitted}, {out} of them not yet"
    return _check("indices", wrong, kept)


def _identity(reading: _Reading, summary: Mapping[str, Any]) -> Check:
    said, account = summary["outcomes"], reading.within
    admitted, out = said["admitted"], said["in_flight"] + _unlogged(reading, summary)
    sentence = (
        f"{account.trained} trained + {account.rejected.total()} rejected + "
        f"{account.failed.total()} failed + {out} in flight"
    )
    residual = admitted - account.logged - out
    wrong = f"{admitted} admitted, but {sentence}: residual {residual}" if residual else ""
    return _check("identity", wrong, f"{admitted} admitted = {sentence}")


def _unlogged(reading: _Reading, summary: Mapping[str, Any]) -> int:
    """Groups that an interrupted run had rejected for a step which it did not come to write.

    They have no outcome that lasts, and are made again.
    """
    said = summary["outcomes"]
    total = said["trained"] + sum(said["rejected"].values()) + sum(said["failed"].values())
    return max(0, total - reading.within.logged) if summary["interrupted"] else 0


def _against_summary(reading: _Reading, summary: Mapping[str, Any]) -> Check:
    """Each figure of the summary that the log can tell too."""
    said, account = summary["outcomes"], reading.within
    figures: dict[str, tuple[object, object]] = {
        "steps": (summary["steps"], account.steps),
        "trained": (said["trained"], account.trained),
        "trajectories": (summary["trajectories"], account.trajectories),
        "trained_twice": (summary["trained_twice"], account.trained_twice),
        "identity_residual": (summary["identity_residual"], 0),
    }
    if not _unlogged(reading, summary):
        figures |= {
            "rejected": (said["rejected"], dict(account.rejected)),
            "failed": (said["failed"], dict(account.failed)),
            "verdicts": (summary["verdicts"], dict(account.verdicts)),
        }
    wrong = [f"{n}: it says {a}, the log {b}" for n, (a, b) in figures.items() if a != b]
    later = reading.whole.steps - account.steps
    went_on = f"; the run went on for {later} steps" if later else ""
    return _check("summary", _some(wrong), f"summary.json agrees{went_on}")


def _checkpoints(folder: Path, sha256: Mapping[int, str]) -> Check:
    """A checkpoint pins the log's end, behind which no other file would show a change."""
    wrong, steps = [], []
    for path in sorted((folder / "checkpoints").glob("[0-9]*/meta.json")):
        meta = json.loads(path.read_text())
        steps.append(str(meta["step"]))
        if meta["step"] and meta["batch_sha256"] != sha256.get(meta["step"]):
            wrong.append(f"checkpoint {meta['step']} has seen another file of its step")
    found = f"of step {', '.join(steps)}, and of this log" if steps else "none"
    return _check("checkpoints", _some(wrong), found)


def _check(name: str, wrong: str, found: str) -> Check:
    return Check(name=name, is_ok=not wrong, found=wrong or found)


def _some(items: list[str]) -> str:
    """The first few of many."""
    more = f" and {len(items) - _MOST_NAMED} more" if len(items) > _MOST_NAMED else ""
    return "; ".join(items[:_MOST_NAMED]) + more
