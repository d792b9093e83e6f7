"""NetworkPolicies let through what the processes do, and nothing else.

`CALLS` is the call graph of the code: queues (`rlsd/streams/redis.py`), gRPC (`rlsd/serving`),
weights (files on a volume: no edge), outside verifiers and the hub.
"""

import pytest

from tests.chart.rendering import VALUE_SETS, named, of_kind, pods, rendered

pytestmark = pytest.mark.chart

REDIS = {("rollout", 6379), ("verifier", 6379), ("teacher", 6379), ("learner", 6379)}
STAGES = {"rollout": 50051, "verifier": 50052, "teacher": 50053}
CALLS = {
    (caller, callee, port)
    for callee, port in STAGES.items()
    for caller in ("learner", "test")  # the learner: evaluations, and all work over grpc
} | {("test", "learner", 50054)}
CALLS |= {("learner", stage, 9464) for stage in STAGES}  # rlsd status, from the learner's pod
QUEUED = {(caller, "redis", port) for caller, port in REDIS}
ON_RAY = {(caller, "ray", 9000) for caller in ("learner", "test")} | {
    ("test", "learner", 50054),
    ("ray", "ray", None),
}
EDGES = {
    "default": CALLS | QUEUED,
    "cpu": CALLS | QUEUED,
    "control-plane-1.20": CALLS | QUEUED,
    "external-redis": CALLS,
    "s3": CALLS | QUEUED,
    "multi-gpu": CALLS | {("learner", "learner", None), ("rollout", "rollout", None)},
    "ray": ON_RAY,
}
DNS = "namespace kube-system"
OUTSIDE = {
    "default": set(),
    "cpu": set(),
    "control-plane-1.20": set(),
    "ray": set(),
    "s3": {(who, "namespace minio", 9000) for who in ("rollout", "teacher", "learner")},
    "external-redis": {
        *((who, "namespace redis", 6379) for who in (*STAGES, "learner")),
        *((who, "0.0.0.0/0", 443) for who in ("rollout", "teacher", "learner")),
    },
    "multi-gpu": {
        *((who, "10.1.2.0/24", 6380) for who in (*STAGES, "learner")),
        ("verifier", "namespace verifiers", 8443),
    },
}


def components(selector):
    """The components that a pod selector names, without their further nodes and tests."""
    labels = dict(selector.get("matchLabels", {}))
    assert labels.pop("app.kubernetes.io/instance") == "r"
    found = (
        {labels["app.kubernetes.io/component"]}
        if "app.kubernetes.io/component" in labels
        else set()
    )
    for expression in selector.get("matchExpressions", []):
        found |= set(expression["values"])
    return {x for x in found if not x.endswith(("-node", "-test"))}


def edges(documents, direction):
    """(who, whom, port) inside the release and outside it, as the policies of one direction say."""
    inside, outside = set(), set()
    side = {"egress": "to", "ingress": "from"}[direction]
    for policy in of_kind(documents, "NetworkPolicy"):
        spec = policy["spec"]
        for rule in spec.get(direction) or []:
            for who in components(spec["podSelector"]):
                for peer in rule[side]:
                    for port in [x["port"] for x in rule.get("ports", [])] or [None]:
                        if set(peer) == {"podSelector"}:
                            for other in components(peer["podSelector"]):
                                inside.add((who, other, port))
                        elif "ipBlock" in peer:
                            outside.add((who, peer["ipBlock"]["cidr"], port))
                        else:
                            labels = peer["namespaceSelector"]["matchLabels"]
                            space = labels["kubernetes.io/metadata.name"]
                            outside.add((who, f"namespace {space}", port))
    return inside, outside


