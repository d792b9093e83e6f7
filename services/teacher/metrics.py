"""Metrics of the teacher service."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from rlsd.telemetry import tracing
from rlsd.telemetry.metrics import LAT, LateGauge, create, labelled
from rlsd.telemetry.weights import WeightMeter
from rlsd.trajectory import Group

TRAJECTORIES = create(
    labelled(
        Counter("rlsd_teacher_trajectories", "Trajectories by what was done.", ["outcome"]),
        outcome=("scored", "skipped"),
    )
)
TOKENS = Counter("rlsd_teacher_tokens", "Tokens scored, those of tools included.")
DURATION = Histogram(
    "rlsd_teacher_group_duration_seconds",
    "From the request of a group to its scores, waiting included.",
    buckets=LAT,
)
VERSION = LateGauge("rlsd_teacher_version", "Weight version that scores.")
WEIGHTS = WeightMeter("teacher")
PREFIXES_TOO_LONG = Counter(
    "rlsd_teacher_prefixes_too_long",
    "Groups left without scores because the privileged prompt is too long (token weight 1).",
)

ENGINE_TOKENS = labelled(
    Counter(
        "rlsd_teacher_engine_tokens",
        "Prefix and completion tokens of both contexts, as given and as the engine computed them.",
        ["kind"],
    ),
    kind=("given", "computed"),
)


def observe_passes(num_given: int, num_computed: int) -> None:
    """Count the tokens of some passes of a hosted engine."""
    ENGINE_TOKENS.labels("given").inc(num_given)
    ENGINE_TOKENS.labels("computed").inc(num_computed)


def observe(group: Group, duration_s: float) -> None:
    """Count one finished group."""
    scored = [t for t in group.trajectories if t.scores is not None]
    TRAJECTORIES.labels("scored").inc(len(scored))
    TRAJECTORIES.labels("skipped").inc(len(group.trajectories) - len(scored))
    TOKENS.inc(sum(t.num_tokens for t in scored))
    DURATION.observe(duration_s, tracing.exemplar())
    if group.teacher_skipped:
        PREFIXES_TOO_LONG.inc()
    if scored and scored[0].scores is not None:
        VERSION.set(scored[0].scores.teacher_version)
