"""Metrics of the learner: the account, the run's progress, what is learned, the teacher's credit.

Rank 0 alone exports them; other ranks have no port.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from prometheus_client import REGISTRY, Counter, Gauge, Histogram

from rlsd.config import RunConfig
from rlsd.objectives.methods import Method
from rlsd.streams.metrics import queue_gauges
from rlsd.telemetry.metrics import DLT, FRAC, LONG, REW, TOK, VER, LateGauge, create, labelled
from rlsd.telemetry.weights import WeightMeter
from rlsd.trajectory import (
    FinishReason,
    Group,
    GroupOutcome,
    RejectReason,
    TeacherNeed,
    Trajectory,
)
from services.learner.leakage import Leaks
from services.learner.ledger import Ledger

_LONGEST_NAME = 64
_PARTS = ("in_flight", "in_queue", "total")
_KIND = "the kinds of verifier.kinds"

# --- the account ----------------------------------------------------------------------------------

ADMITTED = Counter("rlsd_learner_groups_admitted", "Groups sent on their way.")
DUPLICATES = Counter("rlsd_learner_duplicates_dropped", "Groups that came back a second time.")
READMITTED = Counter(
    "rlsd_learner_groups_readmitted", "Groups made again because the queues had forgotten them."
)
REEXECUTED = Counter("rlsd_learner_steps_reexecuted", "Logged steps trained again after a restart.")
OUTCOMES = labelled(
    Gauge(
        "rlsd_learner_groups",
        "Groups of the run by outcome: admitted = trained + rejected + failed + in_flight.",
        ["outcome", "reason"],
    ),
    outcome=("admitted", *GroupOutcome),
    reason=f"empty; of rejected {', '.join(RejectReason)}; of failed the type of the error",
)
RESIDUAL = Gauge("rlsd_learner_identity_residual", "Groups without an outcome; must be 0.")
TRAINED_TWICE = Counter(
    "rlsd_learner_trained_twice",
    "Groups that the batch log has trained on more than once, earlier parts of the run included; "
    "must be 0.",
)
CREDITS = labelled(
    Gauge("rlsd_learner_credits", "Groups that are out, and how many may be.", ["state"]),
    state=("used", "limit"),
)
BACKPRESSURE = Counter(
    "rlsd_learner_backpressure_seconds",
    "Seconds in which no credit was free, so that no prompt was admitted.",
)
QUEUES = queue_gauges()
REGISTRY.register(QUEUES)

# --- progress -------------------------------------------------------------------------------------

RUN = labelled(
    Gauge(
        "rlsd_run_info", "1, with what is run.", ["method", "model", "transport", "config_sha256"]
    ),
    method="method.name",
    model="the last part of model.path, 64 characters at most",
    transport=("redis", "grpc"),
    config_sha256="of the resolved configuration",
)
STEP = Gauge("rlsd_learner_step", "Optimizer steps done.")
NUM_STEPS = LateGauge("rlsd_learner_num_steps", "Optimizer steps of the whole run.")
POLICY_VERSION = LateGauge("rlsd_learner_policy_version", "Newest version that is published.")
LAST_STEP = LateGauge(
    "rlsd_learner_last_step_timestamp_seconds", "When the last step, or the learner's start, was."
)
STEP_DURATION = labelled(
    Histogram(
        "rlsd_learner_step_duration_seconds",
        "One step by phase; checkpoint and evaluate only where there is one.",
        ["phase"],
        buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 1200),
    ),
    phase=("wait", "log", "train", "publish", "checkpoint", "evaluate"),
)
TRAINED_TOKENS = Counter(
    "rlsd_learner_trained_tokens", "Tokens that the policy drew, of trajectories in trained groups."
)
TRAINED_TRAJECTORIES = Counter(
    "rlsd_learner_trained_trajectories", "Trajectories in trained groups."
)
WEIGHTS = WeightMeter("learner")

# --- learning -------------------------------------------------------------------------------------

REWARDS = labelled(
    Histogram(
        "rlsd_learner_reward", "Of each logged trajectory with a verdict.", ["kind"], buckets=REW
    ),
    kind=_KIND,
)
REWARD = LateGauge("rlsd_learner_reward_mean", "Mean reward of the last batch.")
HELD_OUT_ACCURACY = LateGauge("rlsd_learner_held_out_accuracy_ratio", "Greedy, last evaluation.")
PASS_RATIO = labelled(
    Histogram(
        "rlsd_learner_group_pass_ratio",
        "Share of a logged group's judged trajectories with reward 1.",
        ["kind"],
        buckets=FRAC,
    ),
    kind=_KIND,
)
JUDGED = labelled(
    Counter(
        "rlsd_learner_groups_judged",
        "Logged groups with a verdict: all, some or none of the judged trajectories have reward 1.",
        ["kind", "outcome"],
    ),
    kind=_KIND,
    outcome=("all_pass", "mixed", "all_fail"),
)
COMPLETION_TOKENS = labelled(
    Histogram(
        "rlsd_learner_completion_tokens",
        "Tokens that the policy drew for each logged trajectory.",
        ["finish_reason"],
        buckets=TOK,
    ),
    finish_reason=tuple(FinishReason),
)
STALENESS = labelled(
    Histogram(
        "rlsd_learner_staleness_versions",
        "Of each trained trajectory: versions that changed while it was drawn (in_flight), that "
        "came after it until it was trained on (in_queue), both (total).",
        ["part"],
        buckets=VER,
    ),
    part=_PARTS,
)
STALENESS_LIMIT = LateGauge("rlsd_learner_staleness_limit_versions", "run.max_staleness.")
GROUP_AGE = Histogram(
    "rlsd_learner_group_age_seconds", "From a group's admission to its batch.", buckets=LONG
)
LOSS = LateGauge("rlsd_learner_loss", "Of the last step.")
GRAD_NORM = LateGauge("rlsd_learner_grad_norm", "Global norm before clipping, last step.")
LEARNING_RATE = LateGauge("rlsd_learner_learning_rate", "Of the last step.")
ENTROPY = LateGauge(
    "rlsd_learner_entropy_nats", "Of the policy, mean over the sampled tokens of the last step."
)
SAMPLED_ENTROPY = LateGauge(
    "rlsd_learner_sampled_entropy_nats",
    "Of the policy, estimated: mean -log-prob of the last batch's sampled tokens, by the sampler, "
    "also in groups that are not trained.",
)
KL = labelled(
    Gauge("rlsd_learner_kl_nats", "Policy against the reference, k3, last step.", ["reference"]),
    reference=("old_policy",),
)
CLIPPED = labelled(
    Gauge(
        "rlsd_learner_clip_ratio",
        "Share of the last step's tokens whose ratio the surrogate holds back.",
        ["side"],
    ),
    side=("low", "high"),
)
MISMATCH_KL = LateGauge(
    "rlsd_learner_mismatch_kl_nats", "Learner against sampler on the last step's tokens, k3."
)
LOGPROB_GAP = labelled(
    Gauge(
        "rlsd_learner_logprob_gap_nats",
        "|learner - sampler| on the last step's tokens; p99: the largest of its microbatches'.",
        ["stat"],
    ),
    stat=("mean", "p99", "max"),
)
IMPORTANCE_ESS = LateGauge(
    "rlsd_learner_importance_ess_ratio",
    "mean(w)^2 / mean(w^2) of w = exp(learner - sampler) on the last step's tokens; 1: none.",
)
NONFINITE = Counter(
    "rlsd_learner_nonfinite_steps",
    "Steps whose gradient was not finite, so that the weights stayed as they were.",
)

# --- the teacher's credit: exported for methods that have a teacher -------------------------------

DELTA_ABS = LateGauge(
    "rlsd_credit_delta_abs_mean_nats",
    "Mean |teacher - student| over the last step's scored tokens.",
    registry=None,
)
MIX = LateGauge("rlsd_credit_mix_lambda", "Share of token-level credit, last step.", registry=None)
WEIGHT_ENTROPY = LateGauge(
    "rlsd_credit_weight_entropy_ratio",
    "Entropy of a sequence's token weights over that of equal ones, mean over the last step's "
    "sequences; 1: plain GRPO.",
    registry=None,
)
SEQUENCE_DELTA = Histogram(
    "rlsd_credit_sequence_delta_abs_nats",
    "Mean |teacher - student| over the tokens of each trajectory that the teacher scored.",
    buckets=DLT,
    registry=None,
)
WEIGHT_CLIPPED = labelled(
    Gauge(
        "rlsd_credit_weight_clip_ratio",
        "Share of the last step's tokens whose weight is beyond the bound.",
        ["side"],
        registry=None,
    ),
    side=("low", "high"),
)
SIGN_FLIPS = Counter(
    "rlsd_credit_sign_flips",
    "Trained tokens whose advantage has another sign than their trajectory's; must be 0 for rlsd.",
    registry=None,
)
LEAK_CHECKS = Counter(
    "rlsd_credit_leak_checks",
    "Logged completions that were searched for evaluation.leakage_patterns.",
    registry=None,
)
LEAKS = Counter("rlsd_credit_leaks", "Those of them in which one was found.", registry=None)
LEAKAGE = LateGauge(
    "rlsd_credit_leakage_ratio", "Share of the last evaluation's completions.", registry=None
)

_CREDIT = (
    *(DELTA_ABS, MIX, WEIGHT_ENTROPY, SEQUENCE_DELTA, WEIGHT_CLIPPED),
    *(SIGN_FLIPS, LEAK_CHECKS, LEAKS, LEAKAGE),
)
_LAST: Mapping[str, tuple[Gauge, str]] = {
    "reward_mean": (REWARD, ""),
    "loss": (LOSS, ""),
    "grad_norm": (GRAD_NORM, ""),
    "lr": (LEARNING_RATE, ""),
    "entropy": (ENTROPY, ""),
    "kl_old_policy": (KL, "old_policy"),
    "ratio_clipped_low": (CLIPPED, "low"),
    "ratio_clipped_high": (CLIPPED, "high"),
    "kl_rollout_old": (MISMATCH_KL, ""),
    "rollout_gap": (LOGPROB_GAP, "mean"),
    "rollout_gap_p99_max": (LOGPROB_GAP, "p99"),
    "rollout_gap_max": (LOGPROB_GAP, "max"),
    "importance_ess": (IMPORTANCE_ESS, ""),
    "delta_abs": (DELTA_ABS, ""),
    "lam": (MIX, ""),
    "weight_entropy": (WEIGHT_ENTROPY, ""),
    "weight_clipped_low": (WEIGHT_CLIPPED, "low"),
    "weight_clipped_high": (WEIGHT_CLIPPED, "high"),
}
"""Gauges, with their label where they have one, by a value's name in metrics.jsonl."""


