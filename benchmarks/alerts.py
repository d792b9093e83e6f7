"""Every alert fired by causing its fault: `python -m benchmarks.alerts` (about 20 minutes).

    python -m benchmarks.alerts learner_stopped verifier_lies     # these faults alone
    python -m benchmarks.alerts --list
    python -m benchmarks.alerts --table                           # the kept result, as Markdown

Real processes of the demo, a real Redis, a real Prometheus with the shipped rules. All durations of
the rules are divided by `--scale`, and it scrapes every second. For each fault: the alerts that it
must fire are silent before it, how long after it each of them fires, which others fire beside them,
and, where it can be undone, how long after that they are silent again. Faults of one run follow one
another in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.alert_faults import FAULTS, RUNS, Fault
from benchmarks.alert_scenes import Scene, open_scene
from deploy.monitoring.alerts import ALERTS
from deploy.monitoring.rules import scaled
from tests.monitoring.serving import prometheus

RESULT = Path("benchmarks/results/alerts.json")
SCALE = 60.0
_LOOK_EVERY_S = 0.2
_CALM_S = 100.0
"""Longest wait until a fault's alerts are silent: before it, and after it was undone."""
_TARGET = ("alertname", "run", "severity", "pillar")

Firing = Mapping[str, dict[str, str]]
"""Labels of what fires, by a name for people."""


async def firing(scene: Scene) -> Firing:
    """What fires now in this run."""
    found = await asyncio.to_thread(scene.asked.alerts)
    return {
        _name(alert["labels"]): alert["labels"]
        for alert in found
        if alert["state"] == "firing" and alert["labels"].get("run") == scene.config.run.id
    }


def _name(labels: Mapping[str, str]) -> str:
    about = ", ".join(v for k, v in sorted(labels.items()) if k not in _TARGET)
    return f"{labels['alertname']} ({about})" if about else labels["alertname"]


def among(wanted: Mapping[str, Mapping[str, str]], now: Firing) -> set[str]:
    """Which of the wanted alerts fire."""
    return {
        alert
        for alert, labels in wanted.items()
        for found in now.values()
        if found["alertname"] == alert and labels.items() <= found.items()
    }


def first_fired(scene: Scene, alerts: Iterable[str], since: float) -> dict[str, float]:
    """Seconds from a time to the first firing of alerts, as Prometheus has recorded them."""
    of_run = f'run="{scene.config.run.id}", alertstate="firing"'
    return {
        alert: round(
            min(
                series.points[0][0]
                for series in scene.asked.over(
                    f'ALERTS{{alertname="{alert}", {of_run}}}', since, time.time(), 0.5
                )
            )
            - since,
            1,
        )
        for alert in alerts
    }


