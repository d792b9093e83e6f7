"""The runs that `alerts.py` disturbs: real processes of the demo, watched by a real Prometheus.

A scene is one run, small enough that a step takes well under a second, and endless. Its
`prometheus_targets.json` is what Prometheus reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.monitoring.asking import Prometheus
from rlsd.config import RunConfig
from rlsd.local.addresses import RunAddresses
from rlsd.local.processes import Child, free_ports
from rlsd.weights import FolderStore
from tests.chaos.system import (
    Supervisor,
    System,
    chain_run,
    num_logged,
    supervised,
    system,
    until,
)
from tests.monitoring.moody_verifier import MoodyVerifier
from tests.monitoring.serving import write_targets

CHAIN = Path("examples/chain/train.jsonl")
SETTINGS = (
    "run.steps=1000000",
    "run.groups_per_step=4",
    "run.max_staleness=1",
    "run.abandoned_after_s=5",
    "run.stall_after_s=10",
    "rollout.group_size=8",
    "rollout.max_batch=32",
    "learner.lr=1e-5",
    "learner.checkpoint_every=20",
)
CANARIES = (
    {"response": "1 ; 2 # 2", "reference": "2", "expect": {"passed": True}},
    {"response": "1 ; 2 # 3", "reference": "2", "expect": {"passed": False}},
)
_FIRST_STEPS_S = 240.0
_WARM_STEPS = 15
"""Then everything has been scraped a few times."""


@dataclass(kw_only=True)
class Scene:
    """A run that goes on, and how to get at it."""

    config: RunConfig
    path: Path
    """Of its configuration."""
    asked: Prometheus
    targets: Path
    """Folder of the files that say what is scraped."""
    parts: System
    supervisor: Supervisor
    verifier: MoodyVerifier
    bugs: Path

    @property
    def store(self) -> FolderStore:
        """Its published weights."""
        return FolderStore(self.config.run_dir / "weights", self.config.run.id)

    def child(self, name: str) -> Child:
        """One process by its name, `rollout` for `rollout-0`."""
        children = self.supervisor.children
        return children[name if name in children else f"{name}-0"]

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process."""
        assert self.supervisor.signal(self.child(name).name, number), f"{name} does not run"

    async def steps(self, count: int, *, timeout_s: float = 120.0) -> None:
        """Return after so many further steps."""
        target = num_logged(self.config) + count
        await until(lambda: num_logged(self.config) >= target, timeout_s=timeout_s)

    @contextlib.asynccontextmanager
    async def without(self, name: str) -> AsyncIterator[None]:
        """A process is killed, and not there until the context ends."""
        child = self.child(name)
        command, child.command = child.command, ["sleep", "3600"]
        self.signal(name, signal.SIGKILL)
        try:
            yield
        finally:
            child.command = command
            self.signal(name, signal.SIGKILL)

    @contextlib.asynccontextmanager
    async def damaged_before_it_is_read(self, file: str) -> AsyncIterator[Path]:
        """The newest version's file, while rollout is frozen and has not read that version yet."""
        store, name = self.store, self.child("rollout").name

        def is_training() -> bool:
            return num_logged(self.config) > (store.latest() or 0)

        async with asyncio.timeout(60):
            while True:
                await until(is_training, timeout_s=60)
                version = num_logged(self.config)
                self.supervisor.signal(name, signal.SIGSTOP)
                if (store.latest() or 0) < version:
                    break
                self.supervisor.signal(name, signal.SIGCONT)  # too late
        try:
            await until(lambda: (store.latest() or 0) >= version, timeout_s=60)
            yield store.path(version) / file
        finally:
            self.supervisor.signal(name, signal.SIGCONT)

    @contextlib.asynccontextmanager
    async def second_rollout(self, weights: Path) -> AsyncIterator[None]:
        """Another replica, whose volume of weights is the folder `weights` and not the run's."""
        folder = weights.parents[1]
        values = json.loads(self.path.read_text())
        values["run"]["dir"] = str(folder)
        config = folder / "config.json"
        config.write_text(json.dumps(values))
        bind, metrics = (f"127.0.0.1:{port}" for port in free_ports(2))
        first = self.child("rollout")
        command = [str(config) if x == str(self.path) else x for x in first.command]
        command = [x for x in command if not x.startswith(("--bind", "--metrics"))]
        child = Child(
            name="second",
            command=[*command, f"--bind={bind}", f"--metrics={metrics}"],
            environment=first.environment,
            log_path=self.config.run_dir / "logs" / "second.log",
        )
        of_it = self.targets / f"{self.config.run.id}-second.json"
        await child.start()
        self.supervisor.children[child.name] = child
        write_targets(of_it, {"second": metrics}, run=self.config.run.id, service="rollout")
        try:
            yield
        finally:
            of_it.unlink()
            self.supervisor.signal(child.name, signal.SIGKILL)
            del self.supervisor.children[child.name]
            assert child.process is not None
            await child.process.wait()


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a scene is made of."""

    settings: tuple[str, ...] = ()
    records: Callable[[int, dict[str, Any]], dict[str, Any]] | None = None
    """Makes another of each record of the chain."""
    begins: bool = True
    """Whether there are first steps to wait for."""
    is_broken: bool = False
    """The learner is the one with bugs."""
    is_quantized: bool = False
    """Rollout takes its weights from a copy that is rounded to few bits."""


@contextlib.asynccontextmanager
async def open_scene(
    name: str, run: Run, folder: Path, *, asked: Prometheus, targets: Path
) -> AsyncIterator[Scene]:
    """Start a run; it has made its first steps, if there are to be any, when the context begins."""
    (port,) = free_ports(1)
    config, path = _prepared(name, run, folder, verifier_port=port)
    bugs = folder / "bugs"
    parts = system(
        config,
        path,
        instances={"rollout": 1, "verifier": 1, "teacher": 1},
        environment=lambda _: {"RLSD_TEST_BUGS": str(bugs)},
    )
    by_name = {child.name: child for child in parts.children}
    if run.is_broken:
        learner = by_name["learner"]
        learner.command = [
            "tests.monitoring.broken_learner" if x == "services.learner" else x
            for x in learner.command
        ]
    RunAddresses(
        run_id=name,
        services={},
        probes={k.partition("-")[0]: f"127.0.0.1:{v}" for k, v in parts.metrics.items()},
        redis_url=parts.redis_url,
    ).write(config.run_dir)
    link = targets / f"{name}.json"
    link.symlink_to(config.run_dir / "prometheus_targets.json")
    try:
        async with contextlib.AsyncExitStack() as stack:
            verifier = await stack.enter_async_context(MoodyVerifier().serving(port))
            if run.is_quantized:
                copy = _copy_of(folder, name)
                await stack.enter_async_context(_quantized(config, copy))
                by_name["rollout-0"].command = _reading(copy, by_name["rollout-0"].command, path)
            supervisor = await stack.enter_async_context(supervised(parts.children))
            scene = Scene(
                config=config,
                path=path,
                asked=asked,
                targets=targets,
                parts=parts,
                supervisor=supervisor,
                verifier=verifier,
                bugs=bugs,
            )
            if run.begins:
                await until(lambda: num_logged(config) >= 2, timeout_s=_FIRST_STEPS_S)
                await scene.steps(_WARM_STEPS)
            yield scene
    finally:
        link.unlink()


def _prepared(name: str, run: Run, folder: Path, *, verifier_port: int) -> tuple[RunConfig, Path]:
    """The run's configuration, with the files that it names."""
    (folder / "bugs").mkdir(parents=True)
    known = {"PORT": str(verifier_port), "FOLDER": str(folder)}
    settings = list(run.settings)
    for word, value in known.items():
        settings = [x.replace(word, value) for x in settings]
    if run.records is not None:
        lines = CHAIN.read_text().splitlines()
        records = [run.records(n, json.loads(line)) for n, line in enumerate(lines)]
        _write_lines(folder / "train.jsonl", records)
        settings.append(f'data.train="{folder / "train.jsonl"}"')
    _write_lines(folder / "canary.jsonl", CANARIES)
    if run.is_quantized:
        _copy_of(folder, name).mkdir(parents=True)
    return chain_run(folder / "runs", f'run.id="{name}"', *SETTINGS, *settings)


