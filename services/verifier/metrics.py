"""Metrics of the verifier service; every label is from a closed set."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import Counter, Gauge, Histogram

from rlsd.telemetry import tracing
from rlsd.telemetry.metrics import LAT, create, labelled
from rlsd.trajectory import RejectReason, Verdict
from services.verifier.sandbox.client import Places
from services.verifier.sandbox.ending import RunResult
from services.verifier.sandbox.tier import Tier

UNKNOWN = "unknown"

_KIND = f"the kinds of verifier.kinds, {UNKNOWN}"

VERDICTS = labelled(
    Counter(
        "rlsd_verifier_verdicts",
        "Verdicts by what they say: reward 1, between, 0, or none.",
        ["kind", "outcome"],
    ),
    kind=_KIND,
    outcome=("pass", "partial", "fail", "error", "timeout"),
)
DURATION = labelled(
    Histogram(
        "rlsd_verifier_check_duration_seconds",
        "One check, the wait for a child process included.",
        ["kind"],
        buckets=(
            *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
            *(0.25, 0.5, 1, 2.5, 5, 10, 30),
        ),
    ),
    kind=_KIND,
)
GROUPS = create(
    labelled(
        Counter(
            "rlsd_verifier_groups",
            "Groups verified: passed on, or why they were rejected.",
            ["outcome"],
        ),
        outcome=("passed", RejectReason.ZERO_VARIANCE, RejectReason.NO_VERDICT),
    )
)

ISOLATION = labelled(
    Gauge(
        "rlsd_verifier_isolation_info",
        "1 for the sandbox that runs code: its tier and the name of its policy.",
        ["tier", "policy"],
    ),
    tier=tuple(Tier),
    policy="a checksum",
)
RUNS = labelled(
    Counter(
        "rlsd_sandbox_runs",
        "Runs of code by how they ended; error: the sandbox failed, or it was killed from outside.",
        ["tier", "result"],
    ),
    tier=tuple(Tier),
    result=tuple(RunResult),
)
RUN_DURATION = labelled(
    Histogram("rlsd_sandbox_run_duration_seconds", "One run.", ["tier"], buckets=LAT),
    tier=tuple(Tier),
)
PLACES = labelled(
    Gauge("rlsd_sandbox_places", "Places to run code, and those that are taken.", ["state"]),
    state=("busy", "total"),
)


def show_sandbox(tier: Tier, places: Places) -> None:
    """Have every result of this tier at 0, and say how many places are taken."""
    create(RUNS, tier=tier)
    RUN_DURATION.labels(tier)
    PLACES.labels("busy").set_function(lambda: float(places.busy))
    PLACES.labels("total").set_function(lambda: float(places.total))


def create_verdicts(kinds: Iterable[str]) -> None:
    """Have every outcome of these kinds at 0."""
    for kind in kinds:
        create(VERDICTS, kind=kind)
    VERDICTS.labels(UNKNOWN, "error")


def observe(kind: str, verdict: Verdict) -> None:
    """Count one verdict."""
    VERDICTS.labels(kind, _outcome(verdict)).inc()
    DURATION.labels(kind).observe(verdict.duration_s, tracing.exemplar())


def _outcome(verdict: Verdict) -> str:
    if not verdict.is_scored:
        return verdict.outcome.value
    if verdict.reward == 1:
        return "pass"
    return "partial" if verdict.reward > 0 else "fail"
