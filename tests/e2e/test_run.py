import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rlsd.weights import FolderStore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def wait_for(condition, *, timeout_s: float = 120.0):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def children_of(process: subprocess.Popen, service: str) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-P", str(process.pid), "-f", f"services.{service}"],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(x) for x in found.stdout.split()]


def assert_account_is_whole(summary: dict, *, steps: int) -> None:
    outcomes = summary["outcomes"]
    resolved = outcomes["trained"] + sum(outcomes["rejected"].values())
    assert outcomes["admitted"] == resolved + sum(outcomes["failed"].values())
    assert (summary["identity_residual"], summary["trained_twice"]) == (0, 0)
    assert (summary["steps"], outcomes["in_flight"]) == (steps, 0)


def assert_audit_holds(run, *flags: str) -> dict:
    result = run.audit("--json", *flags)
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert found["off"] == []
    assert found["replay"]["is_equal"]
    return found


def test_a_run_trains_through_the_services_and_accounts_for_every_group(run):
    result = run("run.steps=3")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=3)
    assert run.summary["outcomes"]["admitted"] == 24
    assert FolderStore(run.folder / "weights", "r").verify(3).step == 3
    assert (run.folder / "report.html").stat().st_size > 10_000


def test_the_grpc_transport_runs_the_same_loop_without_redis(run):
    result = run("run.steps=2", "run.transport=grpc")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=2)


def test_groups_may_be_in_flight_ahead_of_the_learner(run):
    result = run("run.steps=4", "run.max_staleness=1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=4)
    assert_audit_holds(run)


def test_two_ranks_train_one_sharded_model(run):
    result = run("run.steps=2", "learner.ranks=2", "learner.microbatch_tokens=512")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=2)
    assert assert_audit_holds(run)["replay"]["ranks"] == 2


@pytest.mark.parametrize(
    ("number", "ranks"),
    [(signal.SIGINT, 2), pytest.param(signal.SIGTERM, 1, marks=pytest.mark.long)],
)
def test_a_stopped_run_is_continued_by_resume(run, number, ranks):
    ranks = f"learner.ranks={ranks}"
    process = run.start("run.steps=60", "learner.checkpoint_every=1000", ranks)
    wait_for(lambda: run.steps_logged() >= 3)
    process.send_signal(number)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    stopped_at = run.summary["steps"]
    assert run.summary["interrupted"]
    assert 3 <= stopped_at < 60
    assert "--resume" in output

    result = run(f"run.steps={stopped_at + 2}", ranks, flags=("--resume",))
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=stopped_at + 2)


def test_a_killed_run_goes_on_from_its_log_to_the_same_weights(run):
    process = run.start("run.steps=60", "learner.checkpoint_every=2")
    wait_for(lambda: run.steps_logged() >= 5)
    learner = children_of(process, "learner")
    process.kill()
    process.communicate()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in learner))
    logged = run.steps_logged()

    result = run(f"run.steps={logged}", flags=("--resume",))
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=logged)
    assert_audit_holds(run)
    assert_audit_holds(run, "--from-checkpoint")


@pytest.mark.parametrize(
    "service",
    ["rollout", *(pytest.param(x, marks=pytest.mark.long) for x in ("verifier", "teacher"))],
)
def test_a_killed_service_is_started_again_and_its_groups_are_finished(run, service):
    process = run.start("run.steps=12", "run.abandoned_after_s=2")
    wait_for(lambda: run.steps_logged() >= 3)
    for pid in children_of(process, service):
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert_account_is_whole(run.summary, steps=12)
