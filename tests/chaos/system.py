"""The processes of a run as the killer needs them: apart, on fixed ports, started again at once.

`rlsd run` starts the same commands but gives up on a service that dies too often; here dying is
the point, so nothing is ever given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlsd.config import RunConfig, load
from rlsd.local.processes import Child, child_environment, free_ports, service_command
from rlsd.streams.embedded import _dying_with_parent, find_server

_BASE = Path("examples/chain/rlsd.toml")
_PAUSE_AFTER_ERROR_S = 0.3
"""Before a process that ended by itself is started again; a killed one starts at once."""


@dataclass(frozen=True, slots=True)
class Exit:
    """One end of a process that nobody asked for."""

    name: str
    code: int
    words: str = ""
    """Its error, when it ended by itself."""


@dataclass(slots=True)
class Supervisor:
    """Keeps children running until the one that may finish does."""

    children: dict[str, Child]
    is_finished: Callable[[str, int], bool]
    """Whether this exit of this child is the end of the run."""
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    exits: list[Exit] = field(default_factory=list)
    stopping: bool = False
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def keep(self, child: Child) -> None:
        """Start a child again whenever it has ended."""
        while True:
            assert child.process is not None
            code = await child.process.wait()
            if self.stopping:
                return
            if self.is_finished(child.name, code):
                self.finished.set()
                return
            words = child.last_words() if code > 0 else ""
            self.exits.append(Exit(child.name, code, words))
            if code > 0:
                await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
            await child.start()
            async with self._changed:
                self._changed.notify_all()

    async def restarted(self, name: str, old_pid: int) -> None:
        """Return once the child is another process than `old_pid`."""
        async with self._changed:
            await self._changed.wait_for(lambda: self.pid(name) != old_pid)

    def pid(self, name: str) -> int:
        """Of the present process of a child."""
        process = self.children[name].process
        assert process is not None
        return process.pid

    def signal(self, name: str, number: int) -> bool:
        """Send a signal; whether there was a process to take it."""
        process = self.children[name].process
        if process is None or process.returncode is not None:
            return False
        process.send_signal(number)
        return True

    def errors(self) -> Counter[str]:
        """How often which child ended by itself, with its words."""
        return Counter(f"{e.name}: {e.words}" for e in self.exits if e.code > 0)

    def kill_all(self) -> None:
        """End everything, whatever state it is in."""
        self.stopping = True
        for name in self.children:
            self.signal(name, signal.SIGKILL)


@contextlib.asynccontextmanager
async def supervised(
    children: Sequence[Child], *, is_finished: Callable[[str, int], bool] = lambda _, __: False
) -> AsyncIterator[Supervisor]:
    """Start children in order and keep them running; none outlives the context."""
    supervisor = Supervisor({c.name: c for c in children}, is_finished)
    async with asyncio.TaskGroup() as tasks:
        try:
            for child in children:
                await child.start()
                tasks.create_task(supervisor.keep(child))
            yield supervisor
        finally:
            supervisor.kill_all()
            for child in supervisor.children.values():
                if child.process is not None:
                    await child.process.wait()


def redis_child(
    port: int, folder: Path, *, keeps_data: bool = False, bind: Sequence[str] = ("127.0.0.1",)
) -> Child:
    """A Redis server; without `keeps_data` it comes back empty."""
    kept = ["--appendonly", "yes", "--appendfsync", "always"] if keeps_data else []
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *_dying_with_parent(),
        *(str(find_server()), "--bind", *bind, "--port", str(port), "--protected-mode", "no"),
        *("--save", "", *(kept or ["--appendonly", "no"]), "--dir", str(folder)),
    ]
    return Child(
        name="redis", command=command, environment=os.environ, log_path=folder / "redis.log"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """A run's processes and where they answer."""

    children: tuple[Child, ...]
    metrics: dict[str, int]
    """Ports of `/metrics` by child."""
    redis_port: int
    redis_url: str


def chain_run(folder: Path, *overrides: str) -> tuple[RunConfig, Path]:
    """A run of the chain example without held-out prompts, in a new folder."""
    config = load(_BASE, [f'run.dir="{folder}"', 'run.id="chaos"', *overrides])
    values = config.model_dump(mode="json")
    values["data"]["held_out"] = None
    config.run_dir.mkdir(parents=True)
    path = config.run_dir / "config.json"
    path.write_text(json.dumps(values))
    return load(path), path


def has_ended(config: RunConfig) -> Callable[[str, int], bool]:
    """Whether an exit is that of a learner that has done all its steps."""
    summary = config.run_dir / "summary.json"

    def is_finished(name: str, code: int) -> bool:
        ended = name.startswith("learner") and code == 0 and summary.exists()
        return ended and not json.loads(summary.read_text())["interrupted"]

    return is_finished


def num_logged(config: RunConfig) -> int:
    """Steps in the batch log."""
    return len(list((config.run_dir / "batches").glob("[0-9]*.batch")))


async def until(condition: Callable[[], bool], *, timeout_s: float) -> None:
    """Return once something holds that another process brings about."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  files and processes give no event
            await asyncio.sleep(0.05)


def system(
    config: RunConfig,
    config_path: Path,
    *,
    instances: dict[str, int],
    environment: Callable[[str], dict[str, str]] = lambda _: {},
) -> System:
    """The real system: Redis, `instances` of each stage, the learner.

    Args:
        environment: more variables, by the child's name.
    """
    names = [f"{s}-{n}" for s, count in instances.items() for n in range(count)] + ["learner"]
    redis_port, *ports = free_ports(1 + 2 * len(names))
    bound = dict(zip(names, ports[: len(names)], strict=True))
    metrics = dict(zip(names, ports[len(names) :], strict=True))
    url = f"redis://127.0.0.1:{redis_port}/0"
    addresses = {"RLSD_REDIS_URL": url} | {
        f"RLSD_{s.upper()}_ADDRESS": f"127.0.0.1:{bound[f'{s}-0']}"
        for s in instances
        if instances[s]
    }

    def ranks(name: str) -> int:
        return config.learner.ranks if name == "learner" else 1

    children = [
        Child(
            name=name,
            command=[
                *service_command(name.partition("-")[0], config_path, ranks=ranks(name)),
                f"--bind=127.0.0.1:{bound[name]}",
                f"--metrics=127.0.0.1:{metrics[name]}",
            ],
            environment=child_environment(config.run.threads, **addresses, **environment(name)),
            log_path=config.run_dir / "logs" / f"{name}.log",
        )
        for name in names
    ]
    redis = redis_child(redis_port, config.run_dir / "redis")
    return System(
        children=(redis, *children), metrics=metrics, redis_port=redis_port, redis_url=url
    )


def leftover_processes(redis_url: str) -> list[str]:
    """Processes that were given this run's Redis and are still there."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if redis_url.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [x for x in found if x and sys.executable in x]
