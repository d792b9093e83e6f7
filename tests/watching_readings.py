"""Readings of a run that is well, and whatever a test makes of them."""

from rlsd.streams.stage import Stage
from rlsd.telemetry.activity import Snapshot, State
from rlsd.watching.asking import Answer, Backlog, Queues
from rlsd.watching.reading import Reading, Told
from rlsd.watching.samples import Samples
from rlsd.wire.v1 import learner_service_pb2, rollout_service_pb2, teacher_service_pb2

NOW_S = 1_000_000.0

LEARNER = """
rlsd_run_info{method="rlsd",model="base",transport="redis",config_sha256="0"} 1
rlsd_service_ready{service="learner"} 1
rlsd_service_state_seconds_total{service="learner",state="busy"} 75
rlsd_service_state_seconds_total{service="learner",state="waiting_for_work"} 25
rlsd_service_state_seconds_total{service="learner",state="stopping"} 0
rlsd_learner_last_step_timestamp_seconds 999990
rlsd_learner_step_duration_seconds_count{phase="train"} 10
rlsd_learner_step_duration_seconds_sum{phase="train"} 15
rlsd_learner_step_duration_seconds_count{phase="wait"} 10
rlsd_learner_step_duration_seconds_sum{phase="wait"} 5
rlsd_learner_trained_twice_total 0
rlsd_learner_reward_mean 0.5
rlsd_learner_groups_judged_total{kind="math",outcome="mixed"} 30
rlsd_learner_groups_judged_total{kind="math",outcome="all_fail"} 10
rlsd_learner_nonfinite_steps_total 0
rlsd_learner_logprob_gap_nats{stat="mean"} 0.001
rlsd_learner_logprob_gap_nats{stat="p99"} 0.02
rlsd_learner_logprob_gap_nats{stat="max"} 0.3
rlsd_learner_mismatch_kl_nats 0.0004
rlsd_learner_staleness_versions_bucket{part="total",le="0.0"} 20
rlsd_learner_staleness_versions_bucket{part="total",le="1.0"} 40
rlsd_learner_staleness_versions_bucket{part="total",le="2.0"} 40
rlsd_learner_staleness_versions_bucket{part="total",le="+Inf"} 40
rlsd_learner_staleness_limit_versions 1
rlsd_credit_delta_abs_mean_nats 0.25
rlsd_credit_mix_lambda 0.5
rlsd_credit_weight_clip_ratio{side="low"} 0.01
rlsd_credit_weight_clip_ratio{side="high"} 0.04
rlsd_credit_leakage_ratio 0.004
rlsd_queue_memory_used_bytes 100
rlsd_queue_memory_limit_bytes 1000
rlsd_weight_sync_duration_seconds_count{service="learner",phase="publish"} 10
rlsd_weight_sync_duration_seconds_sum{service="learner",phase="publish"} 5
"""
ROLLOUT = """
rlsd_service_ready{service="rollout"} 1
rlsd_queue_redeliveries_total{stage="rollout"} 2
rlsd_queue_dead_letters_total{stage="rollout"} 1
rlsd_weight_sync_duration_seconds_count{service="rollout",phase="fetch"} 10
rlsd_weight_sync_duration_seconds_sum{service="rollout",phase="fetch"} 1
rlsd_weight_sync_duration_seconds_count{service="rollout",phase="install"} 10
rlsd_weight_sync_duration_seconds_sum{service="rollout",phase="install"} 2
rlsd_weight_sync_duration_seconds_count{service="rollout",phase="pause"} 10
rlsd_weight_sync_duration_seconds_sum{service="rollout",phase="pause"} 2
"""
VERIFIER = """
rlsd_service_ready{service="verifier"} 1
rlsd_verifier_verdicts_total{kind="math",outcome="pass"} 60
rlsd_verifier_verdicts_total{kind="math",outcome="fail"} 39
rlsd_verifier_verdicts_total{kind="math",outcome="error"} 1
rlsd_queue_redeliveries_total{stage="verify"} 1
rlsd_queue_dead_letters_total{stage="verify"} 0
"""
TEACHER = """
rlsd_service_ready{service="teacher"} 1
"""
PAGES = {"learner": LEARNER, "rollout": ROLLOUT, "verifier": VERIFIER, "teacher": TEACHER}


def activity(state=State.BUSY, detail="train, step 11", stalled=""):
    return Snapshot(state=state, detail=detail, for_s=1.0, progress_age_s=0.0, stalled=stalled)


def learner_status(**changes):
    values = {
        "run_id": "r",
        "step": 10,
        "num_steps": 110,
        "policy_version": 10,
        "admitted": 100,
        "trained": 60,
        "rejected": {"zero_variance": 30},
        "failed": {"EngineError": 2},
        "in_flight": 8,
        "held_out_accuracy": 0.75,
    }
    return learner_service_pb2.LearnerServiceGetStatusResponse(**{**values, **changes})


def make_reading(*, at_s=NOW_S, pages=None, silent=(), queues="well", activities=None, **learner):
    """A reading of a run that is well, changed.

    Args:
        pages: (old, new) pieces of text by service.
        learner: fields of its status.
    """
    statuses = {
        "learner": learner_status(**learner),
        "rollout": rollout_service_pb2.RolloutServiceGetStatusResponse(policy_version=10),
        "verifier": None,
        "teacher": teacher_service_pb2.TeacherServiceGetStatusResponse(teacher_version=-1),
    }
    services = {}
    for name, page in PAGES.items():
        old, new = (pages or {}).get(name, ("", ""))
        assert old in page
        answer = Answer(
            service=name,
            run_id="r",
            activity=(activities or {}).get(name, activity()),
            status=statuses[name],
        )
        if name in silent:
            answer = Answer(service=name, silence="not reachable at h:1 (connection refused)")
        samples = Samples.parse(page.replace(old, new) if old else page)
        services[name] = Told(answer=answer, samples=samples)
    backlog = [Backlog(stage=s, entries=n, oldest_age_s=10.0 * n) for n, s in enumerate(Stage)]
    return Reading(
        at_s=at_s,
        services=services,
        queues=Queues(backlog=backlog) if queues == "well" else queues,
        steps=[{"reward_mean": 0.1}, {"reward_mean": 0.5}],
        evaluations=[{"greedy_accuracy": 0.75}],
    )