def begin(config: RunConfig, method: Method, ledger: Ledger, *, limit: int) -> None:
    """Say what is run, and of whose account the figures are."""
    resolved = json.dumps(config.model_dump(mode="json"), sort_keys=True)
    RUN.clear()
    RUN.labels(
        config.method.name,
        PurePath(config.model.path).name[:_LONGEST_NAME],
        config.run.transport,
        hashlib.sha256(resolved.encode()).hexdigest(),
    ).set(1)
    NUM_STEPS.set(config.run.steps)
    STALENESS_LIMIT.set(config.run.max_staleness)
    LAST_STEP.set_to_current_time()
    CREDITS.labels("limit").set(limit)
    CREDITS.labels("used").set_function(lambda: float(len(ledger.in_flight)))
    create(STALENESS)
    for kind in config.verifier.kinds or ():
        create(JUDGED, kind=kind)
    if method.teacher is not TeacherNeed.NONE:
        _show_credit()


@functools.cache
def _show_credit() -> None:
    for metric in _CREDIT:
        REGISTRY.register(metric)


class Backpressure:
    """Adds up the time in which every credit is taken."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._is_full = False
        self._until = clock()

    def note(self, *, is_full: bool) -> None:
        """Say how it is from now on; also now and then while it stays so."""
        now = self._clock()
        if self._is_full:
            BACKPRESSURE.inc(now - self._until)
        self._is_full, self._until = is_full, now


def observe_step(line: Mapping[str, Any], ledger: Ledger) -> None:
    """Set the values of the last step from a line of metrics.jsonl, and the account."""
    STEP.set(line["step"])
    LAST_STEP.set_to_current_time()
    for phase, seconds in line["phase_s"].items():
        STEP_DURATION.labels(phase).observe(seconds)
    for name, (gauge, label) in _LAST.items():
        if name in line:
            (gauge.labels(label) if label else gauge).set(line[name])
    if not math.isfinite(line.get("grad_norm", 0.0)):
        NONFINITE.inc()
    SIGN_FLIPS.inc(line.get("sign_flips", 0.0))
    OUTCOMES.labels("admitted", "").set(ledger.admitted)
    OUTCOMES.labels("trained", "").set(ledger.trained)
    OUTCOMES.labels("in_flight", "").set(len(ledger.in_flight))
    for reason, count in ledger.rejected.items():
        OUTCOMES.labels("rejected", reason).set(count)
    for kind, count in ledger.failed.items():
        OUTCOMES.labels("failed", kind).set(count)
    RESIDUAL.set(ledger.residual)


def observe_batch(groups: Sequence[Group], *, learner_version: int, leaks: Leaks) -> None:
    """Count what a newly logged batch holds.

    Args:
        learner_version: the weights that were trained with it.
    """
    for group in groups:
        _observe_rewards(group)
        for trajectory in group.trajectories:
            COMPLETION_TOKENS.labels(trajectory.finish_reason).observe(trajectory.num_sampled)
        if leaks.patterns:
            LEAK_CHECKS.inc(len(group.trajectories))
            LEAKS.inc(sum(leaks.any_in(t) for t in group.trajectories))
        if group.outcome is GroupOutcome.TRAINED:
            _observe_trained(group, learner_version)
    _observe_tokens([t for group in groups for t in group.trajectories if t.num_sampled])


def _observe_tokens(sampled: Sequence[Trajectory]) -> None:
    """All tokens at once: a call of numpy for each trajectory would cost more than the numbers."""
    if not sampled:
        return
    logprobs = np.concatenate([_of_policy(t.rollout_logprobs, t) for t in sampled])
    SAMPLED_ENTROPY.set(-float(logprobs.mean()))
    deltas = [
        _of_policy(t.scores.teacher_logprobs - t.scores.student_logprobs, t)
        for t in sampled
        if t.scores is not None
    ]
    if not deltas:
        return
    lengths = np.array([len(delta) for delta in deltas])
    starts = np.cumsum(lengths) - lengths
    means = np.add.reduceat(np.abs(np.concatenate(deltas)), starts) / lengths
    for mean in means.tolist():
        SEQUENCE_DELTA.observe(mean)


def _of_policy(values: np.ndarray[Any, Any], trajectory: Trajectory) -> np.ndarray[Any, Any]:
    """Values of tokens, without those that a tool gave."""
    return values[trajectory.sampled] if trajectory.tool_turns else values


def _observe_rewards(group: Group) -> None:
    kind = group.prompt.verifier.kind
    rewards = [r for r in group.rewards if r is not None]
    if not rewards:
        return
    of_kind = REWARDS.labels(kind)
    for reward in rewards:
        of_kind.observe(reward)
    num_passed = sum(r == 1 for r in rewards)
    PASS_RATIO.labels(kind).observe(num_passed / len(rewards))
    whole = {0: "all_fail", len(rewards): "all_pass"}
    JUDGED.labels(kind, whole.get(num_passed, "mixed")).inc()


def _observe_trained(group: Group, learner_version: int) -> None:
    TRAINED_TRAJECTORIES.inc(len(group.trajectories))
    TRAINED_TOKENS.inc(sum(t.num_sampled for t in group.trajectories))
    in_flight, in_queue, total = (STALENESS.labels(p) for p in _PARTS)
    for trajectory in group.trajectories:
        oldest, newest = trajectory.min_policy_version, trajectory.max_policy_version
        in_flight.observe(newest - oldest)
        in_queue.observe(learner_version - newest)
        total.observe(learner_version - oldest)
