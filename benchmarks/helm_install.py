"""From `helm install` to the first optimizer step: `python benchmarks/helm_install.py`.

    --kubeconfig FILE --registry HOST/PATH --values FILE [--values FILE] --repeats 5

Each repeat is a release in a namespace of its own, removed afterwards with its claim. Times are
seconds since `helm install` was called, by the clock of this process: of pods when their watch
said so, of the run when a program beside the learner saw its files. Needs kubectl and Helm.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

CHART = Path(__file__).resolve().parents[1] / "deploy/helm/rlsd"
RELEASE = "demo"
PODS = {"rollout", "verifier", "teacher", "learner", "redis"}
STAGES = PODS - {"learner"}
PHASES = (
    "install_returned",
    "pods_scheduled",
    "containers_started",
    "first_weights_published",
    "stages_ready",
    "first_step_logged",
    "trained_weights_published",
)

# Runs in the learner's container: says what of the run it sees, when it sees it.
WATCH = """
import json, pathlib, time
run = json.loads(pathlib.Path("/etc/rlsd/config.json").read_text())["run"]
folder = pathlib.Path(run["dir"]) / run["id"]
awaited = {
    "first_weights_published": folder / "weights/v00000000/MANIFEST.json",
    "first_step_logged": folder / "metrics.jsonl",
    "trained_weights_published": folder / "weights/v00000001/MANIFEST.json",
}
while awaited:
    for name, path in list(awaited.items()):
        if path.exists() and path.stat().st_size:
            print(name, flush=True)
            del awaited[name]
    time.sleep(0.05)
"""


def main() -> None:
    """Install so many times and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kubeconfig", default=os.environ.get("RLSD_TEST_KUBECONFIG"))
    parser.add_argument("--registry", default="", help="where the nodes find the images")
    parser.add_argument("--tag", default="", help="of the services' images; else the chart's")
    parser.add_argument("--values", action="append", required=True, help="may be repeated")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--timeout-s", type=float, default=900, help="of one repeat")
    given = parser.parse_args()
    if not given.kubeconfig:
        parser.error("no cluster: give --kubeconfig or RLSD_TEST_KUBECONFIG")
    os.environ["KUBECONFIG"] = given.kubeconfig
    values = [x for file in given.values for x in ("--values", file)]
    values += ["--set", f"images.registry={given.registry},images.tag={given.tag}"]
    repeats = []
    for number in range(given.repeats):
        load = os.getloadavg()[0]
        found = _measured(values, timeout_s=given.timeout_s)
        repeats.append(found | {"load_average": round(load, 2)})
        print(f"{number + 1}/{given.repeats}: {repeats[-1]}", file=sys.stderr)
    result = {
        "unit": "s since `helm install` was called",
        "repeats": given.repeats,
        "phases": {phase: _spread([x[phase] for x in repeats]) for phase in PHASES},
        "restarts": sum(x["restarts"] for x in repeats),
        "each": repeats,
        "values": [Path(file).name for file in given.values],
        **_cluster(),
    }
    json.dump(result, sys.stdout, indent=1)
    print()


@dataclass
class _Seen:
    """What has come about in a release, and when; filled by threads."""

    started: float
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def note(self, phase: str) -> None:
        """A phase is reached, now; the first time counts."""
        with self.changed:
            self.at.setdefault(phase, round(time.monotonic() - self.started, 2))
            self.changed.notify_all()

    def note_pod(self, pod: dict[str, Any]) -> None:
        """A pod is as given, now."""
        with self.changed:
            self.pods[pod["metadata"]["name"]] = pod
            if self._components(lambda x: _is(x, "PodScheduled")) >= PODS:
                self.note("pods_scheduled")
            if self._components(_has_started) >= PODS:
                self.note("containers_started")
            if self._components(lambda x: _is(x, "Ready")) >= STAGES:
                self.note("stages_ready")
            self.changed.notify_all()

    def wait_for(self, is_so: Callable[[], Any], *, what: str, deadline: float) -> None:
        """Until `is_so()`, which may look at all that is seen."""
        with self.changed:
            while not is_so():
                if time.monotonic() > deadline:
                    states = {k: v["status"].get("phase") for k, v in self.pods.items()}
                    raise SystemExit(
                        f"{what} did not come about in time: {self.at}; pods: {states}"
                    )
                self.changed.wait(timeout=1)

    def learner(self) -> str | None:
        """The learner's pod once it runs."""
        for name, pod in self.pods.items():
            if _component(pod) == "learner" and _has_started(pod):
                return name
        return None

    def restarts(self) -> int:
        """Containers that were started again, and pods of the learner beyond its first."""
        again = sum(
            int(status["restartCount"])
            for pod in self.pods.values()
            for status in pod["status"].get("containerStatuses", [])
        )
        return again + sum(_component(pod) == "learner" for pod in self.pods.values()) - 1

    def _components(self, has: Callable[[dict[str, Any]], bool]) -> set[str]:
        return {_component(pod) for pod in self.pods.values() if has(pod)}