async def silent(scene: Scene, fault: Fault) -> bool:
    """Whether the fault's alerts are silent, or become so."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CALM_S):
            while among(fault.fires, await firing(scene)):  # noqa: ASYNC110  it gives no event
                await asyncio.sleep(_LOOK_EVERY_S)
            return True
    return False


async def caused(scene: Scene, name: str) -> dict[str, Any]:
    """Cause a fault; what fired, and when."""
    fault = FAULTS[name]
    was_silent = fault.from_start or await silent(scene, fault)
    if not fault.from_start:
        await scene.steps(3)  # the fault before it is over
    before = set(await firing(scene))
    fired: dict[str, float] = {}
    beside: dict[str, float] = {}
    async with fault.strikes(scene) as struck_at:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(fault.within_s):
                while set(fired) != set(fault.fires) or time.time() < struck_at + fault.for_s:
                    now = await firing(scene)
                    after_s = round(time.time() - struck_at, 1)
                    for alert in among(fault.fires, now):
                        fired.setdefault(alert, after_s)
                    for other, labels in now.items():
                        if not among(fault.fires, {other: labels}) and other not in before:
                            beside.setdefault(other, after_s)
                    await asyncio.sleep(_LOOK_EVERY_S)
        undone_at = time.time()
        if fault.from_start:  # it may have fired before anybody looked
            fired = await asyncio.to_thread(first_fired, scene, fired, struck_at)
    silent_after = None
    if fault.can_be_undone and await silent(scene, fault):
        silent_after = round(time.time() - undone_at, 1)
    return {
        "run": fault.run,
        "says": fault.says,
        "fired_after_s": fired,
        "missing": sorted(set(fault.fires) - set(fired)),
        "beside_after_s": beside,
        "already_firing": sorted(before),
        "silent_before": was_silent,
        "can_be_undone": fault.can_be_undone,
        "silent_after_s": silent_after,
    }


async def disturbed(names: Iterable[str], scale: float, folder: Path) -> dict[str, Any]:
    """Every fault, in the runs that they belong to."""
    of_run: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        of_run[FAULTS[name].run].append(name)
    found: dict[str, Any] = {}
    with prometheus(folder / "prometheus", scale=scale) as asked:
        targets = folder / "prometheus/targets"
        for run, faults in of_run.items():
            _say(f"run {run}")
            async with open_scene(
                run, RUNS[run], folder / run, asked=asked, targets=targets
            ) as scene:
                of_the_run = [name for name in faults if FAULTS[name].from_start]
                both = await asyncio.gather(*(caused(scene, name) for name in of_the_run))
                for name, one in zip(of_the_run, both, strict=True):
                    _tell(found, name, one)
                for name in faults:
                    if name not in of_the_run:
                        _tell(found, name, await caused(scene, name))
    return found


def problems(found: Mapping[str, Any]) -> list[str]:
    """What is not as it should be, in words."""
    wrong = []
    for name, of in found.items():
        wrong += [f"{name}: {alert} did not fire" for alert in of["missing"]]
        if not of["silent_before"]:
            wrong.append(f"{name}: an alert fired before the fault")
        if of["can_be_undone"] and of["silent_after_s"] is None:
            wrong.append(f"{name}: an alert still fires after the fault")
    return wrong


def table(result: Mapping[str, Any]) -> list[str]:
    """The result as Markdown, a line for each alert."""
    lines = [
        "| alert | fault | fires after, s | of it `for:`, s | unscaled, min | silent after, s "
        "| beside it |",
        "|---|---|---|---|---|---|---|",
    ]
    scale, after = result["scale"], {alert.name: alert.after for alert in ALERTS}
    for alert in after:
        for of in result["faults"].values():
            if alert not in of["fired_after_s"]:
                continue
            seconds = of["fired_after_s"][alert]
            holds_s = float(scaled(after[alert], scale).removesuffix("ms") or 0) / 1000
            others = [x for x in of["fired_after_s"] if x != alert] + list(of["beside_after_s"])
            undone = of["silent_after_s"] if of["can_be_undone"] else "–"
            cells = [alert, of["says"], seconds, f"{holds_s:g}", f"{seconds * scale / 60:.0f}"]
            lines.append(f"| {' | '.join(map(str, [*cells, undone, ', '.join(others)]))} |")
    return lines


def _tell(found: dict[str, Any], name: str, one: dict[str, Any]) -> None:
    found[name] = one
    _say(f"  {name}: {json.dumps(one)}")


def _say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    """Cause, print, and keep the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.alerts", description=__doc__)
    parser.add_argument("faults", nargs="*", metavar="FAULT", help="all of them by default")
    parser.add_argument("--scale", type=float, default=SCALE, help="what durations are divided by")
    parser.add_argument(
        "--out",
        type=Path,
        help="where the result is kept; of single faults, beside those that are there",
    )
    parser.add_argument("--folder", type=Path, help="where the runs stay for inspection")
    parser.add_argument("--list", action="store_true", help="say what faults there are")
    parser.add_argument("--table", action="store_true", help="print the kept result as Markdown")
    arguments = parser.parse_args()
    if unknown := set(arguments.faults) - set(FAULTS):
        parser.error(f"no faults named {', '.join(sorted(unknown))}; see --list")
    if arguments.list:
        for name, fault in FAULTS.items():
            print(f"{name:24} {', '.join(fault.fires):50} {fault.says}")
        return
    if arguments.table:
        print("\n".join(table(json.loads(RESULT.read_text()))))
        return
    names = arguments.faults or list(FAULTS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that Prometheus ends, too
    with tempfile.TemporaryDirectory(prefix="rlsd-alerts-") as made:
        folder = arguments.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        found = asyncio.run(disturbed(names, arguments.scale, folder.resolve()))
    result = {
        "scale": arguments.scale,
        "scrape_s": 1,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "faults": found,
    }
    out = arguments.out or (None if arguments.faults else RESULT)
    if out:
        kept = json.loads(out.read_text())["faults"] if arguments.faults and out.exists() else {}
        result["faults"] = {name: (kept | found)[name] for name in FAULTS if name in kept | found}
        out.write_text(json.dumps(result, indent=2) + "\n")
    wrong = problems(found)
    for problem in wrong:
        _say(f"WRONG: {problem}")
    raise SystemExit(bool(wrong))


if __name__ == "__main__":
    main()
