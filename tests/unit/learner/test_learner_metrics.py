"""What the learner's loop says of a run, in figures that were worked out by hand."""

import asyncio
import hashlib
import json
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from builders import make_group, make_prompt, make_trajectory
from metric_values import Changes, is_there, value
from prometheus_client import REGISTRY
from test_loop import learner, run

from rlsd.config import RunConfig
from rlsd.objectives.methods import method_named
from rlsd.telemetry.activity import State
from rlsd.trajectory import (
    FinishReason,
    GroupOutcome,
    TeacherScores,
    ToolTurn,
    VerifierSpec,
)
from services.learner import metrics
from services.learner.leakage import Leaks
from services.learner.ledger import Ledger
from services.learner.trained import TrainedGroups

TRAINED = GroupOutcome.TRAINED


def scores(*deltas):
    student = np.full(len(deltas), -1.0, np.float32)
    return TeacherScores(
        teacher_version=0,
        student_logprobs=student,
        teacher_logprobs=student + np.asarray(deltas, np.float32),
    )


def config(**changes):
    return RunConfig.model_validate(
        {
            "run": {"dir": "d", "id": "r"},
            "model": {"path": "a/b/m"},
            "data": {"train": "t"},
            **changes,
        }
    )


def observe(*groups, version=5, patterns=()):
    metrics.observe_batch(groups, learner_version=version, leaks=Leaks(patterns))


def last_values(**line):
    whole = {"step": 3, "phase_s": {}, "reward_mean": 0.5, **line}
    metrics.observe_step(whole, Ledger())


def test_the_steps_of_a_run_move_its_progress_and_its_account(tmp_path):
    rewards = lambda index: (1.0, 1.0) if index % 4 == 3 else (1.0, 0.0)  # noqa: E731
    loop, _, _ = learner(tmp_path, rewards, steps=3)
    changes = Changes()
    asyncio.run(run(loop))
    assert value("rlsd_learner_step") == value("rlsd_learner_num_steps") == 3
    assert value("rlsd_learner_policy_version") == 3
    assert changes("rlsd_learner_groups_admitted_total") == 12
    assert value("rlsd_learner_groups", outcome="trained", reason="") == 9
    assert value("rlsd_learner_groups", outcome="rejected", reason="zero_variance") == 3
    assert value("rlsd_learner_identity_residual") == 0
    assert changes("rlsd_learner_trained_trajectories_total") == 9 * 2
    assert changes("rlsd_learner_trained_tokens_total") == 9 * 2 * 3
    assert changes("rlsd_learner_group_age_seconds_count") == 12
    assert changes("rlsd_learner_trained_twice_total") == 0
    for phase, times in {"wait": 3, "log": 3, "train": 3, "publish": 3, "checkpoint": 1}.items():
        name = "rlsd_learner_step_duration_seconds_count"
        assert changes(name, phase=phase) == times
    assert value("rlsd_learner_credits", state="limit") == 4
    assert value("rlsd_learner_credits", state="used") == 0


def test_a_restart_tells_of_what_it_does_again_and_counts_no_batch_twice(tmp_path):
    loop, _, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=2)
    asyncio.run(run(loop))
    loop, _, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=3)
    changes = Changes()
    asyncio.run(run(loop))
    assert changes("rlsd_learner_steps_reexecuted_total") == 2
    assert changes("rlsd_learner_trained_trajectories_total") == 4 * 2, "of the new step alone"
    assert changes("rlsd_learner_reward_count", kind="exact") == 4 * 2
    assert changes("rlsd_learner_trained_twice_total") == 0


def test_a_group_that_is_logged_twice_is_counted_though_the_ledger_is_blind(tmp_path, monkeypatch):
    loop, _, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=1)
    asyncio.run(run(loop))
    monkeypatch.setattr(Ledger, "is_known", lambda *_: False)
    monkeypatch.setattr(Ledger, "resolve", lambda self, group: self.in_flight.discard(group.index))
    monkeypatch.setattr(Ledger, "next_indices", lambda _, count, **__: list(range(count)))
    loop, _, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=2)
    changes = Changes()
    asyncio.run(run(loop))
    assert changes("rlsd_learner_trained_twice_total") == 4
    loop, _, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=2)
    changes = Changes()
    asyncio.run(run(loop))
    assert changes("rlsd_learner_trained_twice_total") == 4, "a restart finds it in the log again"


