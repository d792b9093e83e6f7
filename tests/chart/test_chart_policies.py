"""checkov finds nothing in the rendered chart but what `policy_exceptions.yaml` argues."""

import json
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import VALUE_SETS, rendered

pytestmark = [pytest.mark.chart, pytest.mark.timeout(300)]

EXCEPTIONS = yaml.safe_load(Path(__file__).with_name("policy_exceptions.yaml").read_text())


def checkov() -> str:
    beside = Path(sys.executable).with_name("checkov")
    program = str(beside) if beside.exists() else shutil.which("checkov")
    assert program, "no checkov; run `make setup-chart`"
    return program


def test_every_failed_check_is_argued_and_every_argument_has_a_failed_check(tmp_path):
    program = checkov()
    for name in VALUE_SETS:
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(rendered(name)))
    done = subprocess.run(
        [program, "-d", str(tmp_path), "--framework=kubernetes", "--skip-download", "-o=json"],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 1000, "it has looked at nothing"
    failed = defaultdict(set)
    for check in report["results"]["failed_checks"]:
        failed[check["check_id"]].add(check["resource"].split(".")[0])
    assert dict(failed) == {key: set(exception["kinds"]) for key, exception in EXCEPTIONS.items()}


def test_every_exception_says_why():
    assert all(len(exception["why"]) > 30 for exception in EXCEPTIONS.values())
