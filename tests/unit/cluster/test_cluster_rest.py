"""`rlsd doctor --cluster`: storage, network, the namespace's bounds, images."""

import json
from dataclasses import replace

import pytest
from recorded_cluster import about, answered, asking, changed, mark, recorded

from rlsd.cluster.admission import admission
from rlsd.cluster.asking import Answer
from rlsd.cluster.facts import CLASSES, DAEMONS, GROUPS, NODES, PODS, namespaced
from rlsd.cluster.images import images, queues, short
from rlsd.cluster.network import network
from rlsd.cluster.storage import on_one_node, shares, storage

CLAIMS = "/api/v1/namespaces/training/persistentvolumeclaims"
CLAIM = "new claim, 20Gi ReadWriteMany"


@pytest.fixture
def facts():
    return recorded("external-redis")[0]


@pytest.fixture
def wanted():
    return recorded("external-redis")[1]


# --- storage --------------------------------------------------------------------------------------


def of_class(wanted, name):
    def change(objects):
        for one in objects:
            if one["kind"] == "PersistentVolumeClaim":
                one["spec"]["storageClassName"] = name

    return asking(wanted, change)


@pytest.mark.parametrize(
    ("provisioner", "is_shared"),
    [
        ("ebs.csi.aws.com", False),
        ("rook-ceph.rbd.csi.ceph.com", False),
        ("rook-ceph.cephfs.csi.ceph.com", True),
        ("filestore.csi.storage.gke.io", True),
        ("k8s-sigs.io/nfs-subdir-external-provisioner", True),
        ("rancher.io/local-path", False),
        ("storage.example.com", None),
    ],
)
def test_which_provisioners_share(provisioner, is_shared):
    assert shares(provisioner) is is_shared


def test_a_default_class_of_disks_does_not_share(facts, wanted):
    found = about(storage(facts, wanted), CLAIM)
    assert mark(found) == "MISSING"
    assert found.state == "class training-disks (ebs.csi.aws.com) gives no ReadWriteMany"


def test_a_class_of_shared_files_does(facts, wanted):
    found = about(storage(facts, of_class(wanted, "training-files")), CLAIM)
    assert (mark(found), found.state) == (
        "ok", "class training-files (nfs.csi.k8s.io) gives ReadWriteMany"
    )  # fmt: skip


def test_of_an_unknown_provisioner_nothing_is_claimed(facts, wanted):
    def change(body):
        body["items"][0]["provisioner"] = "storage.example.com"

    found = about(storage(changed(facts, CLASSES, change), wanted), CLAIM)
    assert mark(found) == "-"
    assert found.state.startswith("not known: the API does not say whether class training-disks")


def test_without_a_default_class_one_has_to_be_named(facts, wanted):
    def change(body):
        for one in body["items"]:
            one["metadata"]["annotations"].clear()

    found = about(storage(changed(facts, CLASSES, change), wanted), CLAIM)
    assert found.state == "no storage class is the default"
    assert found.remedy == "set storage.storageClassName to one of: training-files, training-disks"


def test_a_class_that_is_not_there(facts, wanted):
    found = about(storage(facts, of_class(wanted, "fast")), CLAIM)
    assert (mark(found), found.state) == ("MISSING", "there is no storage class fast")


def test_volumes_made_by_hand_do_for_a_class_that_is_no_object(facts, wanted):
    path = "/api/v1/persistentvolumes"

    def change(body):
        [one] = body["items"]
        one["spec"] |= {"accessModes": ["ReadWriteMany"], "capacity": {"storage": "20Gi"}}
        one["status"]["phase"] = "Available"

    found = about(storage(changed(facts, path, change), of_class(wanted, "by-hand")), CLAIM)
    assert mark(found) == "ok"
    too_small = about(storage(facts, of_class(wanted, "by-hand")), CLAIM)
    assert mark(too_small) == "MISSING"


def test_claims_that_the_values_name():
    facts, wanted = recorded("multi-gpu")
    found = list(storage(facts, wanted))
    assert about(found, "claim data").state == "bound, ReadOnlyMany"
    assert about(found, "claim models").state == "waits for its first pod, ReadWriteOnce"
    assert on_one_node(facts, wanted) == {"models"}
    without = changed(facts, CLAIMS, lambda body: body["items"].clear())
    assert mark(about(storage(without, wanted), "claim data")) == "MISSING"

    def lose(body):
        body["items"][0]["status"]["phase"] = "Lost"

    lost = about(storage(changed(facts, CLAIMS, lose), wanted), "claim data")
    assert (mark(lost), lost.state) == ("MISSING", "Lost, ReadOnlyMany")


# --- network --------------------------------------------------------------------------------------


def with_daemon(facts, name, **container):
    def change(body):
        [one] = body["items"]
        one["metadata"]["name"] = name
        one["spec"]["template"]["spec"]["containers"][0].update(container)

    return changed(facts, DAEMONS, change)


def policies(facts, wanted):
    return about(network(facts, wanted), "policies")


def test_flannel_alone_enforces_nothing(facts, wanted):
    found = policies(facts, wanted)
    assert mark(found) == "MISSING"
    assert "flannel (kube-flannel-ds) enforces none" in found.state


