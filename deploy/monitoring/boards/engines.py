"""vLLM, SGLang and the GPUs of a run, by recording rules in one form: the fleet and its worst."""

from __future__ import annotations

from typing import Any

from deploy.monitoring.panels import (
    GREEN,
    ORANGE,
    RED,
    Band,
    Column,
    Query,
    R,
    dashboard,
    graph,
    rows,
)

_POD = f'{{{R}, pod=~"$pod"}}'


def board() -> dict[str, Any]:
    """The dashboard."""
    return dashboard(
        "engines",
        "Engines",
        "Needs the recording rules, engines that Prometheus can scrape, and DCGM's exporter "
        "(docs/monitoring.md).",
        [
            Band(8, _load(), "Load"),
            Band(8, _latency(), "Latency"),
            Band(8, _gpus(), "GPUs"),
            Band(6, _each(), "Each engine"),
        ],
        variables=("pod",),
    )


def _fleet(name: str, worst: str = "max") -> tuple[Query, Query]:
    """Mean over the engines of a run, and the worst one."""
    return (
        Query(f"avg by (run) ({name}{_POD})", "{{run}} mean"),
        Query(f"{worst} by (run) ({name}{_POD})", "{{run}} worst"),
    )


def _load() -> list[Any]:
    return [
        graph(
            "Requests running",
            *_fleet("rlsd:engine_requests_running", "min"),
            unit="short",
            text="Worst: the emptiest engine. Normal: all alike. An empty one gets no work: it is "
            "not ready, or rollout.group_size is too small for the fleet.",
            page="engines.md",
            columns=6,
        ),
        graph(
            "Requests waiting",
            *_fleet("rlsd:engine_requests_waiting"),
            unit="short",
            text="In the engine's own queue. Normal: few. Many for long: too little cache, or too "
            "many groups at once.",
            page="engines.md",
            columns=6,
        ),
        graph(
            "Cache in use",
            *_fleet("rlsd:engine_cache_usage:ratio"),
            unit="percentunit",
            most=1,
            steps=((None, GREEN), (0.95, RED)),
            text="KV cache. Normal: below 95 %. At 95 % and more requests are thrown out and "
            "computed again.",
            page="engines.md",
            columns=6,
        ),
        graph(
            "Requests thrown out",
            *_fleet("rlsd:engine_preempted_requests"),
            unit="short",
            text="vLLM: preempted in five minutes; SGLang: retracted now. Normal: 0.",
            page="engines.md",
            columns=6,
        ),
    ]


def _latency() -> list[Any]:
    return [
        graph(
            "Tokens generated a second",
            Query(f"sum by (run) (rlsd:engine_generated_tokens:rate5m{_POD})", "{{run}} fleet"),
            Query(
                f"min by (run) (rlsd:engine_generated_tokens:rate5m{_POD})", "{{run}} worst engine"
            ),
            Query(
                f"sum by (run) (rlsd:engine_prompt_tokens:rate5m{_POD})", "{{run}} prompts, fleet"
            ),
            unit="short",
            text="Normal: the worst engine near the fleet's mean. Else look at its GPU's clocks.",
            page="engines.md",
            columns=6,
        ),
        graph(
            "First token, p95",
            *_fleet("rlsd:engine_first_token_seconds:p95_5m"),
            unit="s",
            text="Waiting included. Normal: it follows the requests that wait.",
            page="engines.md",
            columns=6,
        ),
        graph(
            "Between tokens, p95",
            *_fleet("rlsd:engine_between_tokens_seconds:p95_5m"),
            unit="s",
            text="Normal: steady. A peak at each update of the weights is its pause.",
            page="engines.md",
            columns=6,
        ),
        graph(
            "Whole request, p95",
            *_fleet("rlsd:engine_request_seconds:p95_5m"),
            unit="s",
            text="The slowest sibling decides how long a group takes. Normal: in proportion to the "
            "length.",
            page="engines.md",
            columns=6,
        ),
    ]


def _gpus() -> list[Any]:
    return [
        graph(
            "Busy",
            Query(f"avg by (run, service) (rlsd:gpu_busy:ratio{_POD})", "{{service}} mean"),
            Query(f"min by (run, service) (rlsd:gpu_busy:ratio{_POD})", "{{service}} worst"),
            unit="percentunit",
            most=1,
            text="Share of the time in which any kernel ran. Normal: above 80 % for rollout and "
            "learner.",
            page="engines.md",
        ),
        graph(
            "Multiprocessors active",
            Query(f"avg by (run, service) (rlsd:gpu_sm_active:ratio{_POD})", "{{service}} mean"),
            Query(f"min by (run, service) (rlsd:gpu_sm_active:ratio{_POD})", "{{service}} worst"),
            unit="percentunit",
            most=1,
            text="How much of the device works. Normal: it follows busy. Low while busy is high: "
            "small batches.",
            page="engines.md",
        ),
        graph(
            "Memory",
            Query(
                f"max by (run, service) (rlsd:gpu_memory_used:bytes{_POD})", "{{service}} fullest"
            ),
            unit="bytes",
            text="Of the fullest device. Normal: flat. Growing all the time: a leak.",
            page="engines.md",
        ),
    ]


def _each() -> list[Any]:
    return [
        rows(
            "Engines",
            Column("running", f"rlsd:engine_requests_running{_POD}", "none"),
            Column(
                "waiting",
                f"rlsd:engine_requests_waiting{_POD}",
                "none",
                ((None, GREEN), (64, ORANGE)),
            ),
            Column(
                "cache",
                f"rlsd:engine_cache_usage:ratio{_POD}",
                "percentunit",
                ((None, GREEN), (0.95, RED)),
            ),
            Column("prefix hits", f"rlsd:engine_prefix_hits:ratio{_POD}", "percentunit"),
            Column("tokens/s", f"rlsd:engine_generated_tokens:rate5m{_POD}", "short", decimals=0),
            by=("run", "pod", "engine"),
            text="One row for each engine. Prefix hits: siblings share their prompt, so "
            "(group_size - 1) / group_size of a prompt's tokens is normal.",
            page="engines.md",
            columns=24,
        )
    ]
