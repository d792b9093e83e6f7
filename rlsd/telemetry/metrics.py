"""How metrics are declared, and those that every service has: its states, `/livez`, `/readyz`.

Labels take their values from closed sets or from names of the configuration, and every metric says
which (`labelled`): `docs/metrics.md` and the tests read it. A counter that an alert looks at is
there with 0 from the start (`create`): `rate` misses the increment that makes a series.

`run` and `pod` are labels of the scraped target and never set here.
"""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeVar

from prometheus_client import REGISTRY, Counter, Gauge, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from rlsd.telemetry.activity import Activity, State

# A time of creation for each series would be a series more.
disable_created_metrics()  # type: ignore[no-untyped-call]

LAT: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Seconds of a request."""
LONG: Final = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 2400, 4800)
"""Seconds of what may last minutes."""
TOK: Final = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
VER: Final = (0, 1, 2, 3, 4, 6, 8, 12, 16)
"""Policy versions."""
FRAC: Final = (0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1)
REW: Final = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
DLT: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5)
"""Nats."""

SERVICES: Final = ("rollout", "verifier", "teacher", "learner")

Values = Sequence[str] | str
"""All values of a label; or, where a configuration names them, in words where they come from."""

_values: dict[str, Mapping[str, Values]] = {}


class _Described(Protocol):
    def describe(self) -> Iterable[Metric]: ...


_M = TypeVar("_M", bound=_Described)
_W = TypeVar("_W", bound=MetricWrapperBase)


def labelled(metric: _M, **values: Values) -> _M:
    """The metric itself, once it is noted which values its labels take."""
    for described in metric.describe():
        _values[described.name] = values
    return metric


def label_values(name: str) -> Mapping[str, Values]:
    """What `labelled` was told of a metric, by its name without `_total`; empty for one without."""
    return _values.get(name, {})


def create(metric: _W, **fixed: str) -> _W:
    """The metric with a series for every combination of its closed labels, the others `fixed`."""
    described = next(iter(metric.describe()))
    closed: dict[str, Sequence[str]] = {
        label: (fixed[label],) if label in fixed else values
        for label, values in label_values(described.name).items()
        if not isinstance(values, str) or label in fixed
    }
    for combination in itertools.product(*closed.values()):
        metric.labels(**dict(zip(closed, combination, strict=True)))
    return metric


class LateGauge(Gauge):
    """A gauge without labels that is not exported before it has a value: 0 would be a lie."""

    has_value = False

    def set(self, value: float) -> None:
        """Set it, and show it from now on."""
        super().set(value)
        self.has_value = True

    def collect(self) -> Iterable[Metric]:
        """Nothing, until there is a value."""
        return super().collect() if self.has_value else ()


class ServiceMetrics(Collector):
    """What every service says of itself, computed when it is asked."""

    def __init__(self) -> None:
        self._service = ""
        self._activity: Activity | None = None
        self._is_ready: Callable[[], bool] = lambda: False

    def watch(self, service: str, activity: Activity, is_ready: Callable[[], bool]) -> None:
        """Speak for this service from now on; before, nothing is said."""
        self._service, self._activity, self._is_ready = service, activity, is_ready

    def describe(self) -> list[Metric]:
        """The metrics without a value."""
        return [
            CounterMetricFamily(
                "rlsd_service_state_seconds",
                "Seconds in each state, as `rlsd why` names it; every second is counted once.",
                labels=["service", "state"],
            ),
            GaugeMetricFamily(
                "rlsd_service_stalled",
                "1 while a part of the service stands still, so that `/livez` answers 503.",
                labels=["service"],
            ),
            GaugeMetricFamily(
                "rlsd_service_ready",
                "1 while the service can do its work, so that `/readyz` answers 200.",
                labels=["service"],
            ),
            GaugeMetricFamily(
                "rlsd_build_info", "1, with the version.", labels=["service", "version"]
            ),
        ]

    def collect(self) -> list[Metric]:
        """The metrics of the watched service."""
        if self._activity is None:
            return []
        families: list[Any] = self.describe()
        states, stalled, ready, build = families
        for state, seconds in self._activity.seconds().items():
            states.add_metric([self._service, state.value], seconds)
        stalled.add_metric([self._service], float(bool(self._activity.snapshot().stalled)))
        ready.add_metric([self._service], float(self._is_ready()))
        build.add_metric([self._service, importlib.metadata.version("rlsd")], 1.0)
        return families


SERVICE = ServiceMetrics()
REGISTRY.register(SERVICE)
labelled(SERVICE, service=SERVICES, state=tuple(State), version="of this package")
SPANS_DROPPED = Counter(
    "rlsd_spans_dropped", "Spans that were made and could not be sent; 0 while tracing is off."
)
