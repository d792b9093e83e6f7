"""A namespace of the cluster that RLSD_TEST_KUBECONFIG names, for one test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.chart.rendering import CHART, helm, values_of

RELEASE = "run"
SMALL = "control-plane-1.20"


def kubectl(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run kubectl against that cluster."""
    program = shutil.which("kubectl")
    assert program, "no kubectl on PATH"
    kubeconfig = f"--kubeconfig={os.environ['RLSD_TEST_KUBECONFIG']}"
    return subprocess.run(
        [program, kubeconfig, *arguments],
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until(is_so: Callable[[], Any], *, timeout_s: float = 30) -> Any:
    """What `is_so` returns once that is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.3)
    return found


@dataclass(frozen=True)
class Space:
    """One release in a namespace."""

    name: str

    def helm(
        self, *arguments: str, sets: Sequence[str] = (), limit_s: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run Helm there."""
        kubeconfig = f"--kubeconfig={os.environ['RLSD_TEST_KUBECONFIG']}"
        further = [x for one in sets for x in ("--set", one)]
        return helm(*arguments, "--namespace", self.name, kubeconfig, *further, limit_s=limit_s)

    def put(self, verb: str, *sets: str, timeout_s: int = 40) -> subprocess.CompletedProcess[str]:
        """Install or upgrade, and wait."""
        what = [verb, RELEASE, str(CHART), "--values", values_of(SMALL)]
        return self.helm(*what, "--wait", f"--timeout={timeout_s}s", sets=sets)

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind."""
        done = kubectl("get", kind, "-n", self.name, "-l", selector, "-o=json")
        assert done.returncode == 0, done.stderr
        return list(json.loads(done.stdout)["items"])

    def names(self, kind: str, selector: str = "") -> set[str]:
        """Their names."""
        return {item["metadata"]["name"] for item in self.list(kind, selector)}
