"""Metrics of the verifier service; every label is from a closed set."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from rlsd.trajectory import Verdict

UNKNOWN = "unknown"

VERDICTS = Counter("rlsd_verifier_verdicts", "Verdicts by what they say.", ["kind", "outcome"])
DURATION = Histogram(
    "rlsd_verifier_check_duration_seconds",
    "One check, the wait for a child process included.",
    ["kind"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
GROUPS = Counter(
    "rlsd_verifier_groups", "Groups verified: passed on, or why they were rejected.", ["outcome"]
)

ISOLATION = Gauge(
    "rlsd_verifier_isolation_info",
    "1 for the sandbox that runs code: its tier and the name of its policy.",
    ["tier", "policy"],
)


def observe(kind: str, verdict: Verdict) -> None:
    """Count one verdict."""
    VERDICTS.labels(kind, verdict.outcome.value).inc()
    DURATION.labels(kind).observe(verdict.duration_s)
