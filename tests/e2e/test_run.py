import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from rlsd.batch_log import BatchLog
from rlsd.config import load
from rlsd.weights import WeightStore

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


def test_a_run_trains_through_the_services_and_accounts_for_every_group(run):
    result = run("run.steps=3")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=3)
    assert run.summary["outcomes"]["admitted"] == 24
    assert WeightStore(run.folder / "weights", "r").verify(3).step == 3
    assert (run.folder / "report.html").stat().st_size > 10_000


def test_the_grpc_transport_runs_the_same_loop_without_redis(run):
    result = run("run.steps=2", "run.transport=grpc")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=2)


def test_groups_may_be_in_flight_ahead_of_the_learner(run):
    result = run("run.steps=4", "run.max_staleness=1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=4)


def test_two_ranks_train_one_sharded_model(run):
    result = run("run.steps=2", "learner.ranks=2", "learner.microbatch_tokens=512")
    assert result.returncode == 0, result.stdout + result.stderr
    assert_account_is_whole(run.summary, steps=2)


@pytest.mark.parametrize(("number", "ranks"), [(signal.SIGTERM, 2), (signal.SIGINT, 1)])
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


def test_a_killed_run_goes_on_from_its_log_to_the_same_weights(run, tmp_path):
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
    assert replay(run.folder, logged) == weights_sha256(run.folder, logged)


def replay(folder: Path, steps: int) -> str:
    """Train the batch log offline from the base model; the checksum of the weights it ends with."""
    from rlsd.objectives.methods import method_named
    from rlsd.policy.loading import load_tokenizer, save_model
    from services.learner.ranks import Command, Rank

    config = load(folder / "config.json", [f'run.dir="{folder.parent / "replay"}"'])
    (config.run_dir).mkdir(parents=True)
    os.symlink(folder / "batches", config.run_dir / "batches")
    method = method_named(config.method.name, **config.method.overrides())
    pad_id = load_tokenizer(config.model.path).pad_token_id
    rank = Rank(config, method, pad_id=pad_id, probe_ids=[1, 2, 3])
    for step in BatchLog(folder / "batches").steps()[:steps]:
        rank.lead(Command.TRAIN, step)
    target = config.run_dir / "weights" / "replayed"
    save_model(rank.policy.model, rank.policy.full_state(), target)
    from rlsd.weights import _sha256

    return _sha256(target / "model.safetensors")


def weights_sha256(folder: Path, version: int) -> str:
    return WeightStore(folder / "weights", folder.name).verify(version).sha256["model.safetensors"]


@pytest.mark.parametrize("service", ["rollout", "verifier", "teacher"])
def test_a_killed_service_is_started_again_and_its_groups_are_finished(run, service):
    process = run.start("run.steps=12", "run.abandoned_after_s=2")
    wait_for(lambda: run.steps_logged() >= 3)
    for pid in children_of(process, service):
        os.kill(pid, signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    assert_account_is_whole(run.summary, steps=12)
