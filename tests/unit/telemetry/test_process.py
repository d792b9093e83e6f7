"""What a service process does first."""

import subprocess
import sys

import pytest

BEGINS = """
import os, signal, sys
pid = int(sys.argv[1]) or os.getpid()
os.getpid = lambda: pid
from rlsd.telemetry.process import prepare_process
prepare_process("rollout")
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, flush=True)
signal.raise_signal(signal.SIGTERM)
"""


@pytest.mark.parametrize(("pid", "is_left_alone", "code"), [(1, False, 143), (0, True, -15)])
def test_the_first_process_of_a_container_ends_when_told_to_before_it_serves(
    pid, is_left_alone, code
):
    command = [sys.executable, "-c", BEGINS, str(pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == (f"{is_left_alone}\n", code), done.stderr
