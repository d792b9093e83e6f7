"""What a `/metrics` page holds, looked up by name and labels. Pure.

A missing sample is None and never 0: what was not measured is shown as such.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """The bounds of a histogram's bucket."""

    above: float
    at_most: float | None
    """None: the last bucket has no bound."""


@dataclass(frozen=True, slots=True)
class Samples:
    """The samples of one page, by name."""

    _by_name: Mapping[str, list[tuple[Labels, float]]] = field(default_factory=dict)

    @classmethod
    def parse(cls, page: str) -> Samples:
        """Read a page in Prometheus' text format.

        Raises:
            ValueError: it is something else.
        """
        found: dict[str, list[tuple[Labels, float]]] = defaultdict(list)
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                found[sample.name].append((sample.labels, sample.value))
        return cls(dict(found))

    def value(self, name: str, **labels: str) -> float | None:
        """The sum of the samples that have these labels, or None when there is none."""
        found = [value for _, value in self._matching(name, labels)]
        return sum(found) if found else None

    def by(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The same sum for each value of one label."""
        found: dict[str, float] = defaultdict(float)
        for its, value in self._matching(name, labels):
            found[its.get(label, "")] += value
        return dict(found)

    def label(self, name: str, label: str) -> str:
        """A label's value in an info metric; empty when there is none."""
        return next((its.get(label, "") for its, _ in self._matching(name, {})), "")

    def _matching(self, name: str, labels: Labels) -> Iterable[tuple[Labels, float]]:
        for its, value in self._by_name.get(name, ()):
            if all(its.get(k) == v for k, v in labels.items()):
                yield its, value


@dataclass(frozen=True, slots=True)
class Span:
    """What counters and histograms gained between two pages; since the start without the first."""

    now: Samples
    before: Samples = field(default_factory=Samples)

    def gain(self, name: str, **labels: str) -> float | None:
        """How much a counter grew; a process that was started again counts from 0."""
        now = self.now.value(name, **labels)
        return None if now is None else _grown(now, self.before.value(name, **labels))

    def gains(self, label: str, name: str, **labels: str) -> dict[str, float]:
        """The same for each value of one label, without those that did not grow."""
        before = self.before.by(label, name, **labels)
        now = self.now.by(label, name, **labels)
        grown = {key: _grown(value, before.get(key)) for key, value in now.items()}
        return {key: value for key, value in grown.items() if value}

    def mean(self, name: str, **labels: str) -> float | None:
        """The mean of what a histogram observed; None when it observed nothing."""
        count = self.gain(f"{name}_count", **labels)
        total = self.gain(f"{name}_sum", **labels)
        return total / count if count and total is not None else None

    def largest(self, name: str, **labels: str) -> Between | None:
        """Between which bounds the largest value is that a histogram observed."""
        buckets = self.gains("le", f"{name}_bucket", **labels)
        reached = sorted((float(bound), count) for bound, count in buckets.items())
        if not reached:
            return None
        bounds = sorted(float(b) for b in self.now.by("le", f"{name}_bucket", **labels))
        at_most = next(b for b, count in reached if count == reached[-1][1])
        below = bounds.index(at_most) - 1
        return Between(
            above=bounds[below] if below >= 0 else -math.inf,
            at_most=None if math.isinf(at_most) else at_most,
        )


def _grown(now: float, before: float | None) -> float:
    return now if before is None or before > now else now - before
