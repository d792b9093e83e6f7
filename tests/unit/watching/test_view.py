"""The figures of a run, out of what its parts answered."""

import pytest
from watching_readings import NOW_S, make_reading

from rlsd.watching.asking import Queues
from rlsd.watching.view import make_view


def test_a_step_takes_all_its_phases_and_the_rest_of_the_run_that_often():
    view = make_view(make_reading())
    assert view.step_s == 2.0
    assert view.steps_per_hour == 1800
    assert view.eta_s == 200.0  # 100 steps are left


def test_a_run_at_its_last_step_has_nothing_left():
    assert make_view(make_reading(step=110)).eta_s == 0.0


def test_before_the_first_step_nobody_knows_how_long_it_takes():
    line = 'rlsd_learner_step_duration_seconds_count{phase="train"} 10'
    view = make_view(make_reading(pages={"learner": (line, line.replace(" 10", " 0"))}, step=0))
    assert (view.step_s, view.eta_s, view.learning.reward) == (None, None, None)


def test_a_pace_is_that_of_the_last_minute():
    before = make_reading(at_s=NOW_S - 60)
    faster = (
        '_count{phase="train"} 10\nrlsd_learner_step_duration_seconds_sum{phase="train"} 15',
        '_count{phase="train"} 20\nrlsd_learner_step_duration_seconds_sum{phase="train"} 20',
    )
    view = make_view(make_reading(pages={"learner": faster}), before)
    assert view.step_s == 0.5
    assert view.span_s == 60


def test_without_a_step_in_the_span_the_pace_is_that_of_the_whole_run():
    assert make_view(make_reading(), make_reading(at_s=NOW_S - 60)).step_s == 2.0


def test_the_account_closes_or_says_by_how_much_it_does_not():
    account = make_view(make_reading()).account
    assert (account.admitted, account.trained, account.in_flight) == (100, 60, 8)
    assert (account.residual, account.trained_twice) == (0, 0)
    assert make_view(make_reading(admitted=103)).account.residual == 3


def test_time_is_shared_out_over_the_states_that_had_any():
    learner = make_view(make_reading()).services[0]
    assert learner.shares == {"busy": 0.75, "waiting_for_work": 0.25}


def test_shares_are_those_of_the_span():
    before = make_reading(at_s=NOW_S - 60)
    waited = ('state="waiting_for_work"} 25', 'state="waiting_for_work"} 85')
    view = make_view(make_reading(pages={"learner": waited}), before)
    assert view.services[0].shares == {"waiting_for_work": 1.0}


def test_versions_are_told_where_there_are_any():
    versions = {s.name: s.version for s in make_view(make_reading()).services}
    assert versions == {"learner": 10, "rollout": 10, "verifier": None, "teacher": None}


def test_verdicts_and_the_share_that_came_to_nothing():
    verdicts = make_view(make_reading()).verdicts
    assert verdicts.outcomes == {"pass": 60, "fail": 39, "error": 1}
    assert verdicts.error_share == 0.01


def test_deliveries_are_summed_over_the_services():
    delivery = make_view(make_reading()).delivery
    assert (delivery.redeliveries, delivery.given_up, delivery.dead_letters) == (3, 1, 0)
    assert delivery.memory_share == 0.1


def test_a_redis_without_a_limit_is_never_full():
    line = ("rlsd_queue_memory_limit_bytes 1000", "rlsd_queue_memory_limit_bytes 0")
    assert make_view(make_reading(pages={"learner": line})).delivery.memory_share is None


def test_weights_take_as_long_as_their_phases_after_each_other_and_a_pause_is_part_of_one():
    assert make_view(make_reading()).sync_s == pytest.approx({"learner": 0.5, "rollout": 0.3})


def test_the_largest_staleness_lies_between_two_bounds():
    staleness = make_view(make_reading()).staleness
    assert (staleness.above, staleness.at_most) == (0, 1)


def test_what_nobody_answered_is_unknown():
    view = make_view(make_reading(silent=("learner",), queues=Queues(silence="down")))
    assert (view.step, view.account, view.queue) == (None, None, None)
    assert view.queue_silence == "down"
