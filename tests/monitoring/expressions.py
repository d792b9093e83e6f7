"""PromQL taken apart: which metrics an expression reads, with which labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser
from prometheus_client import REGISTRY
from prometheus_client.metrics_core import Metric

import rlsd.streams.metrics
import rlsd.verifier_client.metrics
import services.rollout.metrics
import services.teacher.metrics
import services.verifier.metrics
from rlsd.telemetry.metrics import label_values
from services.learner import metrics as learner_metrics

_ = (
    rlsd.streams.metrics,
    rlsd.verifier_client.metrics,
    services.rollout.metrics,
    services.teacher.metrics,
    services.verifier.metrics,
)

TARGET = {"run", "pod", "namespace", "instance", "job", "component"}
"""Labels that scraping adds."""

OTHERS = {
    "ALERTS": {"alertname", "alertstate", "severity", "pillar", "service", "stage", "kind"},
    "process_start_time_seconds": set(),
    "process_resident_memory_bytes": set(),
    "process_cpu_seconds_total": set(),
    "vllm:num_requests_running": {"model_name"},
    "vllm:num_requests_waiting": {"model_name"},
    "vllm:kv_cache_usage_perc": {"model_name"},
    "vllm:generation_tokens_total": {"model_name"},
    "vllm:prompt_tokens_total": {"model_name"},
    "vllm:prefix_cache_hits_total": {"model_name"},
    "vllm:prefix_cache_queries_total": {"model_name"},
    "vllm:num_preemptions_total": {"model_name"},
    "vllm:time_to_first_token_seconds_bucket": {"model_name", "le"},
    "vllm:inter_token_latency_seconds_bucket": {"model_name", "le"},
    "vllm:e2e_request_latency_seconds_bucket": {"model_name", "le"},
    "sglang:num_running_reqs": {"model_name"},
    "sglang:num_queue_reqs": {"model_name"},
    "sglang:token_usage": {"model_name"},
    "sglang:generation_tokens_total": {"model_name"},
    "sglang:prompt_tokens_total": {"model_name"},
    "sglang:cache_hit_rate": {"model_name"},
    "sglang:num_retracted_reqs": {"model_name"},
    "sglang:time_to_first_token_seconds_bucket": {"model_name", "le"},
    "sglang:inter_token_latency_seconds_bucket": {"model_name", "le"},
    "sglang:e2e_request_latency_seconds_bucket": {"model_name", "le"},
    "DCGM_FI_DEV_GPU_UTIL": {"gpu", "exported_pod", "exported_namespace"},
    "DCGM_FI_PROF_SM_ACTIVE": {"gpu", "exported_pod", "exported_namespace"},
    "DCGM_FI_DEV_FB_USED": {"gpu", "exported_pod", "exported_namespace"},
}
"""What others export, and their labels beside those of the target."""


@dataclass(frozen=True)
class Selector:
    """One place where an expression reads a metric."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]
    """Label, operator, value."""


def filled(expr: str) -> str:
    """With Grafana's variables in place."""
    return re.sub(r"\[\$\w+\]", "[5m]", expr).replace("$", "v")


def selectors(expr: str) -> set[Selector]:
    """What an expression reads; raises ValueError when it is none."""
    return {
        Selector(
            _name(node),
            tuple(
                (m.name, str(m.op).split(".")[-1], m.value)
                for m in node.matchers.matchers
                if m.name != "__name__"
            ),
        )
        for node in _nodes(promql_parser.parse(filled(expr)))
        if isinstance(node, promql_parser.VectorSelector)
    }


def grouped(expr: str) -> Iterator[tuple[set[str], set[str]]]:
    """Of each `by (…)`: its labels, and the metrics below it."""
    for node in _nodes(promql_parser.parse(filled(expr))):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            below = {
                _name(x) for x in _nodes(node.expr) if isinstance(x, promql_parser.VectorSelector)
            }
            yield set(node.modifier.labels), below


def _name(node: Any) -> str:
    """Of a selector's metric, also where it stands as `{__name__=~"vllm[:_]…"}`."""
    [name] = [m.value for m in node.matchers.matchers if m.name == "__name__"] or [node.name]
    return name.replace("[:_]", ":")


def _nodes(node: Any) -> Iterator[Any]:
    yield node
    for name in ("lhs", "rhs", "expr", "param", "vector_selector"):
        child = getattr(node, name, None)
        if child is not None:
            yield from _nodes(child)
    for child in getattr(node, "args", ()):
        yield from _nodes(child)


def families() -> list[Metric]:
    """Every metric of the code; this process is none of the services, so it has them all."""
    own = [m for m in learner_metrics._CREDIT if m not in set(REGISTRY._collector_to_names)]
    found = [
        family
        for collector in (*REGISTRY._collector_to_names, *own)
        for family in getattr(collector, "describe", list)()
    ]
    return [family for family in found if family.name.startswith("rlsd_")]


def samples(family: Metric) -> dict[str, set[str]]:
    """The names under which a metric is queried, with its labels."""
    labels = set(label_values(family.name))
    if family.type == "counter":
        return {f"{family.name}_total": labels}
    if family.type == "histogram":
        return {
            f"{family.name}_bucket": labels | {"le"},
            f"{family.name}_sum": labels,
            f"{family.name}_count": labels,
        }
    return {family.name: labels}


def known() -> dict[str, set[str]]:
    """Every name that may be asked for but recorded ones, with its labels."""
    return {**OTHERS, **{k: v for f in families() for k, v in samples(f).items()}}


def closed(metric: str, label: str) -> tuple[str, ...] | None:
    """All values of a label of the code's metric; None when a configuration names them."""
    base = re.sub("_(total|bucket|sum|count)$", "", metric)
    values = label_values(base).get(label)
    return None if values is None or isinstance(values, str) else tuple(map(str, values))
