"""What cannot work does not render, and the line says what to do."""

import pytest

from tests.chart.rendering import APIS, containers, pods, refusal, rendered

pytestmark = pytest.mark.chart


@pytest.mark.parametrize(
    ("name", "sets", "says"),
    [
        ("default", ["verifier.requireRuntimeClass=true"], "name the RuntimeClass of gVisor"),
        ("default", ["redis.bundled.enabled=false"], "give redis.urlSecret"),
        ("external-redis", ["redis.bundled.enabled=true"], "set redis.bundled.enabled: false"),
        ("external-redis", ["redis.peers=null"], "say where it is"),
        ("default", ["redis.bundled.aclSecret.name=a"], "give redis.urlSecret too"),
        (
            "default",
            ["images.requireDigest=true"],
            "digest is empty; give the one that the registry",
        ),
        ("multi-gpu", ["learner.nodes=3"], "config.learner.ranks: 16 cannot be spread"),
        ("multi-gpu", ["learner.gpus=4"], "learner.gpus: 4 for 8 ranks on each node"),
        ("multi-gpu", ["rollout.server.enabled=false"], "give rollout.server"),
        ("multi-gpu", ["rollout.server.port=8001"], "it is http://127.0.0.1:8001"),
        ("ray", ["config.run.transport=redis"], "use grpc, or one number"),
        ("ray", ["autoscaling.rollout.mode=keda"], "use ray.rollout.replicas"),
        ("default", ["autoscaling.rollout.mode=keda", "autoscaling.rollout.min=9"], "min is above"),
        ("ray", ["runtime=processes", "autoscaling.rollout.mode=keda"], "has none of"),
        (
            "external-redis",
            ["autoscaling.keda.redisAddress="],
            "KEDA has to be told host:port",
        ),
    ],
)
def test_it_says_what_to_do(name, sets, says):
    assert says in refusal(name, *sets)


@pytest.mark.parametrize(
    ("name", "api", "says"),
    [
        ("multi-gpu", "jobset.x-k8s.io/v1alpha2", "install JobSet, or set learner.nodes: 1"),
        ("multi-gpu", "leaderworkerset.x-k8s.io/v1", "or set rollout.nodesPerReplica: 1"),
        ("multi-gpu", "keda.sh/v1alpha1", "needs KEDA"),
        ("multi-gpu", "monitoring.coreos.com/v1", "needs the Prometheus operator"),
        ("ray", "ray.io/v1", "install it, or set runtime: processes"),
    ],
)
def test_an_api_that_the_cluster_lacks_is_named(name, api, says):
    assert says in refusal(name, apis=tuple(x for x in APIS if x != api))


def test_digests_are_enough_where_they_are_required_and_no_image_is_left_out():
    digest = "sha256:" + "b" * 64
    each = [f"images.{x}.digest={digest}" for x in ("rollout", "verifier", "teacher", "learner")]
    assert "images.redis.digest" in refusal("default", "images.requireDigest=true", *each)
    documents = rendered(
        "default", "images.requireDigest=true", *each, f"images.redis.digest={digest}"
    )
    images = {c["image"] for _, pod in pods(documents) for c in containers(pod)}
    assert len(images) == 5
    assert all(image.endswith("@" + digest) for image in images)
    server = "rollout.server.image is registry.example.com/sglang:v0.5.23; name it with its digest"
    assert server in refusal("multi-gpu", "images.requireDigest=true", *each)


@pytest.mark.parametrize("name", ["default", "cpu", "external-redis"])
def test_one_node_needs_no_custom_resource(name):
    kinds = {document["kind"] for document in rendered(name, "autoscaling.verifier.mode=none")}
    assert not kinds & {"JobSet", "LeaderWorkerSet", "ScaledObject", "RayService"}
