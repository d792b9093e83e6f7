"""Runs whose policy calls a tool, through the real services."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from bigram_policy import write_policy

from examples.lookup import task
from rlsd.batch_log import BatchLog
from rlsd.policy.loading import load_tokenizer
from rlsd.trajectory import CallOutcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture
def run(run, tmp_path):
    """The example, with a policy that calls often and was never trained."""
    text = Path("examples/lookup/rlsd.toml").read_text()
    config = tmp_path / "rlsd.toml"
    config.write_text(text.replace("examples/lookup/base", str(write_policy(tmp_path / "base"))))
    run.config = str(config)
    return run


@pytest.fixture
def tool():
    """The example's tool service on a port of its own."""
    port = free_port()
    command = [sys.executable, "-m", "examples.lookup.server", f"--port={port}"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=1).close()
            break
        except OSError:
            assert time.monotonic() < deadline, "the tool did not start"
            time.sleep(0.1)
    yield f"tools.use.lookup.url=http://127.0.0.1:{port}"
    process.terminate()
    process.wait(10)


def trajectories(run) -> list:
    log = BatchLog(run.folder / "batches", run.folder.name)
    return [t for step in log.steps() for g in log.read(step).groups for t in g.trajectories]


@pytest.mark.parametrize("transport", ["redis", pytest.param("grpc", marks=pytest.mark.long)])
def test_a_run_with_a_tool_trains_and_replays_to_the_bit(run, tool, transport, tmp_path):
    result = run("run.steps=2", f"run.transport={transport}", tool)
    assert result.returncode == 0, result.stdout + result.stderr
    made = trajectories(run)
    calling = [t for t in made if t.num_turns > 1]
    assert len(made) == 2 * 8 * 8
    assert 10 < len(calling) < len(made)
    tokenizer = load_tokenizer(str(tmp_path / "base"))
    answered = 0
    for trajectory in calling:
        assert not trajectory.rollout_logprobs[~trajectory.sampled].any()
        assert trajectory.scores is None or np.isfinite(trajectory.scores.teacher_logprobs).all()
        turn = trajectory.tool_turns[0]
        if [c.outcome for c in turn.calls] != [CallOutcome.ANSWERED]:
            continue  # the policy wrote no call that can be read
        answered += 1
        key = int(json.loads(turn.calls[0].arguments)["key"].replace(" ", ""))
        between = tokenizer.decode(trajectory.token_ids[turn.start : turn.end])
        said = f"tool {task.value_of(key)} <|im_end|>"
        assert between == f"<|im_start|> {said} <|im_start|> assistant"
    assert answered > 10
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["tool_calls_mean"] > 0 for line in lines)
    audit = run.audit("--json")
    assert audit.returncode == 0, audit.stdout + audit.stderr
    assert json.loads(audit.stdout)["replay"]["is_equal"]


def test_a_tool_that_is_not_there_fails_groups_and_rewards_nobody(run):
    """Nobody listens: the run ends saying so, and no trajectory has been made up."""
    config = Path(run.config)
    lines = config.read_text().splitlines()
    config.write_text("\n".join(x for x in lines if not x.startswith("held_out")))
    result = run(
        "run.steps=1",
        f"tools.use.lookup.url=http://127.0.0.1:{free_port()}",
        "tools.use.lookup.total_timeout_s=0.3",
    )
    said = " ".join((result.stdout + result.stderr).split())
    assert result.returncode == 1
    assert "ToolError: tool 'lookup': no answer within 0.3 s" in said
    assert trajectories(run) == []
