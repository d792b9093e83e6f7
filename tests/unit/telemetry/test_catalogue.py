"""How metrics are declared, and what every service says of itself."""

import importlib.metadata
import time

import pytest
from prometheus_client import CollectorRegistry, Counter

from rlsd.telemetry.activity import Activity, Part, State
from rlsd.telemetry.metrics import LateGauge, ServiceMetrics, create, label_values, labelled
from scripts import metrics_page

ENDS = ("_total", "_info", *(f"_{unit}" for unit in metrics_page.UNITS))
BARE = {
    # Numbers of things, and of kinds that have no unit.
    "rlsd_service_stalled",
    "rlsd_service_ready",
    "rlsd_queue_entries",
    "rlsd_rollout_policy_version",
    "rlsd_rollout_turns",
    "rlsd_teacher_version",
    "rlsd_verifier_http_circuit_state",
    "rlsd_verifier_http_canary_state",
    "rlsd_verifier_http_waiting",
    "rlsd_verifier_http_outstanding",
    "rlsd_sandbox_places",
    "rlsd_learner_groups",
    "rlsd_learner_identity_residual",
    "rlsd_learner_credits",
    "rlsd_learner_step",
    "rlsd_learner_num_steps",
    "rlsd_learner_policy_version",
    "rlsd_learner_reward",
    "rlsd_learner_reward_mean",
    "rlsd_learner_loss",
    "rlsd_learner_grad_norm",
    "rlsd_learner_learning_rate",
    "rlsd_credit_mix_lambda",
}
FAMILIES = list(metrics_page.families())


@pytest.mark.parametrize(("metric", "labels"), [(m, ls) for _, m, ls in FAMILIES], ids=str)
def test_a_metric_has_words_a_unit_in_its_name_and_values_for_its_labels(metric, labels):
    name = metrics_page.exposed_name(metric)
    assert metric.documentation.endswith(".")
    assert name.startswith("rlsd_")
    assert name in BARE or name.endswith(ENDS)
    values = label_values(metric.name)
    assert set(labels) <= set(values)
    assert not set(labels) & {"run", "pod"}, "these are the target's"
    for label in labels:
        assert values[label] if isinstance(values[label], str) else len(set(values[label])) > 0


def test_no_list_of_exceptions_outlives_its_metrics():
    assert {metrics_page.exposed_name(m) for _, m, _ in FAMILIES} >= BARE


def test_a_counter_of_closed_labels_is_there_with_0_before_anything_happens():
    registry = CollectorRegistry()
    made = labelled(
        Counter("rlsd_made_up", "x.", ["tool", "outcome"], registry=registry),
        tool="names",
        outcome=("good", "bad"),
    )
    create(made, tool="a")
    found = {(s.labels["tool"], s.labels["outcome"]): s.value for s in made.collect()[0].samples}
    assert found == {("a", "good"): 0, ("a", "bad"): 0}


def test_a_late_gauge_is_not_there_before_it_has_a_value():
    registry = CollectorRegistry()
    gauge = LateGauge("rlsd_late", "x.", registry=registry)
    assert registry.get_sample_value("rlsd_late") is None
    gauge.set(0.0)
    assert registry.get_sample_value("rlsd_late") == 0.0


def test_a_service_says_its_states_its_life_and_its_version():
    now = [0.0]
    activity = Activity(stall_after_s=120, clock=lambda: now[0])
    activity.tick(Part.COMPUTE)
    registry, service = CollectorRegistry(), ServiceMetrics()
    registry.register(service)
    assert list(registry.collect()) == [], "before it is known which service this is"
    ready = [False]
    service.watch("rollout", activity, lambda: ready[0])

    def said(name, **labels):
        return registry.get_sample_value(name, {"service": "rollout", **labels})

    assert (said("rlsd_service_stalled"), said("rlsd_service_ready")) == (0, 0)
    now[0], ready[0] = 200.0, True
    assert (said("rlsd_service_stalled"), said("rlsd_service_ready")) == (1, 1)
    by_state = {s: said("rlsd_service_state_seconds_total", state=s.value) for s in State}
    assert by_state == dict.fromkeys(State, 0.0) | {State.STARTING: 200.0}
    assert said("rlsd_build_info", version=importlib.metadata.version("rlsd")) == 1


def test_a_scrape_of_a_busy_service_costs_less_than_a_tenth_of_a_second():
    from prometheus_client import generate_latest

    started = time.process_time()
    generate_latest()
    assert time.process_time() - started < 0.1
