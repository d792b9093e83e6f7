"""What metrics of replicas on Ray cost: `PYTHONPATH=. python benchmarks/ray_metrics.py` (5 min).

Actors stand for replicas: each has the series of all three services (every closed label, four kinds
of checks, two outside verifiers) and as many again as vLLM has, and reports as a replica does. CPU
time is that of the reporting thread, of a replica's whole process and of Ray's agent of the node,
which have other things to do; so each is measured without reports first.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import time
import urllib.request
from pathlib import Path
from typing import Any

RESULT = Path("benchmarks/results/ray_metrics.json")
_ENGINE_SERIES = 300
_TICKS = os.sysconf("SC_CLK_TCK")


class Replica:
    """All that a replica could have to say."""

    def __init__(self, number: int) -> None:
        from prometheus_client import Gauge as Own
        from prometheus_client.metrics import MetricWrapperBase
        from ray.util.metrics import Gauge

        from rlsd.streams import metrics as queues
        from rlsd.telemetry.activity import Activity
        from rlsd.telemetry.metrics import SERVICE, create, label_values
        from rlsd.verifier_client import metrics as outside
        from services.on_ray.metrics import Reporter
        from services.rollout import metrics as rollout
        from services.teacher import metrics as teacher
        from services.verifier import metrics as verifier

        SERVICE.watch("rollout", Activity(), lambda: True)
        words = {"kind": "abcd", "verifier": "ab", "tool": "ab"}
        for module in (rollout, teacher, verifier, queues, outside):
            for metric in vars(module).values():
                if not isinstance(metric, MetricWrapperBase):
                    continue
                if of := label_values(next(iter(metric.describe())).name):
                    free = [x for x, values in of.items() if isinstance(values, str)]
                    for value in words.get(free[0], "a") if free else "a":
                        create(metric, **dict.fromkeys(free, value))
        engine = Own("vllm:series", "As many as vLLM has.", ["number"])
        for index in range(_ENGINE_SERIES):
            engine.labels(str(index)).set(index)
        self._reporter = Reporter(Gauge, lambda: "", run="run", replica=f"rollout-{number}")

    def pid(self) -> int:
        """Of its process."""
        return os.getpid()

    def measured(self, times: int) -> dict[str, float]:
        """Series, and milliseconds of CPU of a report."""
        from prometheus_client import REGISTRY

        from services.on_ray.metrics import shown

        spent = []
        for _ in range(times):
            began = time.thread_time()
            self._reporter.report()
            spent.append(1000 * (time.thread_time() - began))
        return {"series": len(list(shown(REGISTRY.collect()))), "ms": statistics.median(spent)}

    def start(self) -> None:
        """Report every five seconds."""
        self._reporter.start()


def cpu_s(pid: int) -> float:
    """Seconds of CPU that a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def agents() -> set[int]:
    """Ray's agents on this machine, those of others too."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"DashboardAgent" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


def shares(pids: dict[str, list[int]], for_s: float) -> dict[str, float]:
    """Of one core, by whose; the mean of each list."""
    before = {pid: cpu_s(pid) for each in pids.values() for pid in each}
    time.sleep(for_s)
    return {
        name: sum(cpu_s(pid) - before[pid] for pid in each) / len(each) / for_s
        for name, each in pids.items()
    }


def page(agent: int, times: int = 5) -> dict[str, float]:
    """What a read of Ray's page costs the agent, and what is on it."""
    import ray

    [node] = ray.nodes()
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    before = cpu_s(agent)
    for _ in range(times):
        with urllib.request.urlopen(url, timeout=60) as answer:
            text = answer.read().decode()
    return {
        "cpu_s": round((cpu_s(agent) - before) / times, 3),
        "series": sum(not x.startswith("#") for x in text.splitlines()),
        "ours": sum(text.count(f"\nray_{x}_") for x in ("rlsd", "vllm", "process")),
        "bytes": len(text),
    }


def main() -> None:
    """Measure, print, and keep the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=90.0)
    arguments = parser.parse_args()
    import ray

    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": os.getcwd()}
    of_others = agents()
    ray.init(num_cpus=arguments.replicas, include_dashboard=False, log_to_driver=False)
    actors: list[Any] = [
        ray.remote(num_cpus=0.1)(Replica).remote(i) for i in range(arguments.replicas)
    ]
    [agent] = agents() - of_others
    pids = {"agent": [agent], "replica": ray.get([a.pid.remote() for a in actors])}
    time.sleep(30)  # what is sent of its start
    without = shares(pids, arguments.seconds)
    empty = page(agent)
    ray.get([a.start.remote() for a in actors])
    time.sleep(30)
    reporting = shares(pids, arguments.seconds)
    full = page(agent)
    result = {
        "ray": ray.__version__,
        "replicas": arguments.replicas,
        "a_report": ray.get(actors[0].measured.remote(200)),
        "share_of_a_core": {"without": without, "with": reporting},
        "page": {"without": empty, "with": full},
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
