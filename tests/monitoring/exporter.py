"""What the demo has none of: outside verifiers, code in the sandbox, tools, engines, GPUs.

The first four are the code's own metrics, observed here; vLLM, SGLang and DCGM are spoken for by
their documented names. `python -m tests.monitoring.exporter PORT vllm|sglang`.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, start_http_server

from rlsd.telemetry.activity import Activity
from rlsd.telemetry.metrics import SERVICE
from rlsd.verifier_client import metrics as outside
from services.rollout import metrics as rollout
from services.teacher import metrics as teacher
from services.verifier import metrics as verifier

_GPUS = ("0", "1")


def observe_own(tick: int) -> None:
    """Metrics of this code."""
    for name in ("checks", "judge"):
        outside.TRIES.labels(name, "scored").inc(8)
        outside.TRIES.labels(name, "timeout").inc(tick % 7 == 0)
        outside.RETRIES.labels(name).inc(tick % 7 == 0)
        outside.CLAMPED.labels(name).inc(0)
        outside.CIRCUIT.labels(name).set(0)
        outside.CANARY.labels(name).set(0)
        outside.WAITING.labels(name).set(0)
        outside.OUTSTANDING.labels(name).set(4 + tick % 5)
        outside.DURATION.labels(name).observe(0.05 * (1 + tick % 9))
    verifier.ISOLATION.labels("T3", "0a1b2c").set(1)
    for result, number in (("ok", 30), ("failed", 12), ("timeout", tick % 3 == 0)):
        verifier.RUNS.labels("T3", result).inc(number)
    verifier.RUN_DURATION.labels("T3").observe(0.04 * (1 + tick % 6))
    verifier.PLACES.labels("busy").set(tick % 4)
    verifier.PLACES.labels("total").set(4)
    rollout.TOOL_CALLS.labels("lookup", "answered").inc(20)
    rollout.TOOL_CALLS.labels("lookup", "malformed").inc(1)
    rollout.TOOL_RETRIES.labels("lookup").inc(0)
    rollout.TOOL_DURATION.labels("lookup").observe(0.01 * (1 + tick % 8))
    teacher.ENGINE_TOKENS.labels("given").inc(4000)
    teacher.ENGINE_TOKENS.labels("computed").inc(900)


def observe_dcgm() -> Iterator[None]:
    """Two devices; the label pod is the exporter's word for whom they belong to."""
    labels = ["gpu", "pod"]
    busy = Gauge("DCGM_FI_DEV_GPU_UTIL", "%", labels)
    active = Gauge("DCGM_FI_PROF_SM_ACTIVE", "0 to 1", labels)
    memory = Gauge("DCGM_FI_DEV_FB_USED", "MiB", labels)
    for tick in itertools.count():
        for gpu in _GPUS:
            of = (gpu, sys.argv[3])
            busy.labels(*of).set(90 - 4 * (tick % 3) - 10 * int(gpu))
            active.labels(*of).set(0.6 - 0.05 * int(gpu))
            memory.labels(*of).set(61_000 + 2000 * int(gpu))
        yield


def observe_vllm() -> Iterator[None]:
    """Names of vLLM's own exporter."""
    running = Gauge("vllm:num_requests_running", "requests")
    waiting = Gauge("vllm:num_requests_waiting", "requests")
    cache = Gauge("vllm:kv_cache_usage_perc", "0 to 1")
    counters = {
        name: Counter(f"vllm:{name}", name)
        for name in (
            *("generation_tokens", "prompt_tokens", "prefix_cache_queries"),
            *("prefix_cache_hits", "num_preemptions"),
        )
    }
    latencies = _latencies("vllm")
    for tick in itertools.count():
        running.set(24 + tick % 9)
        waiting.set(tick % 3)
        cache.set(0.55 + 0.02 * (tick % 8))
        for name, number in zip(counters, (2600, 700, 700, 560, 0), strict=True):
            counters[name].inc(number)
        _observe(latencies, tick)
        yield


def observe_sglang() -> Iterator[None]:
    """Names of SGLang's own exporter."""
    gauges = {
        name: Gauge(f"sglang:{name}", name)
        for name in (
            *("num_running_reqs", "num_queue_reqs", "token_usage"),
            *("cache_hit_rate", "num_retracted_reqs"),
        )
    }
    counters = [Counter(f"sglang:{x}_tokens", x) for x in ("generation", "prompt")]
    latencies = _latencies("sglang")
    for tick in itertools.count():
        for name, value in zip(gauges, (18 + tick % 5, 0, 0.4, 0.82, 0), strict=True):
            gauges[name].set(value)
        counters[0].inc(1900)
        counters[1].inc(400)
        _observe(latencies, tick)
        yield


def _latencies(engine: str) -> list[Histogram]:
    buckets = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
    names = ("inter_token_latency", "time_to_first_token", "e2e_request_latency")
    return [Histogram(f"{engine}:{name}_seconds", name, buckets=buckets) for name in names]


def _observe(latencies: list[Histogram], tick: int) -> None:
    for histogram, seconds in zip(latencies, (0.02, 0.2, 6), strict=True):
        histogram.observe(seconds * (1 + tick % 5 / 5))


def main() -> None:
    """Serve, and go on, once a second."""
    port, engine, pod = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    SERVICE.watch("rollout", Activity(), lambda: True)
    sources = [observe_dcgm(), observe_vllm() if engine == "vllm" else observe_sglang()]
    start_http_server(port, "127.0.0.1", REGISTRY)
    for tick in itertools.count():
        if pod == "rollout-0":
            observe_own(tick)
        for source in sources:
            next(source)
        time.sleep(1)


if __name__ == "__main__":
    main()
