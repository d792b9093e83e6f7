"""What tracing costs: `PYTHONPATH=. python benchmarks/tracing_overhead.py` (10 min alone).

Pairs of runs of the demo, with spans sent to a receiver on this machine and without, in turn and
each time in the other order. A run is the same to the token either way, so each step is compared
with itself. What one span costs in CPU time is measured beside it, which no other load disturbs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from rlsd.telemetry import tracing
from rlsd.telemetry.tracing import Attribute
from rlsd.telemetry.tracing.mark import group_ids
from tests.otlp_receiver import Receiver, pb, receiving

RESULTS = Path("benchmarks/results/tracing_overhead.json")
_SPANS = 20_000


class Counting(Receiver):
    """Takes as little of the machine as it can."""

    def __init__(self) -> None:
        super().__init__()
        self.num_spans = 0

    def Export(self, request: Any, context: Any) -> Any:
        """Count."""
        scopes = (scope for resource in request.resource_spans for scope in resource.scope_spans)
        self.num_spans += sum(len(scope.spans) for scope in scopes)
        return pb.ExportTraceServiceResponse()


def main() -> None:
    """Run the pairs, print and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--warm-up", type=int, default=5, help="steps that are left out first")
    parser.add_argument("--share", type=float, help="of the groups that are traced; else by pace")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    receiver = Counting()
    with receiving(receiver), tempfile.TemporaryDirectory() as folder:
        pairs = []
        for number in range(arguments.pairs):
            arms = (False, True) if number % 2 else (True, False)
            settings = {True: traced(receiver, arguments.share), False: {}}
            times = {
                on: step_times(Path(folder), arguments.steps, settings[on])[arguments.warm_up - 1 :]
                for on in arms
            }
            pairs.append(times)
            print(f"pair {number}: {summary([times])}", file=sys.stderr)
        num_spans = receiver.num_spans / (arguments.pairs * arguments.steps)
        cost_us = span_cost_us(receiver)
    step_s = statistics.median(s for times in pairs for s in times[False])
    found = {
        "with over without, step by step": summary(pairs),
        "each pair": [summary([times])["median"] for times in pairs],
        "step_s_without": round(step_s, 4),
        "share_of_groups": arguments.share,
        "spans_a_step": round(num_spans, 1),
        "cpu_us_a_span": round(cost_us, 1),
        "cpu_of_spans_over_step": round(num_spans * cost_us / 1e6 / step_s, 5),
        "pairs": arguments.pairs,
        "steps": arguments.steps - arguments.warm_up,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    text = json.dumps(found, indent=1)
    arguments.out.write_text(text + "\n")
    print(text)


def traced(receiver: Receiver, share: float | None) -> dict[str, str]:
    """OpenTelemetry's variables for spans of a share of the groups."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
    if share is None:
        return endpoint
    ratio = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
    return endpoint | ratio | {"OTEL_TRACES_SAMPLER_ARG": str(share)}


def step_times(folder: Path, steps: int, settings: dict[str, str]) -> list[float]:
    """Seconds from the end of one step to the end of the next, evaluations excluded."""
    shutil.rmtree(folder / "run", ignore_errors=True)
    sets = [f'run.dir="{folder}"', 'run.id="run"', f"run.steps={steps}"]
    sets += ["evaluation.every=10000", "evaluation.limit=1", "evaluation.samples=0"]
    command = [sys.executable, "-m", "rlsd", "run", "examples/chain/rlsd.toml"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")} | settings
    subprocess.run(
        [*command, *(x for s in sets for x in ("--set", s))],
        env=environment,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    lines = [json.loads(x) for x in (folder / "run/metrics.jsonl").read_text().splitlines()]
    ends = [line["time_s"] for line in lines]
    return [after - before for before, after in pairwise(ends)]


def summary(pairs: list[dict[bool, list[float]]]) -> dict[str, float]:
    """Of the ratio of each step to itself."""
    ratios = [a / b for p in pairs for a, b in zip(p[True], p[False], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    return {"quartile": round(low, 4), "median": round(median, 4), "quartile_3": round(high, 4)}


def span_cost_us(receiver: Receiver) -> float:
    """CPU microseconds from making a span to its arrival, its share of the sending included."""
    script = "from benchmarks.tracing_overhead import make_spans; make_spans()"
    environment = {
        **os.environ,
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
        "PYTHONPATH": ".",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def make_spans() -> None:
    """Make many and print what each took; in a process of its own."""
    tracing.start_tracing("rlsd-benchmark", run_id="run")
    parent = tracing.root_traceparent(group_ids("run", "g00000000"))
    started = time.process_time()
    for number in range(_SPANS):
        with tracing.span("verify", parent=parent):
            tracing.annotate({a: number for a in list(Attribute)[:5]})
        if number % 500 == 0:
            time.sleep(0.05)  # else the queue would be full and nothing sent
    tracing.stop_tracing(within_s=60)
    print((time.process_time() - started) / _SPANS * 1e6)


if __name__ == "__main__":
    main()
