"""Nothing lost, nothing trained twice, whatever dies; and a control that fails."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from tests.chaos.control import control

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

KILLS = 21
SERVICES = {"rollout", "verifier", "teacher", "learner", "redis"}
LEAST_STEPS = 15
"""Steps between the first and the last kill: a run that stands still proves nothing."""


@pytest.fixture(scope="module")
def result(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("chaos")
    command = [sys.executable, "-m", "tests.chaos.run", f"--kills={KILLS}", f"--folder={folder}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=560, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def test_every_service_was_killed_while_the_run_went_on(result):
    assert result["kills"] >= KILLS
    assert set(result["kills_by_service"]) == SERVICES
    assert result["steps_in_fault_phase"] >= LEAST_STEPS


def test_nothing_is_lost_and_nothing_is_trained_twice(result):
    assert (result["lost"], result["trained_twice"], result["residual"]) == (0, 0, 0)
    assert result["faults"] == []


def test_the_log_trained_offline_gives_the_published_weights_to_the_last_bit(result):
    assert result["replay_identical"]


def test_no_more_steps_are_executed_again_than_lie_between_two_checkpoints(result):
    assert result["re_executed_steps_max"] <= 5


def test_no_process_is_left_behind(result):
    assert result["leftover_processes"] == []


def test_the_usual_protocol_loses_and_repeats_under_the_same_killer(result):
    usual = result["control"]
    assert usual["kills"] >= KILLS
    assert usual["lost"] > 0
    assert usual["trained_twice"] > 0


def test_the_usual_protocol_is_exact_while_nothing_dies(tmp_path):
    usual = asyncio.run(control(tmp_path, kills=0, seed=0))
    assert (usual.lost, usual.trained_twice) == (0, 0)
