"""The demo beside a real Prometheus: every panel has data, and no alert fires."""

import subprocess
import sys
import time

import pytest

from deploy.monitoring.asking import filled, panels
from deploy.monitoring.boards import BOARDS
from rlsd.local.processes import free_ports
from tests.monitoring.serving import prometheus, write_targets

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(900)]

STEPS = 60
OTHERS = {"rollout-0": "vllm", "rollout-1": "vllm", "teacher-0": "sglang"}
SPOKEN_FOR = {
    "verifiers": {
        *("Tries by result", "Time of a try", "Retries and clamped scores", "Checks under way"),
        *("Circuit", "Canary", "Isolation", "Runs by result", "Time of a run", "Places"),
    },
    "learning": {"Calls of tools"},
    "credit": {"Tokens on an engine"},
    "engines": {panel["title"] for panel in panels(BOARDS["engines"])},
}
"""Panels whose data is the exporter's of this folder, not the demo's."""


def data(asked, panel, target, *, start, end, **variables):
    """Numbers that one query of a panel returns, over the time of the run."""
    expr = filled(target["expr"], window="30s", span_s=end - start, **variables)
    series = asked.over(expr, start, end, 2)
    return [v for s in series for _, v in s.points if v == v]  # NaN is no data


@pytest.fixture(scope="module")
def observed(tmp_path_factory):
    """Prometheus after the demo: whom to ask, and when the run was."""
    folder = tmp_path_factory.mktemp("monitoring")
    ports = dict(zip(OTHERS, free_ports(len(OTHERS)), strict=True))
    exporters = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.monitoring.exporter", str(ports[pod]), engine, pod]
        )
        for pod, engine in OTHERS.items()
    ]
    sets = [f'run.dir="{folder}"', 'run.id="demo"', f"run.steps={STEPS}", "evaluation.every=20"]
    sets += ["learner.checkpoint_every=20", "evaluation.limit=64"]
    command = [sys.executable, "-m", "rlsd", "run", "examples/chain/rlsd.toml"]
    command += [x for one in sets for x in ("--set", one)]
    try:
        with prometheus(folder / "prometheus", scrape="2s") as asked:
            targets = folder / "prometheus/targets"
            others = {pod: f"127.0.0.1:{port}" for pod, port in ports.items()}
            write_targets(targets / "others.json", others, run="other")
            (targets / "demo.json").symlink_to(folder / "demo/prometheus_targets.json")
            start = time.time()
            with (folder / "log").open("wb") as log:
                run = subprocess.Popen(command, stdout=log, stderr=log)
            fired = _follow(run, asked)
            assert run.returncode == 0, (folder / "log").read_text()
            yield asked, start, time.time(), fired
    finally:
        for exporter in exporters:
            exporter.kill()
            exporter.wait()


def _follow(run, asked):
    """The alerts that fire until the run ends."""
    fired = set()
    while run.poll() is None:
        fired |= {x["labels"]["alertname"] for x in asked.alerts() if x["state"] == "firing"}
        time.sleep(1)
    return fired


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_of_every_panel_returns_data(observed, name):
    asked, start, end, _ = observed
    empty = []
    for panel in panels(BOARDS[name]):
        run = "other" if panel["title"] in SPOKEN_FOR.get(name, ()) else "demo"
        for target in panel["targets"]:
            if not data(asked, panel, target, start=start, end=end, run=run):
                empty.append(f"{panel['title']}: {target['expr']}")
    assert empty == []


def test_no_alert_fires_on_a_healthy_run(observed):
    assert observed[3] == set()


def test_prometheus_could_evaluate_every_rule(observed):
    assert [r["lastError"] for r in observed[0].rules() if r["health"] != "ok"] == []


def test_variables_offer_what_there_is(observed):
    asked, start, end, _ = observed
    for name, metric in {
        "run": "rlsd_service_ready",
        "kind": "rlsd_verifier_verdicts_total",
        "verifier": "rlsd_verifier_http_circuit_state",
        "pod": "rlsd_service_ready",
    }.items():
        boards = [b for b in BOARDS.values() if metric in str(b["templating"])]
        assert boards, metric
        found = {series.labels.get(name) for series in asked.over(metric, start, end, 2)}
        assert found - {None}, name