@pytest.mark.parametrize("name", VALUE_SETS)
def test_the_edges_are_the_call_graph(name):
    calls, outside = edges(rendered(name), "egress")
    accepted, callers = edges(rendered(name), "ingress")
    assert calls == EDGES[name]
    assert {(caller, callee, port) for callee, caller, port in accepted} == EDGES[name]
    names = {(who, whom, port) for who, whom, port in outside if port == 53}
    assert outside - names == OUTSIDE[name]
    assert {whom for _, whom, _ in names} <= {DNS, "169.254.20.10/32"}
    operators = {"namespace monitoring": 9464, "namespace kuberay": 8265, "namespace keda": 6379}
    assert all(operators[whom] == port for _, whom, port in callers)
    scraped = {who for who, whom, _ in callers if whom == "namespace monitoring"}
    assert scraped == ({"ray", "learner"} if name == "ray" else {*STAGES, "learner"})


def test_rollout_may_call_the_verifier_when_a_tool_is_one_of_its_checks():
    tool = "config.tools.use.run"
    documents = rendered(
        "default",
        f"{tool}.kind=verifier",
        f"{tool}.verifier=code",
        f"{tool}.argument=program",
        f"{tool}.description=Runs it.",
    )
    edge = ("rollout", "verifier", 50052)
    assert edge in edges(documents, "egress")[0]
    assert ("verifier", "rollout", 50052) in edges(documents, "ingress")[0]
    assert edge not in edges(rendered("default"), "egress")[0]


def test_every_service_is_told_of_the_collector_and_reaches_it():
    documents = rendered(
        "default",
        "tracing.endpoint=http://collector.observability:4317",
        "tracing.egress[0].namespace=observability",
        "tracing.egress[0].port=4317",
    )
    _, outside = edges(documents, "egress")
    services = {*STAGES, "learner"}
    assert {(who, "namespace observability", 4317) for who in services} == {
        found for found in outside if found[2] == 4317
    }
    told = {
        container["name"]
        for _, pod in pods(documents)
        for container in pod["spec"]["containers"]
        for variable in container.get("env", [])
        if variable["name"] == "OTEL_EXPORTER_OTLP_ENDPOINT"
    }
    assert told == services


@pytest.mark.parametrize("name", VALUE_SETS)
def test_every_pod_is_closed_but_for_what_is_named(name):
    nothing = named(rendered(name), "NetworkPolicy", "r-nothing")["spec"]
    assert nothing == {
        "podSelector": {
            "matchLabels": {"app.kubernetes.io/name": "rlsd", "app.kubernetes.io/instance": "r"}
        },
        "policyTypes": ["Ingress", "Egress"],
    }
    for where, pod in pods(rendered(name)):
        labels = pod["metadata"]["labels"].items()
        assert nothing["podSelector"]["matchLabels"].items() <= labels, where


def test_a_verifier_that_needs_nobody_reaches_nobody_and_resolves_no_names():
    documents = rendered("default", "config.run.transport=grpc")
    policy = named(documents, "NetworkPolicy", "r-verifier")["spec"]
    assert policy["egress"] == []
    assert not of_kind(documents, "StatefulSet")  # nor is there a Redis


def test_the_isolation_test_is_under_the_verifiers_own_policy():
    policy = named(rendered("default"), "NetworkPolicy", "r-verifier")["spec"]
    pod = named(rendered("default"), "Pod", "r-test-isolation")
    component = pod["metadata"]["labels"]["app.kubernetes.io/component"]
    assert component in policy["podSelector"]["matchExpressions"][0]["values"]
    service = named(rendered("default"), "Service", "r-verifier")["spec"]
    assert not service["selector"].items() <= pod["metadata"]["labels"].items()


def test_keda_may_ask_the_bundled_redis_and_nobody_else():
    documents = rendered("default", "autoscaling.verifier.mode=keda")
    _, callers = edges(documents, "ingress")
    assert ("redis", "namespace keda", 6379) in callers


def test_an_engine_server_is_on_loopback_and_has_no_port():
    documents = rendered("multi-gpu")
    for where, pod in pods(documents):
        for container in pod["spec"]["containers"]:
            if container["name"] == "engine":
                assert "ports" not in container, where
                assert "--host=127.0.0.1" in container["args"]