def _measured(values: list[str], *, timeout_s: float) -> dict[str, Any]:
    namespace = f"rlsd-install-{uuid.uuid4().hex[:6]}"
    _run("kubectl", "create", "namespace", namespace)
    restricted = "pod-security.kubernetes.io/enforce=restricted"
    _run("kubectl", "label", "namespace", namespace, restricted)
    watched = _started("kubectl", "get", "pods", "-n", namespace, "--watch", "-o", "json")
    beside: subprocess.Popen[str] | None = None
    try:
        seen = _Seen(started=time.monotonic())
        deadline = seen.started + timeout_s
        threading.Thread(target=_follow_pods, args=(watched.stdout, seen), daemon=True).start()
        _run("helm", "install", RELEASE, str(CHART), "-n", namespace, *values)
        seen.note("install_returned")
        seen.wait_for(seen.learner, what="a learner", deadline=deadline)
        inside = ["kubectl", "exec", "-n", namespace, str(seen.learner()), "--"]
        beside = _started(*inside, "python", "-c", WATCH)
        threading.Thread(target=_follow_run, args=(beside.stdout, seen), daemon=True).start()
        seen.wait_for(lambda: seen.at.keys() >= set(PHASES), what="a step", deadline=deadline)
        return {phase: seen.at[phase] for phase in PHASES} | {"restarts": seen.restarts()}
    finally:
        for process in (watched, beside):
            if process:
                process.terminate()
                process.wait(timeout=10)
        _run("helm", "uninstall", RELEASE, "-n", namespace, "--wait", check=False)
        _run("kubectl", "delete", "namespace", namespace, "--timeout=600s", check=False)


def _follow_pods(stream: IO[str] | None, seen: _Seen) -> None:
    """Objects of `kubectl --watch -o json`, which are printed one behind the other."""
    assert stream
    for pod in _objects(stream):
        seen.note_pod(pod)


def _follow_run(stream: IO[str] | None, seen: _Seen) -> None:
    assert stream
    for line in stream:
        seen.note(line.strip())


def _objects(stream: IO[str]) -> Iterator[dict[str, Any]]:
    """Indented JSON objects: each ends with a brace at the beginning of a line."""
    lines: list[str] = []
    for line in stream:
        lines.append(line)
        if line.rstrip() == "}":
            yield json.loads("".join(lines))
            lines = []


def _component(pod: dict[str, Any]) -> str:
    return str(pod["metadata"]["labels"].get("app.kubernetes.io/component"))


def _is(pod: dict[str, Any], condition: str) -> bool:
    """Whether a pod's condition holds."""
    found = pod["status"].get("conditions", [])
    return any(x["type"] == condition and x["status"] == "True" for x in found)


def _has_started(pod: dict[str, Any]) -> bool:
    statuses = pod["status"].get("containerStatuses", [])
    return bool(statuses) and all("running" in x["state"] for x in statuses)


def _spread(seconds: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(seconds), 1),
        "min": round(min(seconds), 1),
        "max": round(max(seconds), 1),
    }


def _cluster() -> dict[str, Any]:
    """What ran it: server, nodes, and the sizes of the images as its nodes say them."""
    version = json.loads(_run("kubectl", "version", "-o", "json"))["serverVersion"]["gitVersion"]
    nodes = json.loads(_run("kubectl", "get", "nodes", "-o", "json"))["items"]
    sizes = {
        name.rsplit("/", 1)[-1]: round(image["sizeBytes"] / 1e6)
        for node in nodes
        for image in node["status"].get("images", [])
        for name in image["names"] or ()  # of an image that has lost its name
        if "/rlsd-" in name and "@" not in name
    }
    return {
        "server": version,
        "nodes": [
            {
                "cpu": node["status"]["capacity"]["cpu"],
                "memory": node["status"]["capacity"]["memory"],
                "kubelet": node["status"]["nodeInfo"]["kubeletVersion"],
                "runtime": node["status"]["nodeInfo"]["containerRuntimeVersion"],
                "kernel": node["status"]["nodeInfo"]["kernelVersion"],
            }
            for node in nodes
        ],
        "images_mb": dict(sorted(sizes.items())),
    }


def _started(*command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=660, check=False)
    if check and done.returncode:
        raise SystemExit(f"{' '.join(command[:3])}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
