"""A run on a real cluster, whose nodes have the images: what containers alone can show.

Needs RLSD_TEST_KUBECONFIG, RLSD_TEST_REGISTRY (which prefixes the images) and, for a cluster that
does not take ci/cpu-values.yaml as it is, RLSD_TEST_VALUES, a further file. The tests share one
release and stand in the order of its life.
"""

import json
import os
import time
import uuid

import pytest

from tests.chart.cluster import Space, kubectl, until
from tests.chart.rendering import CHART, values_of

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not {"RLSD_TEST_KUBECONFIG", "RLSD_TEST_REGISTRY"} <= os.environ.keys(),
        reason="RLSD_TEST_KUBECONFIG and RLSD_TEST_REGISTRY name no cluster with the images",
    ),
]
RELEASE = "demo"
MINUTES = 600.0
DRAINED_S = 120.0
"""Well before a learner that was told to stop is killed."""
FOLDER = "/runs/demo"
AUDIT = f"""
import json, pathlib, rlsd.audit
print(json.dumps(rlsd.audit.audit(pathlib.Path("{FOLDER}"), "demo").as_json()))
"""


class Run(Space):
    """A release that trains."""

    def put(self, verb, *sets):
        """Install or upgrade, and wait."""
        files = [values_of("cpu"), *filter(None, [os.environ.get("RLSD_TEST_VALUES")])]
        values = [x for file in files for x in ("--values", file)]
        sets = (f"images.registry={os.environ['RLSD_TEST_REGISTRY']}", *sets)
        done = self.helm(
            verb, RELEASE, str(CHART), *values, "--wait", "--timeout=8m", sets=sets, limit_s=MINUTES
        )
        assert done.returncode == 0, done.stderr

    def pod(self, component):
        """The one pod of a component that runs and is not being deleted."""

        def found():
            pods = self.list(
                "pods",
                f"app.kubernetes.io/instance={RELEASE},app.kubernetes.io/component={component}",
            )
            running = [
                x["metadata"]["name"]
                for x in pods
                if x["status"]["phase"] == "Running" and "deletionTimestamp" not in x["metadata"]
            ]
            return running if len(running) == 1 else None

        return until(found, timeout_s=MINUTES)[0]

    def inside(self, *command):
        """What a command prints in the learner's container, whichever pod that is now."""
        deadline = time.monotonic() + MINUTES
        while True:
            done = kubectl("exec", "-n", self.name, self.pod("learner"), "--", *command)
            if done.returncode == 0:
                return done.stdout
            assert time.monotonic() < deadline, done.stderr
            time.sleep(1)

    def step(self):
        """Steps that metrics.jsonl has."""
        lines = self.inside("sh", "-c", f"cat {FOLDER}/metrics.jsonl 2>&-; true").splitlines()
        return json.loads(lines[-1])["step"] if lines else 0

    def audit(self):
        """The run's account, recomputed from its log."""
        return json.loads(self.inside("python", "-c", AUDIT))

    def wait_for_steps(self, more):
        """Until so many steps more are logged; returns the step then."""
        until_step = self.step() + more
        until(lambda: self.step() >= until_step, timeout_s=MINUTES)
        return until_step


@pytest.fixture(scope="module")
def run():
    made = Run(f"rlsd-{uuid.uuid4().hex[:8]}")
    assert kubectl("create", "namespace", made.name).returncode == 0
    try:
        made.put("install", "config.run.steps=100000")
        yield made
    finally:
        made.helm("uninstall", RELEASE)
        kubectl("delete", "namespace", made.name, "--wait=false")


def test_a_release_trains_and_no_container_starts_twice(run):
    run.wait_for_steps(2)
    started = [c for pod in run.list("pods") for c in pod["status"]["containerStatuses"]]
    assert len(started) == 5
    assert [c["restartCount"] for c in started] == [0] * 5


@pytest.mark.parametrize("name", ["health", "sandbox", "isolation"])
def test_its_hooks_pass(run, name):
    done = run.helm("test", RELEASE, "--filter", f"name={RELEASE}-test-{name}", limit_s=MINUTES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_rollout_pod_that_is_killed_costs_no_step(run):
    killed = run.pod("rollout")
    learner = run.pod("learner")
    done = kubectl("delete", "pod", killed, "-n", run.name, "--grace-period=0", "--force")
    assert done.returncode == 0, done.stderr
    run.wait_for_steps(3)
    assert run.pod("rollout") != killed
    assert run.pod("learner") == learner
    assert run.audit()["off"] == []


def test_an_upgrade_during_the_run_goes_on_from_its_log(run):
    before, learner = run.step(), run.pod("learner")
    run.put("upgrade", "config.run.steps=90000")
    until(lambda: run.pod("learner") != learner, timeout_s=MINUTES)
    until(lambda: learner not in run.names("pods"), timeout_s=DRAINED_S)
    until(lambda: run.step() > before + 1, timeout_s=MINUTES)
    found = run.audit()
    assert (found["off"], found["account"]["trained_twice"]) == ([], 0)


def test_a_rollback_during_the_run_goes_on_from_its_log(run):
    before, learner = run.step(), run.pod("learner")
    done = run.helm("rollback", RELEASE, "1", "--wait", "--timeout=8m", limit_s=MINUTES)
    assert done.returncode == 0, done.stderr
    until(lambda: run.pod("learner") != learner, timeout_s=MINUTES)
    until(lambda: learner not in run.names("pods"), timeout_s=DRAINED_S)
    until(lambda: run.step() > before + 1, timeout_s=MINUTES)
    found = run.audit()
    assert (found["off"], found["account"]["trained_twice"]) == ([], 0)


def test_uninstalling_ends_every_container_and_leaves_the_claim(run):
    done = run.helm("uninstall", RELEASE, "--wait", "--timeout=3m", limit_s=MINUTES)
    assert done.returncode == 0, done.stderr
    mine = f"app.kubernetes.io/instance={RELEASE}"
    until(lambda: not run.names("pods", mine), timeout_s=MINUTES)
    kinds = "deployments,statefulsets,jobs,services,configmaps,secrets,networkpolicies"
    assert run.names(f"{kinds},serviceaccounts", mine) == set()
    assert run.names("pvc") == {f"{RELEASE}-runs"}
