"""What metrics cost: `python benchmarks/metrics_overhead.py` (about 2 minutes).

The demo, shortened, with scrapes of every service. Each service is its own process as
always; here it is started by this file, which first puts a clock of the thread's CPU time around
every function that exists for metrics alone. Reported: CPU milliseconds a step by service and
function, and their share of the time that a step takes. Metrics are never off, so there is nothing
to compare with.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import importlib
import inspect
import json
import runpy
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import rlsd.local.system as local
from rlsd.config import load

RESULT = Path("benchmarks/results/metrics_overhead.json")
TIMED = {
    "rlsd.streams.metrics": ("observe_claim",),
    "rlsd.telemetry.activity:Activity": ("_count",),
    "services.rollout.metrics": ("observe", "observe_installation"),
    "services.verifier.metrics": ("observe",),
    "services.teacher.metrics": ("observe",),
    "services.learner.metrics": ("observe_step", "observe_batch"),
    "services.learner.metrics:Backpressure": ("note",),
    "services.learner.trained:TrainedGroups": ("note",),
    "rlsd.streams.redis:RedisStream": ("measure",),
    "rlsd.objectives.credit": ("weight_entropy_ratio",),
    "rlsd.objectives.loss": ("_credit_counts",),
}
"""Functions by their module and class."""
OF_OTHERS = {
    "rollout": ("verifier", "teacher", "learner"),
    "verifier": ("rollout", "teacher", "learner", "objectives"),
    "teacher": ("rollout", "verifier", "learner"),
    "learner": ("rollout", "verifier", "teacher"),
}
"""What a service does not import."""


class Clocks:
    """CPU seconds of the calling threads, and calls, by function."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.calls: dict[str, int] = {}

    def add(self, name: str, seconds: float) -> None:
        """Note one call."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.calls[name] = self.calls.get(name, 0) + 1

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed; a coroutine by what it computes between its waits."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def timed_coroutine(*args: Any, **kwargs: Any) -> Any:
                return await _Driven(function(*args, **kwargs), lambda s: self.add(name, s))

            return timed_coroutine

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*args, **kwargs)
            finally:
                self.add(name, time.thread_time() - started)

        return timed


class _Driven:
    def __init__(self, coroutine: Any, done: Callable[[float], None]) -> None:
        self._coroutine, self._done = coroutine, done

    def __await__(self) -> Any:
        inner, spent, sent = self._coroutine.__await__(), 0.0, None
        try:
            while True:
                started = time.thread_time()
                try:
                    waits = inner.send(sent)
                except StopIteration as end:
                    return end.value
                finally:
                    spent += time.thread_time() - started
                sent = yield waits
        finally:
            inner.close()
            self._done(spent)


def part(service: str, out: Path) -> None:
    """One service with clocks; leaves what they show at its end."""
    clocks = Clocks()
    for place, names in TIMED.items():
        if any(other in place for other in OF_OTHERS[service]):
            continue
        module, _, owner = place.partition(":")
        holder: Any = importlib.import_module(module)
        holder = getattr(holder, owner) if owner else holder
        for name in names:
            setattr(holder, name, clocks.around(f"{owner or module}.{name}", getattr(holder, name)))
    _time_scrapes(service, clocks)
    try:
        runpy.run_module(f"services.{service}", run_name="__main__", alter_sys=True)
    finally:
        out.write_text(json.dumps({"seconds": clocks.seconds, "calls": clocks.calls}))


def _time_scrapes(service: str, clocks: Clocks) -> None:
    if service == "verifier":
        import services.verifier.app as app

        choose = app.choose_encoder
        app.choose_encoder = lambda accept: (  # type: ignore[assignment]
            clocks.around("scrape", choose(accept)[0]),
            choose(accept)[1],
        )
        return
    import rlsd.serving.http as http

    made = http.make_wsgi_app
    http.make_wsgi_app = lambda: clocks.around("scrape", made())  # type: ignore[assignment]


async def measured(steps: int, every_s: float) -> dict[str, Any]:
    """Run the demo; what its clocks and its own files say."""
    with tempfile.TemporaryDirectory(prefix="rlsd-overhead-") as folder:
        given = [f'run.dir="{folder}"', 'run.id="r"', f"run.steps={steps}"]
        config = load(Path("examples/chain/rlsd.toml"), [*given, "evaluation.every=100000"])
        path = local.prepare_run_folder(config, resume=False)
        outs = {s: Path(folder) / f"{s}.json" for s in OF_OTHERS}

        def command(service: str, config_path: Path, **_: int) -> list[str]:
            mine = [sys.executable, str(Path(__file__).resolve()), "--part", service]
            return [*mine, "--out", str(outs[service]), "--", "--config", str(config_path)]

        local.service_command = command  # type: ignore[assignment]
        watcher = local.Watcher(on_event=print, on_status=lambda _: None)
        scraping = asyncio.create_task(_scrape(config.run_dir, every_s))
        await local.run_system(config, path, stopping=asyncio.Event(), watcher=watcher)
        scraping.cancel()
        lines = (config.run_dir / "metrics.jsonl").read_text().splitlines()
        step_s = [json.loads(line)["step_s"] for line in lines]
        return {
            "steps": steps,
            "scraped_every_s": every_s,
            "step_s": {"median": median(step_s), "sum": sum(step_s)},
            "services": {s: json.loads(out.read_text()) for s, out in outs.items()},
        }


async def _scrape(folder: Path, every_s: float) -> None:
    """Every service, now and then, as long as it has an address."""
    path = folder / "prometheus_targets.json"
    while True:
        for target in json.loads(path.read_text()) if path.exists() else []:
            try:
                await asyncio.to_thread(_get, f"http://{target['targets'][0]}/metrics")
            except OSError:
                continue
        await asyncio.sleep(every_s)


def _get(url: str) -> None:
    with urllib.request.urlopen(url, timeout=5) as answer:
        answer.read()


def summary(found: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds a step and a call, and the share of the steps' time."""
    steps, wall_s = found["steps"], found["step_s"]["sum"]
    services = {}
    for service, clocks in found["services"].items():
        total_s = sum(clocks["seconds"].values())
        services[service] = {
            "ms_a_step": round(1000 * total_s / steps, 3),
            "share_of_step_time": round(total_s / wall_s, 5),
            "functions": {
                name: {
                    "ms_a_step": round(1000 * seconds / steps, 4),
                    "ms_a_call": round(1000 * seconds / clocks["calls"][name], 4),
                }
                for name, seconds in sorted(clocks["seconds"].items())
            },
        }
    return {
        "steps": steps,
        "step_s_median": found["step_s"]["median"],
        "scraped_every_s": found["scraped_every_s"],
        "services": services,
    }


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument(
        "--every", type=float, default=5.0, help="seconds between scrapes; 5 is prometheus.yml's"
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.part:
        sys.argv = [arguments.part, *(x for x in rest if x != "--")]
        part(arguments.part, arguments.out)
        return
    result = summary(asyncio.run(measured(arguments.steps, arguments.every)))
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    for service, of in result["services"].items():
        print(f"{service:9} {of['ms_a_step']:8.3f} ms a step  {of['share_of_step_time']:.3%}")


if __name__ == "__main__":
    main()
