"""`rlsd doctor --cluster`: server, rights, kinds."""

from dataclasses import replace

import pytest
from recorded_cluster import about, answered, changed, mark, recorded

from rlsd.cluster.access import access, server, version_of
from rlsd.cluster.asking import Answer
from rlsd.cluster.facts import VERSION, WHO
from rlsd.cluster.findings import findings


@pytest.fixture
def facts():
    return recorded("multi-gpu")[0]


@pytest.fixture
def wanted():
    return recorded("multi-gpu")[1]


def at_version(facts, version):
    return changed(facts, VERSION, lambda body: body.update(gitVersion=version))


def test_a_server_that_is_too_old_is_one_finding_and_everything_else_is_looked_at(facts, wanted):
    found = list(findings(facts, wanted))
    assert mark(found[0]) == "MISSING"
    assert found[0].state == "v1.20.2, too old"
    assert {f.group for f in found} == {
        "access", "namespace", "room", "storage", "network", "images"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("version", "is_well"),
    [("v1.28.0", True), ("v1.31.2-gke.1", True), ("v1.27.16", False), ("v2.0.0", True)],
)
def test_the_age_of_a_server(facts, version, is_well):
    assert (mark(server(at_version(facts, version))) == "ok") is is_well
    assert version_of(at_version(facts, "v1.31.2+k3s1")) == (1, 31)


def test_a_server_that_is_not_reached_is_the_only_finding(facts, wanted):
    silent = answered(facts, VERSION, Answer(reason="connection refused"))
    [only] = findings(silent, wanted)
    assert only.state == "not reachable: connection refused"
    assert mark(only) == "MISSING"


def test_kinds_that_are_not_served_name_the_values_that_do_without(facts, wanted):
    found = list(access(facts, wanted))
    assert mark(about(found, "JobSet")) == "ok"
    assert about(found, "KEDA").remedy == "install it, or set autoscaling.*.mode: none"
    assert mark(about(found, "LeaderWorkerSet")) == "MISSING"
    assert "podDisruptionBudgets.enabled: false" in about(found, "PodDisruptionBudget").remedy
    assert not [f for f in found if f.what == "Deployment"]


def test_a_release_that_asks_for_no_controller_hears_of_none():
    found = [f.what for f in access(*recorded("cpu"))]
    assert found == ["user", "rights"]


def test_what_we_may_not_do_is_said_by_kind(facts, wanted):
    refused = {"create apps/deployments": Answer(False), "patch apps/deployments": Answer(False)}
    refused["create networking.k8s.io/networkpolicies"] = Answer(False)
    assert refused.keys() <= facts.may.keys()
    rights = about(access(replace(facts, may={**facts.may, **refused}), wanted), "rights")
    assert mark(rights) == "MISSING"
    assert "may not create, patch apps/deployments; create networking" in rights.state


def test_helms_own_record_needs_secrets(facts):
    assert {f"{verb} secrets" for verb in ("get", "list", "create", "update")} <= facts.may.keys()


def test_rights_that_the_server_does_not_tell_are_not_known(facts, wanted):
    may = {**facts.may, "create secrets": Answer(reason="Forbidden")}
    rights = about(access(replace(facts, may=may), wanted), "rights")
    assert (mark(rights), rights.state) == ("-", "not known")


def test_who_we_are_where_the_server_says_it(facts, wanted):
    body = {"status": {"userInfo": {"username": "system:serviceaccount:ci:installer"}}}
    user = about(access(answered(facts, WHO, Answer(body)), wanted), "user")
    assert user.state == "system:serviceaccount:ci:installer"
    assert mark(about(access(facts, wanted), "user")) == "-"


def test_replicas_by_cpu_need_metrics(facts, wanted):
    assert mark(about(access(facts, wanted), "CPU metrics")) == "MISSING"
    group = {"name": "metrics.k8s.io"}
    with_metrics = changed(facts, "/apis", lambda body: body["groups"].append(group))
    assert not [f for f in access(with_metrics, wanted) if f.what == "CPU metrics"]