def test_trained_groups_are_remembered_each_by_a_bit():
    trained = TrainedGroups()
    groups = [make_group(index=i, outcome=TRAINED) for i in (0, 7, 8, 100_000)]
    rejected = make_group(index=9, outcome=GroupOutcome.REJECTED)
    assert trained.note([*groups, rejected]) == 0
    assert trained.note([rejected, make_group(index=9, outcome=TRAINED)]) == 0
    assert trained.note(groups[1:3]) == 2
    assert len(trained._bits) == 100_000 // 8 + 1


def test_groups_that_the_queues_forgot_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr("services.learner.gathering._QUIET_S", 0.05)
    loop, stages, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=1)
    stages.forget_next = 3
    changes = Changes()
    asyncio.run(asyncio.wait_for(run(loop), 10))
    assert changes("rlsd_learner_groups_readmitted_total") == 3


def test_the_time_without_a_free_credit_adds_up_also_while_it_lasts():
    now, changes = [0.0], Changes()
    pressure = metrics.Backpressure(lambda: now[0])
    for now[0], is_full in ((1, False), (3, True), (4, True), (10, False), (12, False)):
        pressure.note(is_full=is_full)
    assert changes("rlsd_learner_backpressure_seconds_total") == 10 - 3


def test_a_run_that_waits_for_its_groups_is_under_backpressure(tmp_path):
    loop, stages, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=1)
    inner, waits = stages.collect, [0.05, 0.05]

    async def slow(*, wait_s):
        if waits:
            await asyncio.sleep(waits.pop())
            return []
        return await inner(wait_s=wait_s)

    stages.collect = slow
    changes = Changes()
    asyncio.run(run(loop))
    assert 0.1 <= changes("rlsd_learner_backpressure_seconds_total") < 5


def test_what_is_run_is_said_without_the_path_of_the_model():
    long = config(model={"path": "org/" + "x" * 99})
    metrics.begin(long, method_named("rlsd"), Ledger(), limit=8)
    found = [s.labels for m in REGISTRY.collect() if m.name == "rlsd_run_info" for s in m.samples]
    resolved = json.dumps(long.model_dump(mode="json"), sort_keys=True).encode()
    assert found == [
        {
            "method": "rlsd",
            "model": "x" * 64,
            "transport": "redis",
            "config_sha256": hashlib.sha256(resolved).hexdigest(),
        }
    ]


def test_a_learner_that_starts_has_a_time_of_a_step_and_its_limits():
    metrics.begin(config(run={"max_staleness": 3}), method_named("grpo"), Ledger(), limit=32)
    assert value("rlsd_learner_last_step_timestamp_seconds") > 1.6e9
    assert value("rlsd_learner_staleness_limit_versions") == 3
    assert value("rlsd_learner_credits", state="limit") == 32


def test_rewards_are_of_judged_trajectories_and_groups_by_how_many_passed():
    changes = Changes()
    observe(
        make_group((1.0, 1.0, None)),
        make_group((1.0, 0.5, 0.0, None)),
        make_group((0.5, 0.0)),
        make_group((None, None)),
        make_group((1.0, 0.0), prompt=make_prompt(verifier=VerifierSpec(kind="math"))),
    )
    assert changes("rlsd_learner_reward_count", kind="exact") == 7
    assert changes("rlsd_learner_reward_sum", kind="exact") == 4.0
    assert changes("rlsd_learner_reward_bucket", kind="exact", le="0.5") == 4
    judged = {
        o: changes("rlsd_learner_groups_judged_total", kind="exact", outcome=o)
        for o in ("all_pass", "mixed", "all_fail")
    }
    assert judged == {"all_pass": 1, "mixed": 1, "all_fail": 1}
    assert changes("rlsd_learner_groups_judged_total", kind="math", outcome="mixed") == 1
    assert changes("rlsd_learner_group_pass_ratio_sum", kind="exact") == pytest.approx(1 + 1 / 3)
    assert changes("rlsd_learner_group_pass_ratio_count", kind="exact") == 3


