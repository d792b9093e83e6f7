"""`rlsd doctor --cluster` on a real API server."""

import os
import re
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest

from rlsd.cluster.asking import find_cluster
from rlsd.cluster.attempts import LABEL, attempt_all
from rlsd.cluster.facts import gather
from rlsd.cluster.findings import findings
from tests.chart.cluster import kubectl, until
from tests.chart.rendering import values_of
from tests.chart.scenario import asked, scenario

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        "RLSD_TEST_KUBECONFIG" not in os.environ, reason="RLSD_TEST_KUBECONFIG names no cluster"
    ),
]


@pytest.fixture(scope="module")
def space():
    name = f"rlsd-{uuid.uuid4().hex[:8]}"
    with scenario(name):
        yield name


def doctor(space, value_set, *further):
    kubeconfig = f"--kubeconfig={os.environ['RLSD_TEST_KUBECONFIG']}"
    command = [sys.executable, "-m", "rlsd", "doctor", "--cluster", kubeconfig]
    return subprocess.run(
        [*command, f"--namespace={space}", f"--values={values_of(value_set)}", *further],
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def line(done, mark, what):
    """The state of a finding."""
    found = re.search(rf"^{mark} +{re.escape(what)} +(.*)$", done.stdout, re.MULTILINE)
    assert found, done.stdout
    return found[1]


def test_a_release_with_devices(space):
    done = doctor(space, "multi-gpu")
    assert done.returncode == 1, done.stderr
    assert line(done, "MISSING", "server").endswith("too old")
    assert line(done, "ok", "JobSet") == "serves jobset.x-k8s.io/v1alpha2"
    assert line(done, "MISSING", "LeaderWorkerSet")
    assert line(done, "MISSING", "quota devices").startswith("requests.nvidia.com/gpu: 52")
    assert line(done, "ok", "claim data") == "bound, ReadOnlyMany"
    assert line(done, "ok", "nvidia.com/gpu").startswith("10 of 16 free on 2 nodes")
    assert line(done, "MISSING", "Secret redis") == "lacks key password"
    assert "hush" not in done.stdout


def test_a_namespace_that_is_not_there(space):
    done = doctor(f"{space}-other", "cpu")
    assert line(done, "MISSING", "namespace") == f"there is no {space}-other"


def test_values_of_the_command_line_are_helms(space):
    done = doctor(space, "cpu", "--set", "storage.accessMode=ReadWriteMany", "--set", "tests.x=1")
    assert "refuses the values" in done.stdout
    assert "tests: Additional property x is not allowed" in done.stdout


def test_somebody_without_rights_hears_which(space):
    account = f"system:serviceaccount:{space}:nobody"
    done = kubectl("create", "serviceaccount", "nobody", "-n", space)
    assert done.returncode == 0, done.stderr
    facts, wanted = asked(space, "cpu")
    mine = find_cluster(Path(os.environ["RLSD_TEST_KUBECONFIG"]), None)
    as_nobody = type(mine)((*mine.command, f"--as={account}"), mine.namespace, mine.where)
    facts = gather(as_nobody, space, wanted)
    found = {f.what: f for f in findings(facts, wanted)}
    assert "may not get, list, create, update, delete secrets" in found["rights"].state
    assert "create, patch apps/deployments" in found["rights"].state
    assert found["nodes"].state == "not known: may not list nodes (Forbidden)"
    assert not [f for f in found.values() if "not known" in f.state and f.is_needed]


def test_attempts_are_admitted_end_and_leave_nothing(space):
    """The stand-in kubelet runs no container, so that they ended is told to the server here."""
    facts, wanted = asked(space, "cpu")
    at = find_cluster(Path(os.environ["RLSD_TEST_KUBECONFIG"]), None)
    found = []

    def attempt():
        found.extend(attempt_all(at, facts, wanted, limit_s=90))

    thread = threading.Thread(target=attempt)
    thread.start()
    pods = ("get", "pods", "-n", space, "-l", LABEL, "-o=name")
    running = (*pods, "--field-selector=status.phase=Running")
    until(lambda: len(kubectl(*running).stdout.split()) == len(wanted.images), timeout_s=60)
    ended = '{"status": {"phase": "Succeeded"}}'
    for pod in kubectl(*running).stdout.split():
        end = ("patch", pod, "-n", space, "--subresource=status", "--type=merge", "-p", ended)
        done = kubectl(*end)
        assert done.returncode == 0, done.stderr
    thread.join()
    assert len(found) == len(wanted.images)
    assert all(f.state.startswith("pulled and started on gpu-node-") for f in found), found
    until(lambda: not kubectl(*pods).stdout.split())