def _write_lines(file: Path, lines: Iterable[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _copy_of(folder: Path, name: str) -> Path:
    """Where the rounded weights of a run are."""
    return folder / "copy" / name / "weights"


def _reading(weights: Path, command: Any, path: Path) -> list[str]:
    """The command of a rollout that takes its weights from there, whatever the probe says."""
    values = json.loads(path.read_text())
    values["run"]["dir"] = str(weights.parents[1])
    values["rollout"]["probe_tolerance"] = 100.0
    config = weights.parents[1] / "config.json"
    config.write_text(json.dumps(values))
    return [str(config) if x == str(path) else x for x in command]


@contextlib.asynccontextmanager
async def _quantized(config: RunConfig, copy: Path) -> AsyncIterator[None]:
    """Every version is there too, as soon as it is published, rounded to few bits."""
    original = FolderStore(config.run_dir / "weights", config.run.id)
    rounded = FolderStore(copy, config.run.id)

    async def follow() -> None:
        while True:
            newest = original.latest()
            if newest is not None and newest != rounded.latest():
                with contextlib.suppress(FileNotFoundError):  # it is deleted already
                    await asyncio.to_thread(_round_off, original, rounded, newest)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(follow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def _round_off(original: FolderStore, rounded: FolderStore, version: int, levels: int = 4) -> None:
    """Copy a version with its matrices as `levels` steps of their largest entry, both ways."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    manifest = original.verify(version)

    def save(folder: Path) -> None:
        for file in original.path(version).iterdir():
            if file.name not in ("MANIFEST.json", "model.safetensors"):
                shutil.copy(file, folder)
        tensors = load_file(original.path(version) / "model.safetensors")
        for name, tensor in tensors.items():
            if tensor.ndim == 2:
                step = np.abs(tensor).max() / levels
                tensors[name] = (np.round(tensor / step) * step).astype(tensor.dtype)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    rounded.publish(version, step=manifest.step, probe=manifest.probe, save=save)