def test_lengths_count_what_the_policy_drew_by_how_it_ended():
    turn = ToolTurn(start=2, end=12, calls=())
    long = make_trajectory(0, length=40, finish_reason=FinishReason.LENGTH, tool_turns=(turn,))
    changes = Changes()
    observe(make_group(trajectories=(long, make_trajectory(1, length=3))))
    name = "rlsd_learner_completion_tokens"
    assert changes(f"{name}_sum", finish_reason="length") == 30
    assert changes(f"{name}_bucket", finish_reason="length", le="16.0") == 0
    assert changes(f"{name}_sum", finish_reason="stop") == 3


def test_staleness_is_split_into_the_drawing_and_the_queue():
    versions = {"min_policy_version": 2, "max_policy_version": 4}
    group = make_group(trajectories=(make_trajectory(0, **versions),), outcome=TRAINED)
    changes = Changes()
    observe(group, replace(group, outcome=GroupOutcome.REJECTED), version=5)
    name = "rlsd_learner_staleness_versions"
    found = {p: changes(f"{name}_sum", part=p) for p in ("in_flight", "in_queue", "total")}
    assert found == {"in_flight": 2, "in_queue": 1, "total": 3}
    assert changes(f"{name}_count", part="total") == 1, "trained trajectories alone"


def test_the_teachers_distance_is_a_trajectorys_mean_over_what_the_policy_drew():
    metrics.begin(config(), method_named("rlsd"), Ledger(), limit=8)
    turn = ToolTurn(start=1, end=2, calls=())
    told = make_trajectory(0, length=3, scores=scores(0.5, 99.0, -1.0), tool_turns=(turn,))
    changes = Changes()
    observe(make_group(trajectories=(told, make_trajectory(1))))
    name = "rlsd_credit_sequence_delta_abs_nats"
    assert changes(f"{name}_sum") == pytest.approx(0.75)
    assert changes(f"{name}_count") == 1
    assert changes(f"{name}_bucket", le="0.5") == 0


def test_sampled_entropy_is_of_every_token_that_the_policy_drew_also_where_nothing_is_trained():
    turn = ToolTurn(start=1, end=2, calls=())
    told = make_trajectory(0, length=3, tool_turns=(turn,))
    told = replace(told, rollout_logprobs=np.array([-0.5, -99.0, -1.5], np.float32))
    other = make_trajectory(1, length=2)
    other = replace(other, rollout_logprobs=np.array([-3.0, -3.0], np.float32))
    observe(make_group(trajectories=(told, other), outcome=GroupOutcome.REJECTED))
    assert value("rlsd_learner_sampled_entropy_nats") == pytest.approx(8 / 4)
    observe(make_group(trajectories=(), outcome=GroupOutcome.FAILED))
    assert value("rlsd_learner_sampled_entropy_nats") == pytest.approx(8 / 4), "it measures nothing"


def test_leaks_are_looked_for_in_every_logged_completion():
    metrics.begin(config(), method_named("rlsd"), Ledger(), limit=8)
    changes = Changes()
    texts = ("as the ref says", "4", "reference")
    group = make_group(trajectories=[make_trajectory(m, text=t) for m, t in enumerate(texts)])
    observe(group, patterns=[r"\bref\b"])
    assert changes("rlsd_credit_leak_checks_total") == 3
    assert changes("rlsd_credit_leaks_total") == 1
    observe(group)
    assert changes("rlsd_credit_leak_checks_total") == 3, "without a pattern nothing is searched"


