"""Who has the volume of the runs."""

import pytest

from tests.chart.rendering import of_kind, pods, refusal, rendered

pytestmark = pytest.mark.chart

READERS = {"rollout", "teacher"}


def volumes_of_runs(name, *further):
    """By component: the volume that is mounted where runs are."""
    found = {}
    for _, pod in pods(rendered(name, *further)):
        component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
        found[component] = [v for v in pod["spec"]["volumes"] if v["name"] == "runs"]
    return found


def test_with_an_object_store_the_learner_alone_has_the_claim():
    volumes = volumes_of_runs("s3")
    claims = {c for c, [*v] in volumes.items() if v and "persistentVolumeClaim" in v[0]}
    assert claims == {"learner"}
    for component in READERS:
        assert volumes[component][0]["emptyDir"] == {"sizeLimit": "10Gi"}
    [claim] = of_kind(rendered("s3"), "PersistentVolumeClaim")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_readers_keep_what_they_fetch_in_a_folder_they_may_write():
    for _, pod in pods(rendered("s3")):
        for container in pod["spec"]["containers"]:
            for mount in container["volumeMounts"]:
                if mount["name"] == "runs":
                    assert not mount["readOnly"]


def test_without_one_readers_have_the_claim_and_write_nothing():
    volumes = volumes_of_runs("cpu")
    for component in (*READERS, "learner"):
        assert "persistentVolumeClaim" in volumes[component][0]
    assert not volumes["verifier"]


def test_on_ray_the_stages_have_no_claim_either():
    volumes = volumes_of_runs("ray", "config.weights.url=s3://weights/team")
    claims = {c for c, [*v] in volumes.items() if v and "persistentVolumeClaim" in v[0]}
    assert claims == {"learner"}


def test_each_service_may_have_a_role_of_its_own():
    accounts = {
        a["metadata"]["name"]: a["metadata"].get("annotations", {})
        for a in of_kind(rendered("s3"), "ServiceAccount")
    }
    with_a_role = {n.rpartition("-")[2] for n, a in accounts.items() if a}
    assert with_a_role == {"rollout"}


def test_the_store_is_reached_through_egress_alone():
    for component in (*READERS, "learner"):
        [policy] = [
            p
            for p in of_kind(rendered("s3"), "NetworkPolicy")
            if p["metadata"]["name"].endswith(f"-{component}")
        ]
        ports = [
            port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", [])
        ]
        assert 9000 in ports


@pytest.mark.parametrize("url", ["http://weights/x", "s3:weights", "s3://", "weights"])
def test_another_url_is_refused_before_anything_is_made(url):
    assert "weights" in refusal("cpu", f"config.weights.url={url}")
