"""The audit after a run: from the batch log and the prompts' order alone, what became of each.

It uses none of the learner's bookkeeping. The summary's own figures are read only to be compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rlsd.batch_log import BatchLog
from rlsd.config import RunConfig
from rlsd.data.order import order
from rlsd.data.sources import load_prompts
from rlsd.staleness import is_stale
from rlsd.trajectory import Group, GroupOutcome
from rlsd.weights.choice import open_store


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What an audit found; `faults` is empty when all is as it should be."""

    steps: int
    groups: int
    trajectories: int
    """In the log, whatever became of them."""
    trained: int
    """Trajectories of trained groups."""
    lost: int
    """Trajectories that should be in the log and are not."""
    trained_twice: int
    """Trajectories that stand in the log more than once."""
    residual: int
    """Groups whose outcome the learner's summary does not account for."""
    failed: dict[str, int]
    """Groups given up, by reason: accounted for, but nothing was learned from them."""
    rejected: dict[str, int]
    faults: list[str]
    """What else is wrong."""
    length_ks: float
    """Kolmogorov-Smirnov distance of completion lengths, trained against all."""


def audit(config: RunConfig) -> Account:
    """Read a finished run's log."""
    log = BatchLog(config.run_dir / "batches", config.run.id)
    batches: list[tuple[int, tuple[Group, ...]]] = []
    sha256 = ""
    for step in log.steps():
        batch = log.read(step, previous_sha256=sha256)
        sha256 = batch.sha256
        batches.append((step, batch.groups))
    groups = [g for _, logged in batches for g in logged]
    summary = json.loads((config.run_dir / "summary.json").read_text())
    lengths = [(g, [t.num_tokens for t in g.trajectories]) for g in groups]
    trained = [n for g, found in lengths if g.outcome is GroupOutcome.TRAINED for n in found]
    everything = [n for _, found in lengths for n in found]
    return Account(
        steps=len(batches),
        groups=len(groups),
        trajectories=len(everything),
        trained=len(trained),
        lost=_num_lost(groups, config),
        trained_twice=_num_twice(groups),
        residual=abs(summary["identity_residual"]) + _disagreement(summary, groups),
        failed=dict(Counter(g.reason for g in groups if g.outcome is GroupOutcome.FAILED)),
        rejected=dict(Counter(g.reason for g in groups if g.outcome is GroupOutcome.REJECTED)),
        faults=[
            *_wrong_prompts(groups, config),
            *_stale(batches, config),
            *_wrong_end(config, len(batches), summary),
            *_metrics_gaps(config.run_dir, len(batches)),
        ],
        length_ks=ks_distance(trained, everything),
    )


def _num_lost(groups: Sequence[Group], config: RunConfig) -> int:
    """Trajectories of groups that were due, and siblings that a logged group lacks.

    Groups are admitted in index order without a gap, so all below the highest are due; a method
    that replaces groups admits more than the steps' own.
    """
    size = config.rollout.group_size
    found = {g.index for g in groups}
    due = max(config.run.steps * config.run.groups_per_step, max(found, default=-1) + 1)
    absent = due - len(found)
    incomplete = sum(
        size - len({t.member for t in g.trajectories})
        for g in groups
        if g.outcome is not GroupOutcome.FAILED
    )
    return absent * size + incomplete


def _num_twice(groups: Sequence[Group]) -> int:
    members = Counter((g.index, t.member) for g in groups for t in g.trajectories)
    again = Counter(g.index for g in groups)
    return sum(n - 1 for n in members.values()) + sum(
        n - 1 for index, n in again.items() if (index, 0) not in members
    )


def _disagreement(summary: dict, groups: Sequence[Group]) -> int:
    """Groups by which the learner's own account differs from the log."""
    told = summary["outcomes"]
    resolved = told["trained"] + sum(told["rejected"].values()) + sum(told["failed"].values())
    return abs(told["admitted"] - resolved) + abs(resolved - len(groups)) + told["in_flight"]


def _wrong_prompts(groups: Sequence[Group], config: RunConfig) -> list[str]:
    """Groups that do not hold the prompt that is due at their place."""
    prompts = load_prompts(
        config.data.train,
        default_verifier=config.data.verifier,
        shape=config.data.shape,
        limit=config.data.limit,
    ).prompts
    last = max((g.index for g in groups), default=0)
    epochs = [
        order(len(prompts), seed=config.run.seed, epoch=e) for e in range(last // len(prompts) + 1)
    ]
    due = [prompts[record].id for records in epochs for record in records]
    return [f"group {g.index} has the wrong prompt" for g in groups if g.prompt.id != due[g.index]]


def _stale(batches: Iterable[tuple[int, Sequence[Group]]], config: RunConfig) -> list[str]:
    return [
        f"step {step} trained on version {t.min_policy_version}"
        for step, groups in batches
        for g in groups
        for t in g.trajectories
        if g.outcome is GroupOutcome.TRAINED
        and is_stale(step - 1, t.min_policy_version, max_staleness=config.run.max_staleness)
    ]


def _wrong_end(config: RunConfig, steps: int, summary: dict) -> list[str]:
    """Whether the log, the summary and the published weights end at the same step."""
    weights = open_store(config)
    ends = (steps, summary["steps"], weights.latest(), weights.verify(steps).step)
    return [] if len(set(ends)) == 1 else [f"log, summary and weights end at {ends}"]


def _metrics_gaps(folder: Path, steps: int) -> list[str]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    found = Counter(json.loads(x)["step"] for x in lines)
    missing = [s for s in range(1, steps + 1) if s not in found]
    twice = [s for s, n in found.items() if n > 1]
    problems = {"lacks": missing, "repeats": twice}
    return [f"metrics.jsonl {what} steps {which}" for what, which in problems.items() if which]


def ks_distance(some: Sequence[int], all_: Sequence[int]) -> float:
    """Largest distance between two cumulative distributions; 0 when one is empty."""
    if not some or not all_:
        return 0.0
    points = np.unique([*some, *all_])
    shares = [
        np.searchsorted(np.sort(x), points, side="right") / len(x)
        for x in (np.asarray(some), np.asarray(all_))
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def debris(folder: Path) -> list[Path]:
    """Unfinished files and folders that crashes have left behind."""
    metadata = ".metadata"  # torch's own, in every checkpoint
    return sorted(p for p in folder.rglob(".*") if p.name != metadata)


def re_executions(learner_log: Path) -> list[int]:
    """Logged steps that each start of the learner executed again."""
    counts: list[int] = []
    for line in learner_log.read_text(errors="replace").splitlines():
        event = json.loads(line).get("event") if line.startswith("{") else None
        if event == "service ready":
            counts.append(0)
        elif event == "step re-executed":
            counts[-1] += 1
    return counts


def published_sha256(config: RunConfig, version: int) -> str:
    """Of the weights of a version, after all its files were checked."""
    manifest = open_store(config).verify(version)
    return manifest.sha256["model.safetensors"]


def replay_is_identical(config_path: Path) -> bool:
    """Whether the log, trained once more from the base model, ends in the published weights."""
    command = [sys.executable, "-m", "services.learner.replay", "--config", str(config_path)]
    replayed = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return bool(json.loads(replayed.stdout.splitlines()[-1])["is_equal"])
