"""`docs/metrics.md`, out of the metrics that the services declare."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType

from prometheus_client.core import Metric

from rlsd.telemetry.metrics import label_values

SECTIONS = {
    "Every service": ("rlsd.telemetry.metrics",),
    "Queues (each worker of its stage)": ("rlsd.streams.metrics",),
    "Weights": ("rlsd.telemetry.weights",),
    "Rollout": ("services.rollout.metrics",),
    "Verifier": ("services.verifier.metrics", "rlsd.verifier_client.metrics"),
    "Teacher": ("services.teacher.metrics",),
    "Learner": ("services.learner.metrics",),
}
UNITS = ("seconds", "bytes", "tokens", "nats", "versions", "ratio")

_HEAD = """\
# Metrics

Generated from the code by `make protos`; not to be edited. Every service serves them at `/metrics`
on the port of `--metrics` (the verifier: on that of `--http` too), as text or, where the scraper
asks for it, as OpenMetrics.

- `run` and `pod` are labels of the target, given where the scraping is configured. `rlsd run`
  writes `prometheus_targets.json` into the run's folder, with `run` and `service`, for a
  Prometheus with `file_sd_configs` ([monitoring.md](monitoring.md)) and `honor_labels: true`, since
  some metrics carry `service` themselves.
- Labels have the values that stand here and no others. What is missing has no value yet, or cannot
  be had: a gauge is never 0 for want of a measurement.
- The learner measures the queues about once a second, also while it trains. When Redis does not
  answer, `rlsd_queue_entries` and its neighbours are absent, not 0 and not as they last were.
- Of several ranks of the learner rank 0 alone speaks, for all. Replicas under Ray Serve are on
  Ray's page of their node, as `ray_rlsd_…` ([ray.md](ray.md)).
- Counters that an alert looks at are 0 from the start. What the learner counts of batches is what
  this process logged: steps that are trained again after a restart are in
  `rlsd_learner_steps_reexecuted_total` alone; `rlsd_learner_trained_twice_total` is of the whole
  batch log.
"""


def families() -> Iterator[tuple[str, Metric, tuple[str, ...]]]:
    """Each metric with its section and the names of its labels, once, in order of declaration."""
    seen = set()
    for section, modules in SECTIONS.items():
        for module in modules:
            for value in vars(importlib.import_module(module)).values():
                if isinstance(value, type | ModuleType) or not hasattr(value, "describe"):
                    continue
                for metric in value.describe():
                    if metric.name not in seen:
                        seen.add(metric.name)
                        source = metric if hasattr(metric, "_labelnames") else value
                        yield section, metric, tuple(source._labelnames)


def exposed_name(metric: Metric) -> str:
    """As it is asked for: a counter ends in `_total`."""
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def unit(name: str) -> str:
    """The unit in a metric's name; empty for a number of things."""
    parts = name.removesuffix("_total").rsplit("_", 1)
    return parts[-1] if parts[-1] in UNITS else ""


def page() -> str:
    """The whole page."""
    lines = [_HEAD]
    last = ""
    for section, metric, labels in families():
        if section != last:
            head = "| metric | type | labels | unit | what |\n|---|---|---|---|---|"
            lines.append(f"{chr(10) if last else ''}## {section}\n\n{head}")
            last = section
        values = label_values(metric.name)
        words = "; ".join(f"`{label}`: {_words(values[label])}" for label in labels)
        name = exposed_name(metric)
        help_ = metric.documentation.replace("|", "\\|")
        lines.append(f"| `{name}` | {metric.type} | {words} | {unit(name)} | {help_} |")
    return "\n".join(lines) + "\n"


def _words(values: object) -> str:
    if isinstance(values, str):
        return f"({values})"
    assert isinstance(values, tuple)
    return ", ".join(f"`{v}`" if v else "empty" for v in map(str, values))
