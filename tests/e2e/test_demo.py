"""What `make demo` shows, checked."""

import json
import subprocess
import sys

import pytest
from test_run import assert_account_is_whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_the_demo_learns_what_it_promises(tmp_path):
    sets = ["--set", f'run.dir="{tmp_path}"', "--set", 'run.id="demo"']
    command = [sys.executable, "-m", "rlsd", "run", "examples/chain/rlsd.toml", *sets]
    result = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    assert_account_is_whole(summary, steps=200)
    accuracy = summary["held_out_accuracy"]
    assert 0.15 <= accuracy["start"] <= 0.35
    assert accuracy["end"] >= 0.85
