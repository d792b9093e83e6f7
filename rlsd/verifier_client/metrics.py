"""Metrics of calls to outside verifiers; `verifier` is a name of the run's configuration."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from rlsd.telemetry.metrics import create, labelled

_VERIFIER = "the names of verifier.http"

TRIES = labelled(
    Counter(
        "rlsd_verifier_http_tries",
        "Requests by how they ended.",
        ["verifier", "result"],
    ),
    verifier=_VERIFIER,
    result=("scored", "error", "broken", "forbidden", "unavailable", "timeout"),
)
RETRIES = labelled(
    Counter("rlsd_verifier_http_retries", "Tries after the first one.", ["verifier"]),
    verifier=_VERIFIER,
)
CLAMPED = labelled(
    Counter("rlsd_verifier_http_clamped", "Scores outside score_min and score_max.", ["verifier"]),
    verifier=_VERIFIER,
)
CIRCUIT = labelled(
    Gauge("rlsd_verifier_http_circuit_state", "0 closed, 1 half open, 2 open.", ["verifier"]),
    verifier=_VERIFIER,
)
CANARY = labelled(
    Gauge(
        "rlsd_verifier_http_canary_state",
        "What it made of completions with known verdicts: 0 right, 1 not answered yet, 2 wrong.",
        ["verifier"],
    ),
    verifier=_VERIFIER,
)
WAITING = labelled(
    Gauge(
        "rlsd_verifier_http_waiting",
        "Checks that wait for the circuit to close, or for a canary to pass.",
        ["verifier"],
    ),
    verifier=_VERIFIER,
)
OUTSTANDING = labelled(
    Gauge("rlsd_verifier_http_outstanding", "Checks that are being asked for now.", ["verifier"]),
    verifier=_VERIFIER,
)
DURATION = labelled(
    Histogram(
        "rlsd_verifier_http_try_duration_seconds",
        "One request until its answer is complete.",
        ["verifier"],
        buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    ),
    verifier=_VERIFIER,
)


def create_of(verifier: str) -> None:
    """Have the counters of a verifier at 0."""
    create(TRIES, verifier=verifier)
    RETRIES.labels(verifier)
    CLAMPED.labels(verifier)
