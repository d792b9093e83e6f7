"""What a release asks of a cluster, read from the objects that Helm rendered."""

from decimal import Decimal

from recorded_cluster import recorded

GPU = "nvidia.com/gpu"
GI = Decimal(2**30)


def by_component(wanted):
    return {one.component: one for one in wanted.pods}


def test_pods_of_every_kind_of_workload():
    wanted = recorded("multi-gpu")[1]
    found = {name: (one.count, one.most) for name, one in by_component(wanted).items()}
    assert found == {
        "rollout": (2, 8),  # a LeaderWorkerSet under KEDA: leaders, and a worker each
        "rollout-node": (2, 8),
        "verifier": (4, 32),
        "teacher": (1, 4),
        "learner": (1, 1),  # a JobSet
        "learner-node": (1, 1),
    }
    assert {name: one.requests.get(GPU) for name, one in by_component(wanted).items()} == {
        "rollout": 8, "rollout-node": 8, "verifier": None, "teacher": 4, "learner": 8,
        "learner-node": 8,
    }  # fmt: skip


def test_containers_of_a_pod_add_up():
    rollout = by_component(recorded("multi-gpu")[1])["rollout"]
    assert (rollout.requests["cpu"], rollout.requests["memory"]) == (33, 257 * GI)
    assert rollout.limits["cpu"] == 66


def test_secrets_with_the_keys_that_are_read():
    assert recorded("multi-gpu")[1].secrets == {
        "registry": {".dockerconfigjson"},
        "redis": {"url", "password"},
        "checks": set(),
    }
    assert recorded("cpu")[1].secrets == {}


def test_claims_that_are_made_and_claims_that_must_be_there():
    wanted = recorded("multi-gpu")[1]
    assert wanted.old_claims == {"models", "data"}
    assert [x["metadata"]["name"] for x in wanted.new_claims] == ["run-runs"]


def test_names_of_things_of_the_cluster():
    wanted = recorded("multi-gpu")[1]
    assert wanted.queues == {"training"}
    assert wanted.devices == {GPU}
    assert wanted.named("runtimeClassName") == {"gvisor"}
    assert wanted.named("priorityClassName") == {"rlsd-learner", "rlsd-rollout"}
    assert "registry.example.com/sglang:v0.5.23" in wanted.images


def test_pods_of_helm_test_need_images_and_no_room():
    wanted = recorded("cpu")[1]
    assert "pod" not in by_component(wanted)
    assert len(wanted.test_pods) == 4
    assert ("v1", "Pod") not in wanted.kinds
