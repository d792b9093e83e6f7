"""Metrics of the queues: what a worker sees, and what the learner measures for all."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from rlsd.streams.stage import Stage
from rlsd.streams.stream import Delivery, Measured
from rlsd.telemetry.metrics import LONG, labelled

_STAGES = tuple(Stage)
_FRESH_S = 15.0

WAIT = labelled(
    Histogram(
        "rlsd_queue_wait_seconds",
        "From entering the stage to being handed out for the first time.",
        ["stage"],
        buckets=LONG,
    ),
    stage=_STAGES,
)
REDELIVERIES = labelled(
    Counter(
        "rlsd_queue_redeliveries",
        "Groups handed out again, after a failed attempt or a worker that went silent.",
        ["stage"],
    ),
    stage=_STAGES,
)
DEAD_LETTERS = labelled(
    Counter("rlsd_queue_dead_letters", "Groups given up at this stage.", ["stage"]), stage=_STAGES
)
RESULTS_DROPPED = labelled(
    Counter(
        "rlsd_queue_results_dropped",
        "Results of this stage without effect: the group had left it before.",
        ["stage"],
    ),
    stage=_STAGES,
)


def create_of(stage: Stage) -> None:
    """Have the counters of a worker's stage at 0."""
    WAIT.labels(stage)
    for counter in (REDELIVERIES, DEAD_LETTERS, RESULTS_DROPPED):
        counter.labels(stage)


def observe_claim(delivery: Delivery) -> None:
    """Count a delivery that was handed out."""
    if delivery.deliveries == 1:
        WAIT.labels(delivery.stage).observe(delivery.waited_s)
    else:
        REDELIVERIES.labels(delivery.stage).inc()


class QueueGauges(Collector):
    """The last measurement of the queues; nothing once it is older than `_FRESH_S`.

    So an outage shows as a gap, never as an empty queue or an old figure.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: tuple[float, Measured] | None = None

    def set(self, measured: Measured) -> None:
        """Show this from now on."""
        self._last = (self._clock(), measured)

    def forget(self) -> None:
        """Show nothing from now on."""
        self._last = None

    def describe(self) -> list[Metric]:
        """The metrics without a value."""
        return [
            GaugeMetricFamily(
                "rlsd_queue_entries",
                "Groups at the stage, those in hand included.",
                labels=["stage"],
            ),
            GaugeMetricFamily(
                "rlsd_queue_oldest_age_seconds",
                "How long the oldest entry has been at the stage; 0 when there is none.",
                labels=["stage"],
            ),
            GaugeMetricFamily("rlsd_queue_memory_used_bytes", "Redis' used_memory."),
            GaugeMetricFamily("rlsd_queue_memory_limit_bytes", "Redis' maxmemory; 0: no limit."),
        ]

    def collect(self) -> list[Metric]:
        """The metrics as last measured."""
        last = self._last
        if last is None or self._clock() - last[0] > _FRESH_S:
            return []
        measured = last[1]
        families: list[Any] = self.describe()
        entries, age, used, limit = families
        for stage in Stage:
            entries.add_metric([stage], measured.entries[stage])
            age.add_metric([stage], measured.oldest_age_s[stage])
        used.add_metric([], measured.memory_used_bytes)
        limit.add_metric([], measured.memory_limit_bytes)
        return families


def queue_gauges() -> QueueGauges:
    """New gauges, for the one who measures."""
    return labelled(QueueGauges(), stage=_STAGES)
