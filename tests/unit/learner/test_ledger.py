from dataclasses import replace

import pytest
from builders import make_group, make_trajectory
from hypothesis import given
from hypothesis import strategies as st

from rlsd.trajectory import GroupOutcome, failure_kind
from services.learner.ledger import Ledger, decide

OUTCOMES = [
    (GroupOutcome.TRAINED, ""),
    (GroupOutcome.REJECTED, "zero_variance"),
    (GroupOutcome.FAILED, "EngineError: out of memory"),
]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(OUTCOMES)), max_size=40))
def test_every_admitted_group_has_one_outcome_or_is_in_flight(history):
    ledger = Ledger()
    for index, (is_back, (outcome, reason)) in enumerate(history):
        ledger.admit([index])
        if is_back:
            ledger.resolve(make_group(index=index, outcome=outcome, reason=reason))
    outcomes = ledger.outcomes()
    assert ledger.residual == 0
    assert outcomes["admitted"] == len(history)
    assert outcomes["in_flight"] == sum(not is_back for is_back, _ in history)


def test_a_second_outcome_for_a_group_is_a_broken_invariant():
    ledger = Ledger()
    ledger.resolve(make_group(index=1, outcome=GroupOutcome.TRAINED))
    with pytest.raises(AssertionError, match="g00000001 has an outcome already"):
        ledger.resolve(make_group(index=1, outcome=GroupOutcome.TRAINED))


def test_next_indices_fill_the_gaps_a_restart_left():
    ledger = Ledger()
    for index in (0, 1, 4):
        ledger.resolve(make_group(index=index, outcome=GroupOutcome.TRAINED))
    ledger.admit([2])
    assert ledger.next_indices(3, stop=None) == [3, 5, 6]
    assert ledger.next_indices(3, stop=6) == [3, 5]


def test_failures_are_counted_by_the_kind_of_error():
    assert failure_kind("EngineError: x: y") == "EngineError"
    assert failure_kind("no outcome after 3 deliveries") == "unknown"


def test_a_group_with_verdicts_is_trained():
    assert decide(make_group(), learner_version=0, max_staleness=0).outcome is GroupOutcome.TRAINED


def test_an_error_is_no_reward_and_a_group_with_one_verdict_left_is_rejected():
    group = make_group(rewards=(1.0, None, None))
    decided = decide(group, learner_version=0, max_staleness=0)
    assert (decided.outcome, decided.reason) == (GroupOutcome.REJECTED, "no_verdict")


def test_a_group_from_too_old_weights_is_rejected():
    group = make_group(trajectories=(make_trajectory(0), make_trajectory(1, reward=0.0)))
    assert decide(group, learner_version=1, max_staleness=1).outcome is GroupOutcome.TRAINED
    decided = decide(group, learner_version=2, max_staleness=1)
    assert (decided.outcome, decided.reason) == (GroupOutcome.REJECTED, "stale")


def test_an_outcome_that_a_stage_gave_stands():
    group = replace(make_group(), outcome=GroupOutcome.FAILED, reason="EngineError: x")
    assert decide(group, learner_version=99, max_staleness=0) == group
