import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PASS_THREE_TIMES = """
from rlsd.failpoints import failpoint
for _ in range(3):
    failpoint("log/settle")
    print("passed", flush=True)
"""


def run(**environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", PASS_THREE_TIMES],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_the_variable_nothing_happens():
    assert run().stdout.count("passed") == 3


@pytest.mark.parametrize(("wanted", "passed"), [("log/settle", 0), ("seal/log,log/settle:3", 2)])
def test_the_process_is_killed_at_the_named_time(wanted, passed):
    died = run(RLSD_FAILPOINT=wanted)
    assert died.returncode == -signal.SIGKILL
    assert died.stdout.count("passed") == passed


def test_a_process_that_is_started_again_does_not_die_there_again(tmp_path: Path):
    environment = {
        "RLSD_FAILPOINT": "log/settle:2",
        "RLSD_FAILPOINT_ONCE": str(tmp_path / "passed"),
    }
    assert run(**environment).returncode == -signal.SIGKILL
    assert run(**environment).stdout.count("passed") == 3


def test_a_point_that_is_not_in_the_code_is_refused():
    assert "no points named ['log/setle']" in run(RLSD_FAILPOINT="log/setle").stderr