@pytest.mark.parametrize(
    ("daemon", "container", "mark_"),
    [
        ("calico-node", {}, "ok"),
        ("cilium", {}, "ok"),
        ("anetd", {}, "ok"),
        ("antrea-agent", {}, "ok"),
        ("kube-router", {}, "ok"),
        ("weave-net", {}, "ok"),
        ("ovnkube-node", {}, "ok"),
        ("kindnet", {"image": "docker.io/kindest/kindnetd:v20250214-acbabc1a"}, "ok"),
        ("kindnet", {"image": "docker.io/kindest/kindnetd:v20230511-dc714da8"}, "MISSING"),
        ("aws-node", {"args": ["--enable-network-policy=true"]}, "ok"),
        ("aws-node", {"args": ["--enable-network-policy=false"]}, "MISSING"),
        ("their-own", {}, "-"),
    ],
)
def test_who_enforces_policies(facts, wanted, daemon, container, mark_):
    found = policies(with_daemon(facts, daemon, **container), wanted)
    assert mark(found) == mark_
    assert ("helm test" in found.state + found.remedy) is (mark_ != "MISSING")


def test_k3s_enforces_them_in_its_own_process(facts, wanted):
    def change(body):
        body["items"][0]["status"]["nodeInfo"]["kubeletVersion"] = "v1.31.2+k3s1"

    assert "K3s" in policies(changed(facts, NODES, change), wanted).state


def test_definitions_alone_are_a_hint(facts, wanted):
    silent = answered(facts, DAEMONS, Answer(reason="Forbidden"))
    assert "may not list (Forbidden)" in policies(silent, wanted).state
    hinted = changed(silent, GROUPS, lambda body: body["groups"].append({"name": "cilium.io"}))
    found = policies(hinted, wanted)
    assert (mark(found), found.state) == ("-", "Cilium by its definitions, no agent seen")


def test_a_release_without_policies_is_told_what_that_means(facts, wanted):
    def change(objects):
        objects[:] = [x for x in objects if x["kind"] != "NetworkPolicy"]

    [only] = network(facts, asking(wanted, change))
    assert mark(only) == "-"
    assert "every pod of the cluster may call" in only.state


def test_names_are_resolved_where_the_policies_say(facts, wanted):
    assert "coredns in kube-system" in about(network(facts, wanted), "names").state

    def change(body):
        for pod in body["items"]:
            pod["metadata"].pop("labels", None)

    found = about(network(changed(facts, PODS, change), wanted), "names")
    assert (mark(found), found.state) == ("MISSING", "no pod in kube-system has k8s-app=kube-dns")


def test_a_cache_of_names_on_every_node_has_to_be_let(facts, wanted):
    cached = with_daemon(facts, "node-local-dns")
    found = [f for f in network(cached, wanted) if "node-local-dns" in f.state]
    assert [mark(f) for f in found] == ["MISSING"]
    facts, wanted = recorded("multi-gpu")
    found = network(with_daemon(facts, "node-local-dns"), wanted)
    assert not [f for f in found if "node-local-dns" in f.state]


def test_peers_that_are_not_there(facts, wanted):
    found = about(network(facts, wanted), "peer in redis")
    assert (mark(found), found.state) == ("MISSING", "there is no namespace redis")
    there = answered(facts, namespaced("redis"), Answer({"kind": "Namespace"}))
    found = about(network(there, wanted), "peer in redis")
    assert (mark(found), found.state) == ("MISSING", "no pod in redis has app=redis")

    def elsewhere(body):
        body["items"][0]["metadata"]["labels"] = {"app": "redis"}

    found = about(network(changed(there, PODS, elsewhere), wanted), "peer in redis")
    assert mark(found) == "MISSING"


def test_what_is_known_of_redis_without_a_pod(wanted):
    [outside] = queues(wanted)
    assert (mark(outside), outside.remedy) == ("-", "--try asks it from a pod")
    [bundled] = queues(recorded("cpu")[1])
    assert mark(bundled) == "ok"


# --- the namespace --------------------------------------------------------------------------------


