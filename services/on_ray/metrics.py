"""The metrics of a replica's process on the page that Ray serves for its node, as `ray_rlsd_…`.

Each sample is a gauge of its own name, counters and buckets too: Prometheus looks at values, not at
types. Ray's own counters can only be added to, and it rebuilds histograms from the middles of their
buckets. Ray sends what was set since it last sent, every ten seconds, and forgets after twenty what
was not sent again; so all is set again and again, and what is no longer measured ends, as do the
series of a replica that has died.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.registry import CollectorRegistry

log = logging.getLogger(__name__)

SHOWN: Final = ("rlsd_", "process_", "vllm:")
"""Beginnings of the names that dashboards and rules read."""

_EVERY_S = 5.0
"""Below Ray's ten, or a report of it could find nothing."""
_PAGE_WITHIN_S = 60.0
"""Ray's agent of a node starts beside its first replicas."""
_KNOCK_S = 2.0


class RayGauge(Protocol):
    """Of `ray.util.metrics`."""

    def set(self, value: float, tags: dict[str, str]) -> None:
        """Have it in Ray's next report."""


NewGauge = Callable[[str, str, tuple[str, ...]], RayGauge]
"""A gauge by its name, its description and the names of its labels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One sample as Ray takes it."""

    name: str
    description: str
    labels: dict[str, str]
    value: float


def shown(families: Iterable[Metric], **of_replica: str) -> Iterator[Shown]:
    """What to set of these, with the replica's own labels.

    Ray takes no colon in a name, and no value that is not finite.
    """
    for family in families:
        if not family.name.startswith(SHOWN):
            continue
        for sample in family.samples:
            if math.isfinite(sample.value):
                yield Shown(
                    name=sample.name.replace(":", "_"),
                    description=family.documentation,
                    labels=sample.labels | of_replica,
                    value=sample.value,
                )


class Reporter:
    """Hands the registry to Ray from a thread of its own, as a scrape would be answered."""

    def __init__(
        self,
        new_gauge: NewGauge,
        page: Callable[[], str],
        *,
        registry: CollectorRegistry = REGISTRY,
        **of_replica: str,
    ) -> None:
        self._new_gauge, self._page = new_gauge, page
        self._registry, self._of_replica = registry, of_replica
        self._gauges: dict[str, RayGauge] = {}
        self._stopping = threading.Event()
        self._has_failed = False
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def start(self) -> None:
        """Report from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Report no more; Ray forgets the series by itself."""
        self._stopping.set()
        self._thread.join(timeout=_KNOCK_S + 1)

    def report(self) -> None:
        """Set every sample once."""
        for one in shown(self._registry.collect(), **self._of_replica):
            gauge = self._gauges.get(one.name)
            if gauge is None:
                gauge = self._new_gauge(one.name, one.description, tuple(one.labels))
                self._gauges[one.name] = gauge
            gauge.set(one.value, one.labels)

    def _run(self) -> None:
        looked_at, is_settled = time.monotonic() + _PAGE_WITHIN_S, False
        while not self._stopping.is_set():
            self._try_to_report()
            if not is_settled:
                is_settled = self._look(is_last=time.monotonic() >= looked_at)
            self._stopping.wait(_EVERY_S)

    def _try_to_report(self) -> None:
        try:
            self.report()
        except Exception as error:  # noqa: BLE001  figures are lost, and the service goes on
            if not self._has_failed:
                log.warning("metrics not reported", extra={"reason": repr(error)})
            self._has_failed = True
        else:
            self._has_failed = False

    def _look(self, *, is_last: bool) -> bool:
        """Say once whether Ray shows them; without its agent they go nowhere, in silence."""
        try:
            address = self._page()
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()
        except (OSError, RuntimeError, ValueError) as cause:
            if is_last:
                log.warning("no page of metrics on this node", extra={"reason": str(cause)})
            return is_last
        log.info("metrics on ray's page", extra={"address": address})
        return True


def reporter(*, run: str, service: str) -> Reporter:
    """Of the replica that this process is."""
    from ray import serve
    from ray.util.metrics import Gauge

    own = serve.get_replica_context().replica_id.unique_id
    return Reporter(Gauge, _page_of_this_node, run=run, replica=f"{service}-{own}")


def _page_of_this_node() -> str:
    """Where Ray serves it.

    Raises:
        ValueError: nowhere.
    """
    import ray

    here = ray.get_runtime_context().get_node_id()
    try:
        nodes = ray.nodes()
    except ray.exceptions.RayError as cause:
        raise ValueError(str(cause)) from cause
    for node in nodes:
        if node["NodeID"] == here and node["MetricsExportPort"] > 0:
            return f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}"
    raise ValueError("Ray has no agent here, or collects no metrics")
