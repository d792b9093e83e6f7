"""What no pod of the chart may be without."""

import json

import pytest
import yaml

from tests.chart.rendering import CHART, VALUE_SETS, of_kind, pods, rendered
from tests.chart.rendering import containers as containers_of

pytestmark = [pytest.mark.chart, pytest.mark.parametrize("name", VALUE_SETS)]

PROBES = ("startupProbe", "livenessProbe", "readinessProbe")
WITHOUT_PROBES = {
    "Pod": "helm test ends by itself",
    "learner-node": "ranks above 0 serve nothing; the process group ends with any of them",
    "rollout-node": "the engine's other nodes serve nothing; their group is made anew with any",
}


def containers(name):
    for where, pod in pods(rendered(name)):
        for container in containers_of(pod):
            yield f"{where}/{container['name']}", pod, container


def test_pods_are_restricted(name):
    for where, pod in pods(rendered(name)):
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"], where
        assert context["runAsUser"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            assert field not in pod["spec"]
        kinds = {key for volume in pod["spec"]["volumes"] for key in volume} - {"name"}
        assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "secret"}, where


def test_containers_are_restricted(name):
    for where, _, container in containers(name):
        context = container["securityContext"]
        assert context == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, where


def test_containers_have_requests_limits_and_probes(name):
    for where, pod, container in containers(name):
        for side in ("requests", "limits"):
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"][side]), (
                where
            )
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        if where.startswith("Pod/") or component in WITHOUT_PROBES:
            assert not set(PROBES) & set(container)
        else:
            assert set(PROBES) <= set(container), where


def test_what_is_written_is_bounded(name):
    for where, pod in pods(rendered(name)):
        for volume in pod["spec"]["volumes"]:
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], where


def test_no_token_and_no_service_links(name):
    for where, pod in pods(rendered(name)):
        assert pod["spec"]["automountServiceAccountToken"] is False, where
        assert pod["spec"]["enableServiceLinks"] is False
        assert pod["spec"]["serviceAccountName"].startswith("r-")
    accounts = of_kind(rendered(name), "ServiceAccount")
    assert all(account["automountServiceAccountToken"] is False for account in accounts)
    used = {pod["spec"]["serviceAccountName"] for _, pod in pods(rendered(name))}
    assert used == {account["metadata"]["name"] for account in accounts}


def test_nothing_asks_for_rights(name):
    kinds = {document["kind"] for document in rendered(name)}
    assert not kinds & {"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"}


def test_secrets_are_named_and_mounted_as_files(name):
    assert not of_kind(rendered(name), "Secret")
    for where, _, container in containers(name):
        for variable in container.get("env", []):
            assert set(variable) == {"name", "value"}, where
            assert "@" not in variable["value"], where
        assert "envFrom" not in container
    assert '"password"' not in json.dumps([x.get("data") for x in rendered(name)])


def test_images_are_pinned(name):
    for where, _, container in containers(name):
        image = container["image"].rpartition("/")[2]
        assert "@sha256:" in image or ":" in image, where
        assert not image.endswith(":latest"), where


def test_only_the_learner_writes_the_runs(name):
    for where, pod, container in containers(name):
        mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        if component == "step":
            component = container["name"]
        [runs] = [v for v in pod["spec"]["volumes"] if v["name"] == "runs"] or [{}]
        if "runs" in mounts:
            assert component != "verifier"
        if "persistentVolumeClaim" in runs and "runs" in mounts:
            assert mounts["runs"]["readOnly"] is not component.startswith("learner"), where
        claims = {v["name"] for v in pod["spec"]["volumes"] if "persistentVolumeClaim" in v}
        assert all(mounts[c]["readOnly"] for c in claims - {"runs"} if c in mounts)
        assert {volume["name"] for volume in pod["spec"]["volumes"]} >= set(mounts)


def test_the_claim_outlives_the_release(name):
    values = yaml.safe_load((CHART / f"ci/{name}-values.yaml").read_text())
    claims = of_kind(rendered(name), "PersistentVolumeClaim")
    assert bool(claims) is not bool(values.get("storage", {}).get("existingClaim"))
    for claim in claims:
        assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
