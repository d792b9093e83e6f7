"""What the metrics of this process say."""

from __future__ import annotations

from prometheus_client import REGISTRY


def value(name: str, **labels: str) -> float:
    """A series; 0 when it is not there."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def is_there(name: str, **labels: str) -> bool:
    """Whether the series is exported."""
    return REGISTRY.get_sample_value(name, labels) is not None


class Changes:
    """How much series have grown since it was made."""

    def __init__(self) -> None:
        self._before = _all()

    def __call__(self, name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return _all().get(key, 0.0) - self._before.get(key, 0.0)


def _all() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
    }
