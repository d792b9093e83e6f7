"""A release's life on a real API server with its controllers and scheduler.

No container has to run: these are the promises of the objects. Each test has its own namespace.
"""

import json
import os
import uuid

import pytest
import yaml

from tests.chart.cluster import RELEASE, Space, kubectl, until
from tests.chart.rendering import NAMESPACE, of_kind, rendered

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        "RLSD_TEST_KUBECONFIG" not in os.environ, reason="RLSD_TEST_KUBECONFIG names no cluster"
    ),
]
GIGABYTE = {"storage": "1Gi"}


@pytest.fixture
def space():
    """An empty namespace, and a volume that its claim will be bound to."""
    name = f"rlsd-{uuid.uuid4().hex[:8]}"
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": GIGABYTE,
            "accessModes": ["ReadWriteMany"],
            "storageClassName": "by-hand",
            "hostPath": {"path": "/var/empty"},
            "claimRef": {"namespace": name, "name": f"{RELEASE}-runs"},
        },
    }
    assert kubectl("create", "namespace", name).returncode == 0
    assert kubectl("create", "-f", "-", given=json.dumps(volume)).returncode == 0
    yield Space(name)
    kubectl("delete", "namespace", name, "--wait=false")
    kubectl("delete", "pv", name, "--wait=false")


@pytest.fixture
def installed(space):
    done = space.put("install")
    assert done.returncode == 0, done.stderr
    return space


def test_a_server_without_sidecars_is_given_no_training_step_and_its_people_are_told(installed):
    has_sidecars = minor_version() >= 29
    notes = installed.helm("get", "notes", RELEASE).stdout
    assert ("its sidecars need Kubernetes 1.29" in notes) is not has_sidecars
    hooks = installed.helm("get", "hooks", RELEASE).stdout
    assert (f"{RELEASE}-test-step" in hooks) is has_sidecars
    assert f"{RELEASE}-test-health" in hooks


def minor_version():
    """The server's: 20 of 1.20."""
    version = json.loads(kubectl("version", "-o=json").stdout)["serverVersion"]
    return int(version["minor"].rstrip("+"))


def component(name):
    return f"app.kubernetes.io/component={name}"


def test_installing_waits_until_every_service_is_ready(installed):
    for deployment in installed.list("deployments"):
        assert deployment["status"]["readyReplicas"] == deployment["spec"]["replicas"]
    # Helm waits for no Job's pod.
    until(lambda: {x["status"]["phase"] for x in installed.list("pods")} == {"Running"})
    assert installed.names("networkpolicies") == {
        f"{RELEASE}-{x}"
        for x in ("nothing", "rollout", "verifier", "teacher", "learner", "redis", "test")
    }


def test_an_upgrade_during_a_run_makes_a_new_learner_and_rolls_the_others(installed):
    [job], stages = installed.names("jobs"), installed.names("pods", component("rollout"))
    done = installed.put("upgrade", "config.run.steps=300")
    assert done.returncode == 0, done.stderr
    until(lambda: installed.names("jobs") - {job} and job not in installed.names("jobs"))
    until(lambda: not stages & installed.names("pods", component("rollout")))
    [config] = installed.names("configmaps", component("config"))
    [learner] = until(lambda: _running(installed, "learner"))
    volumes = {v["name"]: v for v in learner["spec"]["volumes"]}
    assert volumes["config"]["configMap"]["name"] == config


def _running(space, name):
    """The pods of a component once just one runs that nobody is deleting."""
    pods = [x for x in space.list("pods", component(name)) if x["status"]["phase"] == "Running"]
    return len(pods) == 1 and "deletionTimestamp" not in pods[0]["metadata"] and pods


def test_an_upgrade_that_changes_nothing_of_the_learner_leaves_it_alone(installed):
    before = installed.names("jobs"), installed.names("pods", component("learner"))
    done = installed.put("upgrade", "rollout.replicas=3")
    assert done.returncode == 0, done.stderr
    assert (installed.names("jobs"), installed.names("pods", component("learner"))) == before


