"""`rlsd doctor --cluster`: nodes, devices, and how a release spreads."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_cluster import about, answered, asking, changed, mark, recorded

from rlsd.cluster.asking import Answer
from rlsd.cluster.facts import AUTOSCALER, GROUPS, NODES, PODS
from rlsd.cluster.nodes import Item, Node, nodes_of, place
from rlsd.cluster.quantities import quantity, words
from rlsd.cluster.room import TOGETHER, room
from rlsd.cluster.storage import on_one_node
from rlsd.cluster.wanted import total

GPU = "nvidia.com/gpu"


@pytest.fixture
def facts():
    return recorded("external-redis")[0]


@pytest.fixture
def wanted():
    return recorded("external-redis")[1]


def seen(facts, wanted, together=frozenset()):
    return list(room(facts, wanted, together=set(together)))


def with_gpus(facts, *counts):
    def change(body):
        for node, count in zip(body["items"], counts, strict=True):
            node["status"]["allocatable"][GPU] = str(count)

    return changed(facts, NODES, change)


def gpus_of(wanted, component, count):
    def change(objects):
        for one in objects:
            if one["metadata"]["name"] == f"run-{component}" and one["kind"] == "Deployment":
                resources = one["spec"]["template"]["spec"]["containers"][0]["resources"]
                resources["requests"][GPU] = resources["limits"][GPU] = count

    return asking(wanted, change)


def test_devices_of_running_pods_are_not_free(facts, wanted):
    found = about(seen(facts, wanted), GPU)
    assert found.state == "10 of 16 free on 2 nodes; most on one: 8 (gpu-node-2)"


def test_pods_that_have_ended_hold_nothing():
    assert "status.phase%21%3DSucceeded" in PODS
    assert "status.phase%21%3DFailed" in PODS


def test_a_pod_larger_than_what_any_node_has_free_says_by_how_much(facts, wanted):
    found = seen(with_gpus(facts, 8, 2), gpus_of(wanted, "teacher", 4))
    teacher = about(found, "teacher")
    assert mark(teacher) == "MISSING"
    assert teacher.remedy == (
        "needs a node with 4 nvidia.com/gpu free, the largest has 2 nvidia.com/gpu (gpu-node-2)"
    )


def test_a_taint_that_the_values_do_not_tolerate_is_named(facts, wanted):
    """gpu-node-1 is tainted and has six devices left; the release wants six."""
    found = seen(with_gpus(facts, 12, 4), wanted)
    said = [f for f in found if f.remedy]
    assert said
    assert all(
        "kept out: gpu-node-1 tainted nvidia.com/gpu=present:NoSchedule" in f.remedy for f in said
    )

    def tolerate(objects):
        for one in objects:
            if template := (one.get("spec") or {}).get("template"):
                template["spec"]["tolerations"] = [{"key": GPU, "operator": "Exists"}]

    assert not [f for f in seen(with_gpus(facts, 12, 4), asking(wanted, tolerate)) if f.remedy]


def test_what_the_others_take_is_said(facts, wanted):
    found = seen(with_gpus(facts, 8, 4), wanted)
    rollout = next(f for f in found if f.remedy)
    assert "no room beside the others: 0 nvidia.com/gpu left on gpu-node-2" in rollout.remedy


def test_no_device_plugin(facts, wanted):
    def change(body):
        for node in body["items"]:
            del node["status"]["allocatable"][GPU]

    found = about(seen(changed(facts, NODES, change), wanted), GPU)
    assert (mark(found), found.state) == ("MISSING", "no node offers it")
    assert "device plugin" in found.remedy


def test_another_name_of_the_device_is_offered_as_a_value(facts, wanted):
    def change(body):
        for node in body["items"]:
            node["status"]["allocatable"]["amd.com/gpu"] = node["status"]["allocatable"].pop(GPU)

    found = about(seen(changed(facts, NODES, change), wanted), GPU)
    assert "nodes offer amd.com/gpu (gpuResource)" in found.remedy


@pytest.mark.parametrize(
    ("change", "words_"),
    [
        (lambda node: node["spec"].update(unschedulable=True), "cordoned"),
        (lambda node: node["status"]["conditions"][0].update(status="Unknown"), "not ready"),
    ],
)
def test_nodes_that_take_nothing(facts, wanted, change, words_):
    found = seen(changed(facts, NODES, lambda body: [change(n) for n in body["items"]]), wanted)
    assert about(found, "nodes").state == "0 of 2 ready"
    assert f"no node takes it: 2 nodes (gpu-node-1, …) {words_}" in about(found, "verifier").remedy


def test_where_somebody_adds_nodes_a_lack_is_no_fault(facts, wanted):
    small = with_gpus(facts, 0, 0)
    karpenter = changed(small, GROUPS, lambda b: b["groups"].append({"name": "karpenter.sh"}))
    scaler = answered(small, AUTOSCALER, Answer({"kind": "ConfigMap"}))
    for grown, who in ((karpenter, "Karpenter"), (scaler, "the cluster autoscaler")):
        rollout = about(seen(grown, wanted), "rollout")
        assert mark(rollout) == "-"
        assert rollout.remedy.endswith(f"{who} may add nodes")


def test_a_claim_of_one_node_holds_its_pods_together():
    facts, wanted = recorded("cpu")
    together = on_one_node(facts, wanted)
    assert together == {"run-runs"}
    found = about(seen(facts, wanted, together), TOGETHER)
    assert found.state.startswith("rollout, teacher, learner (by their claim): 3 CPU, 4 GiB")
    assert mark(found) == "ok"

    def change(body):
        for node in body["items"]:
            node["status"]["allocatable"]["cpu"] = "2500m"

    small = about(seen(changed(facts, NODES, change), wanted, together), TOGETHER)
    assert mark(small) == "MISSING"
    assert "needs a node with 3 CPU free" in small.remedy


def test_replicas_of_autoscaling_are_a_wish(facts, wanted):
    assert about(seen(facts, wanted), "autoscaling").state == "up to verifier 16: there is room"

    def change(body):
        for node in body["items"]:
            node["status"]["allocatable"]["cpu"] = "12"

    found = about(seen(changed(facts, NODES, change), wanted), "autoscaling")
    assert mark(found) == "-"
    assert "pods would stay Pending (verifier)" in found.remedy


@pytest.mark.parametrize("path", [NODES, PODS])
def test_who_may_not_look_is_told_so(facts, wanted, path):
    [only] = seen(answered(facts, path, Answer(reason="Forbidden")), wanted)
    assert mark(only) == "-"
    assert "may not list" in only.state


def node(name="n", *, taints=(), labels=None, free=None):
    body = {
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"taints": list(taints)},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    amounts = {r: Decimal(x) for r, x in (free or {"cpu": 1, "pods": 10}).items()}
    return Node(name, amounts, amounts, body)


GPU_TAINT = {"key": "gpu", "value": "a", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("toleration", "takes"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "gpu", "value": "a"}, True),
        ({"key": "gpu", "value": "b"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
)
def test_tolerations_as_the_scheduler_reads_them(toleration, takes):
    assert (node(taints=[GPU_TAINT]).takes({"tolerations": [toleration]}) == "") is takes


def test_a_preference_keeps_nobody_out():
    assert node(taints=[{"key": "x", "effect": "PreferNoSchedule"}]).takes({}) == ""


@pytest.mark.parametrize(
    ("expression", "takes"),
    [
        ({"key": "kind", "operator": "In", "values": ["h200", "h100"]}, True),
        ({"key": "kind", "operator": "NotIn", "values": ["h200"]}, False),
        ({"key": "kind", "operator": "Exists"}, True),
        ({"key": "zone", "operator": "Exists"}, False),
        ({"key": "zone", "operator": "DoesNotExist"}, True),
        ({"key": "size", "operator": "Gt", "values": ["7"]}, True),
        ({"key": "size", "operator": "Lt", "values": ["7"]}, False),
    ],
)
def test_required_affinity_as_the_scheduler_reads_it(expression, takes):
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    one = node(labels={"kind": "h200", "size": "8"})
    assert (one.takes({"affinity": affinity}) == "") is takes


def test_a_selector_has_to_hold():
    assert node(labels={"a": "b"}).takes({"nodeSelector": {"a": "b"}}) == ""
    assert node().takes({"nodeSelector": {"a": "b"}}) == "without label a=b"


@given(
    free=st.lists(st.integers(0, 16), min_size=1, max_size=6),
    size=st.integers(1, 8),
    count=st.integers(0, 12),
)
def test_of_equal_pods_as_many_find_a_place_as_there_are_places(free, size, count):
    nodes = [node(str(n), free={GPU: x, "pods": 100}) for n, x in enumerate(free)]
    item = Item(name="rollout", specs=[{}], requests={GPU: Decimal(size)})
    places = sum(x // size for x in free)
    assert len(place([item] * count, nodes)) == max(0, count - places)


def test_the_largest_are_placed_first_and_where_least_is_left():
    nodes = [node("a", free={GPU: 8, "pods": 9}), node("b", free={GPU: 4, "pods": 9})]
    small = [Item(name="s", specs=[{}], requests={GPU: Decimal(2)})] * 2
    large = [Item(name="l", specs=[{}], requests={GPU: Decimal(8)})]
    assert place([*small, *large], nodes) == []


def test_a_nodes_pods_are_counted_too():
    nodes = [node(free={"cpu": 100, "pods": 2})]
    one = Item(name="v", specs=[{}], requests={"cpu": Decimal(1)})
    [(_, why)] = place([one] * 3, nodes)
    assert "0 pods left" in why


def test_a_request_is_taken_for_the_limit_where_only_that_is_given(facts):
    found = nodes_of(facts.at(NODES).items, facts.at(PODS).items)
    [busy] = [n for n in found if n.name == "gpu-node-1"]
    assert (busy.free[GPU], busy.free["cpu"]) == (2, 30)


@pytest.mark.parametrize(
    ("given_", "is_"),
    [("250m", "0.25"), ("16Gi", str(16 * 2**30)), ("1e3", "1000"), ("2k", "2000"), (4, "4"),
     ("0.5", "0.5"), ("100M", "100000000"), ("1Ki", "1024")],
)  # fmt: skip
def test_quantities(given_, is_):
    assert quantity(given_) == Decimal(is_)


def test_a_word_is_no_quantity():
    with pytest.raises(ValueError, match="no quantity"):
        quantity("lots")


def test_quantities_in_words():
    assert words("requests.memory", quantity("1536Mi")) == "1.5 GiB of memory"
    assert words(GPU, Decimal(8)) == "8 nvidia.com/gpu"


def test_a_pod_goes_where_it_leaves_least_so_that_others_find_a_place():
    nodes = [node("a", free={GPU: 6, "pods": 9}), node("b", free={GPU: 4, "pods": 9})]
    items = [Item(name="x", specs=[{}], requests={GPU: Decimal(n)}) for n in (4, 3, 3)]
    assert place(items, nodes) == []


def test_a_limit_alone_is_a_request():
    resources = {"limits": {GPU: "6", "cpu": "4"}, "requests": {"cpu": "2"}}
    assert total({"containers": [{"resources": resources}]}, "requests") == {GPU: 6, "cpu": 2}
