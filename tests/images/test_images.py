"""The images as compose and chart run them: non-root, read-only, without capabilities.

Needs podman and the images rlsd-{rollout,verifier,teacher,learner} and redis that
RLSD_TEST_IMAGES prefixes (`localhost/`): make test-images.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from rlsd.errors import STOPPED_EXIT_CODE

PREFIX = os.environ.get("RLSD_TEST_IMAGES", "")
ROOT = Path(__file__).resolve().parents[2]
SERVICES = {"rollout": 50051, "verifier": 50052, "teacher": 50053, "learner": 50054}

pytestmark = [
    pytest.mark.images,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PREFIX or not shutil.which("podman"), reason="no images to run"),
]


def podman(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["podman", *arguments], capture_output=True, text=True, timeout=120, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


HARDENED = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp:mode=1777",
    "--ulimit=nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
)


class System:
    """The containers of one run, on a network of their own."""

    def __init__(self) -> None:
        self.id = f"rlsd-{uuid.uuid4().hex[:8]}"
        podman("network", "create", self.id)
        podman("volume", "create", self.id)
        self.started: list[str] = []

    def start(self, name: str, image: str, *command: str, mounted: tuple[str, ...] = ()) -> None:
        container = f"{self.id}-{name}"
        self.started.append(container)
        addresses = [f"--env=RLSD_{s.upper()}_ADDRESS={s}:{port}" for s, port in SERVICES.items()]
        podman(
            "run",
            "--detach",
            f"--name={container}",
            f"--network={self.id}",
            f"--network-alias={name}",
            *mounted,
            "--env=RLSD_REDIS_URL=redis://redis:6379/0",
            *addresses,
            *HARDENED,
            f"{PREFIX}{image}",
            *command,
        )

    def start_service(self, service: str, *settings: str) -> None:
        self.start(
            service,
            f"rlsd-{service}",
            "--config=/srv/examples/chain/rlsd.toml",
            *(f"--set={setting}" for setting in ("run.id=demo", *settings)),
            f"--bind=0.0.0.0:{SERVICES[service]}",
            "--metrics=0.0.0.0:9464",
            mounted=(
                f"--volume={self.id}:/srv/runs",
                f"--volume={ROOT}/examples:/srv/examples:ro",
            ),
        )

    def is_up(self, service: str) -> bool:
        state = podman(
            "inspect", "--format={{.State.Running}}", f"{self.id}-{service}", check=False
        )
        return state.stdout.strip() == "true"

    def inside(self, service: str, *command: str) -> str:
        return podman("exec", f"{self.id}-{service}", *command, check=False).stdout

    def logs(self, service: str) -> str:
        done = podman("logs", f"{self.id}-{service}", check=False)
        return done.stdout + done.stderr

    def stop(self, service: str) -> tuple[int, float]:
        """Exit code after SIGTERM, and the seconds it took."""
        container = f"{self.id}-{service}"
        started = time.monotonic()
        podman("stop", "--time=60", container)
        code = podman("inspect", "--format={{.State.ExitCode}}", container).stdout
        return int(code), time.monotonic() - started

    def close(self) -> None:
        for container in reversed(self.started):
            podman("rm", "--force", "--time=0", container, check=False)
        podman("volume", "rm", "--force", self.id, check=False)
        podman("network", "rm", "--force", self.id, check=False)


@pytest.fixture
def system() -> Iterator[System]:
    made = System()
    try:
        yield made
    finally:
        made.close()


def latest_version(system: System) -> int:
    """The last weight version on the volume; -1 before the first. Older ones are deleted."""
    names = system.inside("learner", "ls", "/srv/runs/demo/weights").split()
    return max((int(name[1:]) for name in names if re.fullmatch(r"v\d+", name)), default=-1)


def wait_for_weights(system: System, version: int, *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while latest_version(system) < version:
        is_possible = system.is_up("learner") and time.monotonic() < deadline
        assert is_possible, "\n".join(system.logs(service)[-1500:] for service in SERVICES)
        time.sleep(0.5)


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_runs_as_nobody_and_names_its_arguments(service):
    hardened = [*HARDENED, "--rm"]
    image = f"{PREFIX}rlsd-{service}"
    assert podman("run", *hardened, "--entrypoint=id", image, "-u").stdout.strip() == "10001"
    assert f"rlsd serve {service}" in podman("run", *hardened, image, "--help").stdout
    written = podman("run", *hardened, "--entrypoint=touch", image, "/srv/x", check=False)
    assert "Read-only file system" in written.stderr


def test_the_verifiers_image_has_no_tensor_library_and_a_sandbox():
    hardened, image = [*HARDENED, "--rm"], f"{PREFIX}rlsd-verifier"
    found = json.loads(podman("run", *hardened, image, "--self-test").stdout)
    assert found["tier"] in ("T1", "T2")
    imports = podman(
        "run", *hardened, "--entrypoint=python", image, "-c", "import torch", check=False
    )
    assert "No module named 'torch'" in imports.stderr


def test_four_containers_train_the_demo_and_end_on_sigterm(system):
    system.start("redis", "redis:7", "redis-server", "--save", "", "--protected-mode", "no")
    for service in SERVICES:
        system.start_service(service)
    wait_for_weights(system, 3, timeout_s=200)
    ended = {service: system.stop(service) for service in SERVICES}
    stopped = dict.fromkeys(SERVICES, 0) | {"learner": STOPPED_EXIT_CODE}
    assert {service: code for service, (code, _) in ended.items()} == stopped
    assert max(seconds for _, seconds in ended.values()) < 30
    summary = podman(
        "run", "--rm", *HARDENED, f"--volume={system.id}:/srv/runs", "--entrypoint=cat",
        f"{PREFIX}rlsd-learner", "/srv/runs/demo/summary.json",
    ).stdout  # fmt: skip
    outcomes = json.loads(summary)
    assert (outcomes["identity_residual"], outcomes["trained_twice"]) == (0, 0)
    assert outcomes["steps"] >= 3
