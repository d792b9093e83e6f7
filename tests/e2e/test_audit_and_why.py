"""What an operator asks of a run: is it sound, and what does it wait for."""

import json
import os
import signal

import pytest
from test_run import assert_audit_holds, children_of, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_an_audit_names_weights_that_do_not_follow_from_the_log(run):
    result = run("run.steps=3", "learner.checkpoint_every=2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert assert_audit_holds(run)["replay"]["steps"] == 3
    assert assert_audit_holds(run, "--from-checkpoint")["replay"]["from_step"] == 2

    config = json.loads((run.folder / "config.json").read_text())
    config["learner"]["lr"] *= 2
    (run.folder / "config.json").write_text(json.dumps(config))
    assert run.audit("--no-replay").returncode == 0
    result = run.audit()
    assert result.returncode == 1
    assert "run r: off: weights" in result.stdout


def test_why_tells_of_a_service_that_hangs_and_of_one_that_is_well(run):
    process = run.start("run.steps=200")
    wait_for(lambda: run.steps_logged() >= 1)
    well = run.rlsd("status", str(run.folder), "--json")
    view = json.loads(well.stdout)
    assert (well.returncode, view["problems"]) == (0, [])
    assert (view["run_id"], view["num_steps"], len(view["services"])) == ("r", 200, 4)
    assert view["step"] >= 1
    assert view["account"]["residual"] == 0
    assert view["eta_s"] > 0
    assert len(view["rewards"]) >= 1

    [rollout] = children_of(process, "rollout")
    os.kill(rollout, signal.SIGSTOP)
    try:
        result = run.why()
        status = run.rlsd("status", str(run.folder))
    finally:
        os.kill(rollout, signal.SIGCONT)
    lines = {line.split()[0]: line for line in result.stdout.splitlines() if line[0] != " "}
    assert set(lines) == {"learner", "rollout", "verifier", "teacher", "redis"}
    assert result.returncode == 1
    assert "no answer from 127.0.0.1:" in lines["rollout"]
    assert "waiting" in lines["verifier"]
    assert "of 200)" in lines["learner"]
    assert "reachable" in lines["redis"]
    assert status.returncode == 1
    assert "! rollout: no answer from 127.0.0.1:" in " ".join(status.stdout.split())

    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=90)
    assert process.returncode == 0, output
    assert run.why().stdout.startswith("run r was interrupted at step")
    ended = run.rlsd("status", str(run.folder))
    assert (ended.returncode, ended.stdout.splitlines()[0][:25]) == (0, "run r was interrupted at ")
