"""Child processes of local mode: each service is the same command that its image runs.

Nothing outlives `rlsd run`: children end with their parent, however it ends. A service that is
killed is started again, three times in ten minutes; one that exits with an error of its own is not,
since it would do so again.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rlsd.errors import ServiceError

_MAX_RESTARTS = 3
_WINDOW_S = 600.0


@dataclass(slots=True, kw_only=True)
class Child:
    """One service process with its log."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path
    process: asyncio.subprocess.Process | None = None
    restarts: list[float] = field(default_factory=list)
    """When, of late."""

    async def start(self) -> None:
        """Start, or start again; output is appended to the log."""
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.command,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches `rlsd run` alone, which stops in order
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return None if self.process is None else self.process.returncode

    async def ensure_running(self) -> bool:
        """Restart the process if a signal killed it; whether it was.

        Raises:
            ServiceError: it exited by itself, or was killed too often.
        """
        code = self.exit_code
        if code is None:
            return False
        now = time.monotonic()
        self.restarts = [at for at in self.restarts if at > now - _WINDOW_S]
        if code >= 0 or len(self.restarts) >= _MAX_RESTARTS:
            raise ServiceError(f"{self.last_words()} (exit code {code}; log: {self.log_path})")
        self.restarts.append(now)
        await self.start()
        return True

    async def stop(self, *, kill_after_s: float = 30.0) -> None:
        """SIGTERM, then SIGKILL when it does not drain in time."""
        if self.process is None or self.process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            await asyncio.wait_for(self.process.wait(), kill_after_s)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    def last_words(self) -> str:
        """The last line of its log that is not a JSON record: the error it ended with."""
        lines = self.log_path.read_text(errors="replace").splitlines()
        spoken = [x for x in lines if x.strip() and not x.startswith("{")]
        return spoken[-1] if spoken else f"{self.name} ended without a word"


def service_command(service: str, config: Path | None = None, *, ranks: int = 1) -> list[str]:
    """How a service is started; the learner under torchrun when it has several ranks."""
    launcher = [sys.executable, "-m"]
    if ranks > 1:
        launcher += [
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={ranks}",
            "-m",
        ]
    given = ["--config", str(config)] if config else []
    return [*launcher, f"services.{service}", *given]


def child_environment(threads: int, **addresses: str) -> dict[str, str]:
    """The environment of a child: addresses, one compute thread, its parent's death."""
    fixed = {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "RLSD_DIE_WITH_PARENT": "1",
    }
    return {**os.environ, **fixed, **addresses}


def free_ports(count: int) -> list[int]:
    """Ports of this machine that are free now, below the range that the kernel gives to clients.

    A client that connects to its own machine while nobody listens may be given that very port and
    hold it; a service that was killed could then not come back.
    """
    candidates = random.SystemRandom().sample(range(20_000, 32_000), 2000)
    return list(itertools.islice((port for port in candidates if _is_free(port)), count))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
