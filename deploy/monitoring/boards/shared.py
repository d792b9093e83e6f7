"""What more than one dashboard shows: asked, worded and bounded once."""

from __future__ import annotations

from typing import Any

from deploy.monitoring.panels import (
    GREEN,
    ORANGE,
    RED,
    Query,
    R,
    count,
    graph,
    largest,
    mean,
    quantile,
    share,
    smallest,
)

VERDICTS = "rlsd_verifier_verdicts_total"
STEP_SECONDS = "rlsd_learner_step_duration_seconds"

RESIDUAL = f"abs({largest('rlsd_learner_identity_residual')})"
TRAINED_TWICE = largest("rlsd_learner_trained_twice_total")

AT_STAGE = largest("rlsd_queue_entries", "stage")
OLDEST = largest("rlsd_queue_oldest_age_seconds", "stage")
WAIT_P95 = quantile(0.95, "rlsd_queue_wait_seconds", "stage")
REDELIVERED = count("rlsd_queue_redeliveries_total", "stage")
BURIED = count("rlsd_queue_dead_letters_total", "stage")

MEAN_STEP = (
    f"sum by (run) (increase({STEP_SECONDS}_sum{{{R}}}[$__range]))"
    f' / sum by (run) (increase({STEP_SECONDS}_count{{{R}, phase="train"}}[$__range]))'
)
"""Of the dashboard's time range, evaluations and checkpoints included."""

SERVICE_STATE = (
    f"{smallest('rlsd_service_ready', 'service')}"
    f" + 2 * {largest('rlsd_service_stalled', 'service')}"
)
"""Of each service its worst replica."""
SERVICE_STATES = {
    "0": ("not ready", ORANGE),
    "1": ("ready", GREEN),
    "2": ("stalled", RED),
    "3": ("stalled", RED),
}


def spread(name: str) -> tuple[Query, Query, Query]:
    """Median, 95 % and mean of a histogram."""
    return (
        Query(quantile(0.5, name), "{{run}} p50"),
        Query(quantile(0.95, name), "{{run}} p95"),
        Query(mean(name), "{{run}} mean"),
    )


def without_verdict(where: str = "") -> Any:
    """Checks that end with an error or a timeout."""
    return graph(
        "Share without a verdict",
        Query(
            share(VERDICTS, "kind", of='outcome=~"error|timeout"', where=where), "{{run}} {{kind}}"
        ),
        unit="percentunit",
        steps=((None, GREEN), (0.005, ORANGE), (0.072, RED)),
        text="Errors and timeouts; they are never a reward. Normal: below 0.5 %, the budget. 7.2 % "
        "for an hour is the alert RlsdVerifierErrorBudgetBurn.",
        page="verifiers.md",
        columns=6,
    )


def staleness(columns: int) -> Any:
    """How old what is trained is, and where it grew old."""
    return graph(
        "Staleness by where it comes from",
        Query(mean("rlsd_learner_staleness_versions", "part"), "{{run}} {{part}}"),
        Query(largest("rlsd_learner_staleness_limit_versions"), "{{run}} bound", dashed=True),
        unit="none",
        text="Policy versions between sampling and training. in_flight: weights changed while it "
        "was drawn; in_queue: it waited; total: both. Normal: in_queue is most of it; 0 all the "
        "time is synchronous. At the bound, above which groups are rejected: rollout is faster "
        "than the learner.",
        page="staleness.md",
        columns=columns,
    )


def weights_p95(title: str, columns: int, *, where: str = "") -> Any:
    """How long versions take, by phase."""
    return graph(
        title,
        Query(
            quantile(0.95, "rlsd_weight_sync_duration_seconds", "service", "phase", where=where),
            "{{service}} {{phase}}",
        ),
        unit="s",
        text="Seconds from publishing to installing, by phase; pause: the part of it in which an "
        "engine computes nothing. Normal: a few per cent of a step.",
        page="weights.md",
        columns=columns,
    )
