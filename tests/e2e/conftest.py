"""Whole runs as a user starts them: `rlsd run`, real processes, real Redis, real gRPC."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CONFIG = "examples/chain/rlsd.toml"
SMALL = [
    "run.groups_per_step=8",
    "evaluation.limit=8",
    "evaluation.samples=0",
    "evaluation.every=100",
]


@dataclass
class Run:
    """One `rlsd run` and what it leaves."""

    folder: Path
    config: str = CONFIG

    def command(self, *overrides: str, flags: tuple[str, ...] = ()) -> list[str]:
        fixed = [f'run.dir="{self.folder.parent}"', f'run.id="{self.folder.name}"', *SMALL]
        sets = [x for o in (*fixed, *overrides) for x in ("--set", o)]
        return [sys.executable, "-m", "rlsd", "run", self.config, *sets, *flags]

    def __call__(self, *overrides: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
        command = self.command(*overrides, flags=flags)
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def start(self, *overrides: str) -> subprocess.Popen:
        return subprocess.Popen(
            self.command(*overrides), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def rlsd(self, *arguments: str) -> subprocess.CompletedProcess:
        """Another command about this run."""
        command = [sys.executable, "-m", "rlsd", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)

    def audit(self, *flags: str) -> subprocess.CompletedProcess:
        return self.rlsd("audit", str(self.folder), *flags)

    def why(self) -> subprocess.CompletedProcess:
        return self.rlsd("why", str(self.folder))

    @property
    def summary(self) -> dict:
        return json.loads((self.folder / "summary.json").read_text())

    def steps_logged(self) -> int:
        return len(list((self.folder / "batches").glob("*.batch")))


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(tmp_path / "r")
