"""`rlsd doctor --cluster --try`: the pods, and what they show."""

from dataclasses import replace

import pytest
from recorded_cluster import mark, recorded

from rlsd.cluster.asking import Answer
from rlsd.cluster.attempts import attempt_all, attempts, overdue, verdict


@pytest.fixture
def facts():
    return recorded("external-redis")[0]


@pytest.fixture
def wanted():
    return recorded("external-redis")[1]


@pytest.fixture
def made(facts, wanted):
    return attempts(facts, wanted, "abc", 600)


def image(made, part):
    [found] = [x for x in made if part in x.image]
    return found


def container(attempt):
    return attempt.pod["spec"]["containers"][0]


def test_a_pod_for_each_image_that_a_restricted_namespace_admits(made, wanted):
    assert [x.image for x in made] == sorted(wanted.images)
    assert len({x.name for x in made}) == len(made)
    for one in made:
        spec = one.pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container(one)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert spec["automountServiceAccountToken"] is False
        assert (spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("Never", 600)
        assert not [r for r in container(one)["resources"]["limits"] if "/" in r]


def test_it_stands_where_the_image_will_be_needed():
    made = attempts(*recorded("multi-gpu"), "abc", 600)
    engine = image(made, "sglang")
    assert engine.pod["spec"]["nodeSelector"] == {"nvidia.com/gpu.product": "H200"}
    assert engine.pod["spec"]["tolerations"]
    assert engine.pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert container(engine)["command"] == ["python3", "-c", "pass"]
    assert image(made, "verifier").pod["spec"]["runtimeClassName"] == "gvisor"


def test_what_each_runs(made):
    assert container(image(made, "learner"))["command"] == ["python", "-c", "pass"]
    redis = image(attempts(*recorded("cpu"), "abc", 600), "redis")
    assert container(redis)["command"] == ["redis-server", "--version"]


def test_one_of_them_asks_redis_with_the_url_as_a_file(made):
    [asking] = [x for x in made if x.asks_redis]
    assert container(asking)["command"] == ["python", "-m", "rlsd.serving.reach", "queues"]
    [volume] = asking.pod["spec"]["volumes"]
    assert volume["secret"]["secretName"] == "redis"
    assert container(asking)["env"] == [
        {"name": "RLSD_REDIS_URL_FILE", "value": "/run/secrets/redis/url"}
    ]


def test_without_the_secret_redis_is_not_asked(facts, wanted):
    without = replace(facts, secrets={"redis": Answer(reason="NotFound")})
    made = attempts(without, wanted, "abc", 600)
    assert not [x for x in made if x.asks_redis or "volumes" in x.pod["spec"]]


def status(**given):
    return {"spec": {"nodeName": "gpu-node-1"}, "status": given}


def waiting(reason, message=""):
    state = {"waiting": {"reason": reason, "message": message}}
    return status(phase="Pending", containerStatuses=[{"name": "doctor", "state": state}])


def ended(code, message=""):
    state = {"terminated": {"exitCode": code, "reason": "Error", "message": message}}
    return status(phase="Failed", containerStatuses=[{"name": "doctor", "state": state}])


def test_a_pod_that_ended_well(made):
    [found] = verdict(image(made, "learner"), status(phase="Succeeded"))
    assert (mark(found), found.state) == ("ok", "pulled and started on gpu-node-1")
    [asking] = [x for x in made if x.asks_redis]
    pulled, redis = verdict(asking, status(phase="Succeeded"))
    assert [mark(x) for x in (pulled, redis)] == ["ok", "ok"]
    assert redis.state == "answers a pod here"


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("pull access denied, repository does not exist", "give images.pullSecrets"),
        ("manifest unknown", "look at images.registry, repository and tag"),
        ("dial tcp: lookup r.example.com: no such host", "the node does not reach the registry"),
    ],
)
def test_a_registry_that_refuses_in_words(made, message, says):
    [found] = verdict(image(made, "learner"), waiting("ImagePullBackOff", message))
    assert (mark(found), found.state) == ("MISSING", "ImagePullBackOff on gpu-node-1")
    assert found.remedy.startswith(message)
    assert says in found.remedy


def test_a_first_failure_is_tried_again_by_the_node_and_waited_for(made):
    learner = image(made, "learner")
    assert verdict(learner, waiting("ErrImagePull", "timeout")) == []
    assert verdict(learner, waiting("ContainerCreating")) == []
    late = overdue(learner, waiting("ErrImagePull", "i/o timeout"), 600)
    assert late.state == "not ended after 600 s: ErrImagePull"
    assert "the node does not reach the registry" in late.remedy


def test_redis_that_does_not_answer_is_no_fault_of_the_image(made):
    [asking] = [x for x in made if x.asks_redis]
    pulled, redis = verdict(asking, ended(1, "log\nrlsd: Redis: connection refused"))
    assert mark(pulled) == "ok"
    assert mark(redis) == "MISSING"
    assert redis.state == "does not answer: rlsd: Redis: connection refused"


def test_an_image_that_is_something_else(made):
    [found] = verdict(image(made, "learner"), ended(127, "python: not found"))
    assert (mark(found), found.state) == ("MISSING", "ended with 127 on gpu-node-1")


def test_a_pod_that_finds_no_node_says_why(made):
    unscheduled = {
        "spec": {},
        "status": {
            "phase": "Pending",
            "conditions": [
                {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}
            ],
        },
    }
    late = overdue(image(made, "learner"), unscheduled, 600)
    assert (late.state, late.remedy) == ("found no node", "0/2 nodes are available")


class Cluster:
    """Answers as if pods never ended, and keeps account."""

    def __init__(self, *, lists=True):
        self.pods, self.deleted, self.lists = {}, [], lists

    def create(self, path, body):
        if "teacher" in body["spec"]["containers"][0]["image"]:
            return Answer(reason="Forbidden", said="exceeded quota: devices")
        self.pods[body["metadata"]["name"]] = body
        return Answer(body)

    def get(self, path):
        if not self.lists:
            raise KeyboardInterrupt
        return Answer({"items": list(self.pods.values())})

    def delete(self, path):
        self.deleted.append(path.rpartition("/")[2])
        return Answer({})


def test_every_pod_that_was_made_is_deleted(facts, wanted):
    cluster = Cluster()
    found = list(attempt_all(cluster, facts, wanted, limit_s=0.1))
    assert sorted(cluster.deleted) == sorted(cluster.pods)
    assert len(found) == len(wanted.images)
    [refused] = [f for f in found if "teacher" in f.what]
    assert refused.state == "no pod could be made: Forbidden"
    assert refused.remedy == "exceeded quota: devices"


def test_an_interrupted_attempt_leaves_nothing(facts, wanted):
    cluster = Cluster(lists=False)
    with pytest.raises(KeyboardInterrupt):
        list(attempt_all(cluster, facts, wanted, limit_s=5))
    assert cluster.pods
    assert sorted(cluster.deleted) == sorted(cluster.pods)
