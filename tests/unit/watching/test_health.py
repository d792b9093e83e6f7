"""What is wrong with a run, each thing in its words, and a healthy run that has none."""

import pytest
from watching_readings import activity, make_reading

from rlsd.telemetry.activity import State
from rlsd.watching.asking import Queues
from rlsd.watching.health import problems
from rlsd.watching.view import make_view


def found(**changes):
    return problems(make_view(make_reading(**changes)))


def page(service, old, new):
    return {"pages": {service: (old, new)}}


def test_a_run_that_is_well_has_no_problem():
    assert found() == []


LAST_STEP = "rlsd_learner_last_step_timestamp_seconds 999990"
WAITS = {"learner": activity(State.WAITING_FOR_WORK, "groups: 16 at rollout")}


def no_step_for(seconds):
    return page("learner", LAST_STEP, LAST_STEP.replace("999990", str(1_000_000 - seconds)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"admitted": 101}, "groups without an outcome: 1;"),
        (
            page("learner", "trained_twice_total 0", "trained_twice_total 2"),
            "groups trained twice: 2;",
        ),
        ({"silent": ("rollout",)}, "rollout: not reachable at h:1"),
        (
            {"activities": {"teacher": activity(stalled="loop: no progress for 3 min 0 s")}},
            "teacher has stalled: loop: no progress",
        ),
        (
            page("verifier", 'ready{service="verifier"} 1', 'ready{service="verifier"} 0'),
            "verifier is not ready",
        ),
        (no_step_for(901), "no step for 15 min 1 s: the learner is busy"),
        (
            {**no_step_for(1801), "activities": WAITS},
            "starved: no step for 30 min 1 s, the learner waits for groups: 16 at rollout",
        ),
        (
            page("verifier", 'outcome="error"} 1', 'outcome="error"} 11'),
            "10% of verdicts are errors or timeouts (bound 7.2%)",
        ),
        (
            page("learner", "mismatch_kl_nats 0.0004", "mismatch_kl_nats 0.051"),
            "rollout and learner disagree on log-probs: KL 0.051 nats",
        ),
        (
            page("learner", "nonfinite_steps_total 0", "nonfinite_steps_total 1"),
            "steps not taken, loss or gradient not finite: 1",
        ),
        (
            page("learner", "leakage_ratio 0.004", "leakage_ratio 0.2"),
            "20% of completions cite what only the teacher has read",
        ),
        (
            page("learner", 'le="1.0"} 40', 'le="1.0"} 39'),
            "trained on groups more than 1 versions old (bound 1)",
        ),
        (
            page(
                "rollout", 'letters_total{stage="rollout"} 1', 'letters_total{stage="rollout"} 21'
            ),
            "groups given up: 21;",
        ),
        (
            page("learner", "memory_used_bytes 100", "memory_used_bytes 801"),
            "redis uses 80% of the memory it may",
        ),
        ({"queues": Queues(silence="no answer within 3 s")}, "redis: no answer within 3 s"),
    ],
)
def test_each_thing_that_is_wrong_has_its_words(changes, words):
    [line] = found(**changes)
    assert line.startswith(words)


BUCKETS = """\
rlsd_learner_staleness_versions_bucket{part="total",le="1.0"} 40
rlsd_learner_staleness_versions_bucket{part="total",le="2.0"} 40
rlsd_learner_staleness_versions_bucket{part="total",le="+Inf"} 40
rlsd_learner_staleness_limit_versions 1"""
FIVE_LATE = """\
rlsd_learner_staleness_versions_bucket{part="total",le="4.0"} 39
rlsd_learner_staleness_versions_bucket{part="total",le="6.0"} 40
rlsd_learner_staleness_versions_bucket{part="total",le="+Inf"} 40
rlsd_learner_staleness_limit_versions """


def test_five_versions_lie_in_a_bucket_up_to_six_and_that_is_no_six():
    assert found(**page("learner", BUCKETS, FIVE_LATE + "5")) == []
    [line] = found(**page("learner", BUCKETS, FIVE_LATE + "4"))
    assert line == "trained on groups more than 4 versions old (bound 4)"


@pytest.mark.parametrize(
    "changes",
    [
        no_step_for(900),
        {**no_step_for(1800), "activities": WAITS},
        page("verifier", 'outcome="error"} 1', 'outcome="error"} 7'),
        page("learner", "memory_used_bytes 100", "memory_used_bytes 800"),
        page("learner", BUCKETS, FIVE_LATE + "5"),
    ],
)
def test_what_is_within_its_bound_is_well(changes):
    assert found(**changes) == []


@pytest.mark.parametrize(("since_s", "num_problems"), [(10_800, 0), (10_803, 1)])
def test_a_run_whose_steps_take_an_hour_is_given_three_hours(since_s, num_problems):
    counted = 'rlsd_learner_step_duration_seconds_count{phase="train"} 10'
    summed = 'rlsd_learner_step_duration_seconds_sum{phase="train"}'
    hourly = (
        f"{LAST_STEP}\n{counted}\n{summed} 15\n",
        f"rlsd_learner_last_step_timestamp_seconds {1_000_000 - since_s}\n"
        f"{counted}\n{summed} 36000\n",
    )
    view = make_view(make_reading(pages={"learner": hourly}, num_steps=20))
    assert view.step_s == pytest.approx(3600.5)
    assert len(problems(view)) == num_problems


def test_a_few_verdicts_say_nothing_about_their_share():
    few = (
        'outcome="pass"} 60\nrlsd_verifier_verdicts_total{kind="math",outcome="fail"} 39',
        'outcome="pass"} 3\nrlsd_verifier_verdicts_total{kind="math",outcome="fail"} 3',
    )
    assert found(pages={"verifier": few}) == []


def test_an_open_circuit_and_a_failed_canary_are_named():
    old = 'rlsd_service_ready{service="verifier"} 1'
    new = (
        f'{old}\nrlsd_verifier_http_circuit_state{{verifier="judge"}} 2\n'
        'rlsd_verifier_http_canary_state{verifier="ours"} 2'
    )
    assert found(**page("verifier", old, new)) == [
        "verifier 'ours' is not believed: it was wrong about a canary",
        "verifier 'judge' is not asked: its circuit is open",
    ]


def test_a_stage_without_weights_before_the_first_version_is_as_it_should_be():
    starting = page("teacher", 'ready{service="teacher"} 1', 'ready{service="teacher"} 0')
    waits = {"teacher": activity(State.WAITING_FOR_WEIGHTS, "version 0")}
    assert found(**starting, activities=waits) == []


def test_the_gravest_comes_first():
    lines = found(silent=("rollout",), admitted=101)
    assert lines[0].startswith("groups without an outcome: 1")
