"""One of several learner ranks dies: the others end with it, and the next learner goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from tests.chaos.account import re_executions
from tests.chaos.seeded import Ended, assert_equal_end, train
from tests.chaos.system import num_logged, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

SETTINGS = ("run.steps=6", "learner.ranks=2")
CHECKPOINT_EVERY = 3  # of the seeded runs
BOUND_S = 45.0
"""torchrun gives the ranks that are left 30 s after SIGTERM; a collective would wait for 600."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Ended:
    return train(tmp_path_factory.mktemp("undisturbed"), *SETTINGS)


def pid_of_rank(rank: int, torchrun: int) -> int:
    """The process that torchrun has started as a rank."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((process / "stat").read_text().rpartition(")")[2].split()[1])
            environment = (process / "environ").read_bytes().split(b"\0")
            if parent == torchrun and f"RANK={rank}".encode() in environment:
                return int(process.name)
    raise AssertionError(f"torchrun {torchrun} has no rank {rank}")


def test_a_rank_that_is_killed_ends_the_learner_and_the_next_one_goes_on(undisturbed, tmp_path):
    lasted_s: list[float] = []

    async def kill_rank_1(config, supervisor):
        torchrun = supervisor.pid("learner")
        await until(lambda: num_logged(config) >= CHECKPOINT_EVERY + 1, timeout_s=120)
        os.kill(pid_of_rank(1, torchrun), signal.SIGKILL)
        killed = time.monotonic()
        await supervisor.restarted("learner", torchrun)
        lasted_s.append(time.monotonic() - killed)

    run = train(tmp_path, *SETTINGS, disturb=kill_rank_1)
    assert lasted_s[0] < BOUND_S
    assert [e.name for e in run.exits] == ["learner"], run.exits
    again = re_executions(tmp_path / "chaos" / "logs" / "learner.log")
    assert 0 < max(again) <= CHECKPOINT_EVERY
    assert_equal_end(run, undisturbed)