def test_the_level_of_the_namespace(facts, wanted):
    assert "restricted" in about(admission(facts, wanted), "training").state

    def change(body):
        del body["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]

    found = about(admission(changed(facts, namespaced("training"), change), wanted), "training")
    assert mark(found) == "-"
    missing = answered(facts, namespaced("training"), Answer(reason="NotFound"))
    found = about(admission(missing, wanted), "namespace")
    assert (mark(found), found.remedy) == ("MISSING", "kubectl create namespace training")


def test_a_quota_counts_what_is_used_already():
    facts, wanted = recorded("multi-gpu")
    found = about(admission(facts, wanted), "quota devices")
    assert found.state == (
        "requests.nvidia.com/gpu: 52 nvidia.com/gpu asked, 20 nvidia.com/gpu left"
    )
    facts, wanted = recorded("external-redis")
    assert mark(about(admission(facts, wanted), "quota devices")) == "ok"
    path = "/api/v1/namespaces/training/resourcequotas"

    def use(body):
        body["items"][0]["status"]["used"]["requests.nvidia.com/gpu"] = "15"

    found = about(admission(changed(facts, path, use), wanted), "quota devices")
    assert "6 nvidia.com/gpu asked, 5 nvidia.com/gpu left" in found.state


def test_a_range_that_a_container_leaves():
    found = about(admission(*recorded("multi-gpu")), "range cores")
    assert mark(found) == "MISSING"
    assert "rollout: limit 64 CPU, at most 16 CPU" in found.state
    assert mark(about(admission(*recorded("external-redis")), "range cores")) == "ok"


@pytest.mark.parametrize(
    ("limit", "says"),
    [
        ({"type": "Pod", "max": {"memory": "1Gi"}}, "learner: limit 4 GiB of memory, at most 1"),
        ({"type": "Container", "min": {"cpu": "2"}}, "verifier: asks 1 CPU, at least 2 CPU"),
        (
            {"type": "Container", "maxLimitRequestRatio": {"cpu": "1"}},
            "rollout: limit above 1 × request of cpu",
        ),
        (
            {"type": "PersistentVolumeClaim", "max": {"storage": "1Gi"}},
            "the new claim: limit 20 GiB of volumes, at most 1 GiB of volumes",
        ),
    ],
)
def test_every_kind_of_range(facts, wanted, limit, says):
    path = "/api/v1/namespaces/training/limitranges"

    def change(body):
        body["items"][0]["spec"]["limits"] = [limit]

    assert says in about(admission(changed(facts, path, change), wanted), "range cores").state


def test_classes_that_pods_name():
    found = list(admission(*recorded("multi-gpu")))
    assert mark(about(found, "RuntimeClass gvisor")) == "MISSING"
    assert mark(about(found, "PriorityClass rlsd-learner")) == "ok"
    assert "there: rlsd-learner, system" in about(found, "PriorityClass rlsd-rollout").remedy


def test_a_queue_needs_kueue_and_has_to_be_in_the_namespace():
    facts, wanted = recorded("multi-gpu")
    assert "there is no Kueue" in about(admission(facts, wanted), "queue training").state
    path = "/apis/kueue.x-k8s.io/v1beta1/namespaces/training/localqueues"
    there = answered(facts, path, Answer({"items": [{"metadata": {"name": "training"}}]}))
    assert mark(about(admission(there, wanted), "queue training")) == "ok"
    other = answered(facts, path, Answer({"items": []}))
    found = about(admission(other, wanted), "queue training")
    assert (mark(found), found.state) == ("MISSING", "not in training")


def test_secrets_by_name_and_key(facts, wanted):
    found = list(admission(facts, wanted))
    assert about(found, "Secret hub").remedy == (
        "kubectl -n training create secret generic hub --from-file=token=FILE"
    )
    assert about(found, "Secret redis").state == "lacks key password"
    both = replace(facts, secrets={**facts.secrets, "redis": Answer(["password", "url"])})
    assert about(admission(both, wanted), "Secret redis").state == "has password, url"
    may_not = replace(facts, secrets={"redis": Answer(reason="Forbidden")})
    assert mark(about(admission(may_not, wanted), "Secret redis")) == "-"


def test_what_a_secret_holds_was_never_read():
    for name in ("cpu", "external-redis", "multi-gpu"):
        facts, _ = recorded(name)
        assert "hush" not in json.dumps([x.body for x in facts.answers.values()])
    assert facts.secrets["redis"].body == ["url"]


def test_openshift_is_told_of_its_constraint(facts, wanted):
    group = {"name": "security.openshift.io"}
    there = changed(facts, GROUPS, lambda body: body["groups"].append(group))
    assert "nonroot-v2" in about(admission(there, wanted), "OpenShift").remedy


# --- images ---------------------------------------------------------------------------------------


def held(facts, image, nodes):
    def change(body):
        for node in body["items"][:nodes]:
            node["status"]["images"] = [{"names": [image], "sizeBytes": 1}]

    return changed(facts, NODES, change)


def test_images_that_nodes_have():
    facts, wanted = recorded("cpu")
    name = "docker.io/library/redis:7.4-alpine"
    assert mark(about(images(held(facts, name, 2), wanted), "redis:7.4-alpine")) == "ok"
    some = about(images(held(facts, name, 1), wanted), "redis:7.4-alpine")
    assert (mark(some), some.state) == ("-", "on 1 of 2 nodes")
    none = about(images(facts, wanted), "redis:7.4-alpine")
    assert (mark(none), none.remedy) == ("-", "--try pulls it")


def test_an_image_without_a_registry_is_told_where_it_would_come_from():
    found = about(images(*recorded("cpu")), "rlsd-learner:0.1.0")
    assert "this is docker.io/library/rlsd-learner; set images.registry" in found.remedy


def test_names_of_images_are_shown_short():
    assert short("registry.example.com:5000/team/rlsd-learner:0.1.0") == "rlsd-learner:0.1.0"
    assert short(f"r.example.com/rlsd-rollout@sha256:{'ab' * 32}") == "rlsd-rollout@abababababab"
