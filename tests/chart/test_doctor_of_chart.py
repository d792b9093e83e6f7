"""`rlsd doctor --cluster` reads every workload that the chart can render."""

import json

import pytest

from rlsd.cluster.attempts import attempts
from rlsd.cluster.facts import Facts
from rlsd.cluster.findings import findings
from rlsd.cluster.wanted import Wanted
from tests.chart.rendering import VALUE_SETS, pods, rendered
from tests.chart.scenario import RECORDED
from tests.recorded_cluster import recorded

pytestmark = pytest.mark.chart


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_no_pod_of_the_chart_is_overlooked(value_set):
    documents = rendered(value_set)
    wanted = Wanted(documents)
    seen = [json.dumps(one.spec, sort_keys=True) for one in (*wanted.pods, *wanted.test_pods)]
    there = [json.dumps(one["spec"], sort_keys=True) for _, one in pods(documents)]
    assert sorted(seen) == sorted(there)


@pytest.mark.parametrize("value_set", VALUE_SETS)
def test_every_value_set_has_findings_and_attempts(value_set):
    wanted, facts = Wanted(rendered(value_set)), recorded("multi-gpu")[0]
    assert len(list(findings(facts, wanted))) > 10
    unread = Facts(namespace="training", answers=facts.answers, secrets=_no_secrets(wanted))
    assert {x.image for x in attempts(unread, wanted, "abc", 600)} == set(wanted.images)


def _no_secrets(wanted):
    given = recorded("multi-gpu")[0].secrets
    return {name: given["registry"] for name in wanted.secrets}


@pytest.mark.parametrize("value_set", RECORDED)
def test_the_recorded_objects_ask_for_what_the_chart_asks_for_today(value_set):
    """Else record anew: python -m tests.chart.scenario."""
    old, new = recorded(value_set)[1], Wanted(rendered(value_set))
    for part in ("kinds", "secrets", "old_claims", "queues", "devices"):
        assert getattr(old, part) == getattr(new, part), part
    assert set(old.images) == set(new.images)
    asked = [[(p.component, p.count, p.most, p.requests) for p in x.pods] for x in (old, new)]
    assert asked[0] == asked[1]