def test_too_few_devices_leave_pods_pending_and_the_wait_says_so(installed):
    done = installed.put("upgrade", "rollout.gpus=8", "rollout.replicas=3", timeout_s=15)
    assert done.returncode != 0
    assert "UPGRADE FAILED" in done.stderr
    assert "deadline exceeded" in done.stderr
    pending = [x for x in installed.list("pods") if x["status"]["phase"] == "Pending"]
    assert {x["metadata"]["labels"]["app.kubernetes.io/component"] for x in pending} == {"rollout"}
    reasons = [c["message"] for x in pending for c in x["status"]["conditions"]]
    assert any("Insufficient nvidia.com/gpu" in reason for reason in reasons), reasons

    back = installed.helm("rollback", RELEASE, "1", "--wait", "--timeout=40s")
    assert back.returncode == 0, back.stderr
    assert {x["spec"]["replicas"] for x in installed.list("deployments", component("rollout"))} == {
        2
    }
    until(lambda: {x["status"]["phase"] for x in installed.list("pods")} == {"Running"})


def test_a_rollback_brings_the_run_back_that_was(installed):
    before = installed.names("jobs"), installed.names("configmaps", component("config"))
    assert installed.put("upgrade", "config.run.steps=300").returncode == 0
    done = installed.helm("rollback", RELEASE, "1", "--wait", "--timeout=40s")
    assert done.returncode == 0, done.stderr
    until(
        lambda: (
            (installed.names("jobs"), installed.names("configmaps", component("config"))) == before
        )
    )


def test_uninstalling_leaves_the_claim_with_the_runs_and_nothing_else(installed):
    done = installed.helm("uninstall", RELEASE, "--wait", "--timeout=40s")
    assert done.returncode == 0, done.stderr
    kinds = "deployments,statefulsets,jobs,services,configmaps,secrets,networkpolicies"
    mine = f"app.kubernetes.io/instance={RELEASE}"
    until(lambda: not installed.names("pods", mine))
    assert installed.names(f"{kinds},serviceaccounts", mine) == set()
    assert installed.names("pvc") == {f"{RELEASE}-runs"}


def test_a_run_is_taken_up_again_from_the_claim_that_was_kept(installed):
    assert installed.helm("uninstall", RELEASE, "--wait").returncode == 0
    done = installed.put("install", f"storage.existingClaim={RELEASE}-runs")
    assert done.returncode == 0, done.stderr
    assert installed.names("pvc") == {f"{RELEASE}-runs"}


def test_no_account_may_do_anything(installed):
    accounts = installed.names("serviceaccounts") - {"default"}
    assert len(accounts) == 6
    for account in accounts:
        name = f"--as=system:serviceaccount:{installed.name}:{account}"
        listed = kubectl("auth", "can-i", "--list", "--no-headers", name, "-n", installed.name)
        assert listed.returncode == 0, listed.stderr
        # Everybody may ask what they may, and read where the API's documentation is.
        resources = [x for x in listed.stdout.splitlines() if x.strip() and not x.startswith(" ")]
        assert resources
        assert all(x.startswith("selfsubject") for x in resources), resources


def test_disruption_budgets_are_accepted_and_counted(installed):
    served = kubectl("api-versions").stdout.split()
    version = "policy/v1" if "policy/v1" in served else "policy/v1beta1"
    for budget in of_kind(rendered("default"), "PodDisruptionBudget"):
        selector = budget["spec"]["selector"]["matchLabels"]
        ours = selector | {"app.kubernetes.io/instance": RELEASE}
        spec = budget["spec"] | {"selector": {"matchLabels": ours}}
        given = {"apiVersion": version, "kind": budget["kind"], "spec": spec}
        given["metadata"] = {"name": budget["metadata"]["name"]}
        done = kubectl("create", "-n", installed.name, "-f", "-", given=json.dumps(given))
        assert done.returncode == 0, done.stderr
    [counted] = until(
        lambda: [
            x
            for x in installed.list("poddisruptionbudgets")
            if x.get("status", {}).get("currentHealthy")
        ]
    )
    assert counted["status"]["currentHealthy"] == 2
    assert counted["status"]["disruptionsAllowed"] == 1


def test_what_the_server_can_know_of_a_newer_set_it_takes(space):
    """Objects of the other value sets, but those whose APIs this server lacks."""
    served = kubectl("api-versions").stdout.split()
    without = ("verifier.requireRuntimeClass=false", "verifier.runtimeClassName=")
    version = f"1.{minor_version()}.0"
    for name in ("cpu", "external-redis", "multi-gpu"):
        objects = [
            x
            for x in rendered(name, *without, version=version)
            if x["apiVersion"] in served and x["kind"] != "Job"
        ]
        for one in objects:
            assert one["metadata"].get("namespace") in (None, NAMESPACE)
        text = yaml.safe_dump_all(objects)
        done = kubectl("create", "--dry-run=server", "-n", space.name, "-f", "-", given=text)
        assert done.returncode == 0, done.stderr