def test_a_line_of_metrics_sets_the_gauges_of_the_last_step():
    metrics.begin(config(), method_named("rlsd"), Ledger(), limit=8)
    changes = Changes()
    last_values(
        **{"loss": -0.1, "grad_norm": 2.0, "lr": 1e-4, "entropy": 0.7, "lam": 0.4},
        **{"kl_old_policy": 0.01, "kl_rollout_old": 0.02, "importance_ess": 0.9},
        **{"rollout_gap": 0.1, "rollout_gap_max": 0.3, "rollout_gap_p99_max": 0.2},
        **{"ratio_clipped_low": 0.11, "ratio_clipped_high": 0.12, "delta_abs": 0.6},
        **{"weight_entropy": 0.8, "weight_clipped_low": 0.21, "weight_clipped_high": 0.22},
        **{"sign_flips": 2.0},
    )
    learned, credit = "rlsd_learner_", "rlsd_credit_"
    assert value(f"{learned}reward_mean") == 0.5
    assert value(f"{learned}loss") == -0.1
    assert value(f"{learned}grad_norm") == 2.0
    assert value(f"{learned}learning_rate") == 1e-4
    assert value(f"{learned}entropy_nats") == 0.7
    assert value(f"{learned}kl_nats", reference="old_policy") == 0.01
    assert value(f"{learned}clip_ratio", side="low") == 0.11
    assert value(f"{learned}clip_ratio", side="high") == 0.12
    assert value(f"{learned}mismatch_kl_nats") == 0.02
    gaps = {s: value(f"{learned}logprob_gap_nats", stat=s) for s in ("mean", "p99", "max")}
    assert gaps == {"mean": 0.1, "p99": 0.2, "max": 0.3}
    assert value(f"{learned}importance_ess_ratio") == 0.9
    assert value(f"{credit}delta_abs_mean_nats") == 0.6
    assert value(f"{credit}mix_lambda") == 0.4
    assert value(f"{credit}weight_entropy_ratio") == 0.8
    assert value(f"{credit}weight_clip_ratio", side="low") == 0.21
    assert value(f"{credit}weight_clip_ratio", side="high") == 0.22
    assert changes(f"{credit}sign_flips_total") == 2
    assert changes(f"{learned}nonfinite_steps_total") == 0


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_step_that_was_not_taken_is_counted(norm):
    changes = Changes()
    last_values(grad_norm=norm)
    assert changes("rlsd_learner_nonfinite_steps_total") == 1


def test_counters_that_an_alert_looks_at_are_there_from_the_start():
    metrics.begin(config(), method_named("rlsd"), Ledger(), limit=8)
    for name in (
        "rlsd_learner_trained_twice_total",
        "rlsd_learner_nonfinite_steps_total",
        "rlsd_learner_backpressure_seconds_total",
        "rlsd_credit_sign_flips_total",
        "rlsd_credit_leaks_total",
        "rlsd_credit_leak_checks_total",
    ):
        assert is_there(name)


async def test_a_checkpoint_is_a_state_of_its_own(tmp_path):
    loop, _, rank = learner(tmp_path, lambda _: (1.0, 0.0), steps=1)
    lead, seen = rank.lead, {}

    def telling(command, *args, **kwargs):
        seen[command.name] = loop.activity.snapshot().state
        return lead(command, *args, **kwargs)

    rank.lead = telling
    await run(loop)
    assert seen["CHECKPOINT"] is State.CHECKPOINTING
    assert seen["TRAIN"] is State.BUSY


def test_the_held_out_measurement_is_shown_with_its_leaks(tmp_path):
    class Evaluator:
        async def measure(self, *, step, policy_version):
            return Evaluation(step=step)

    @dataclass
    class Evaluation:
        step: int
        greedy_accuracy: float = 0.75
        leakage: float = 0.125

    metrics.begin(config(), method_named("rlsd"), Ledger(), limit=8)
    loop, _, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=1, evaluator=Evaluator())
    changes = Changes()
    asyncio.run(run(loop))
    assert value("rlsd_learner_held_out_accuracy_ratio") == 0.75
    assert value("rlsd_credit_leakage_ratio") == 0.125
    assert changes("rlsd_learner_step_duration_seconds_count", phase="evaluate") == 2
