"""For every alert: series under which it fires, and near ones under which it does not.

Values are promtool's: `a+bxn` begins at a and adds b, n times; a point a minute.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Case:
    """What one alert is tested with."""

    at: str
    """When it is looked at."""
    fires: dict[str, str]
    silent: dict[str, str]
    """Instead of those of the same name, or beside them."""
    summary: str
    labels: dict[str, str] = field(default_factory=dict)
    """Beside run, severity and pillar."""


_RUN = 'run="a"'
_UP = 'rlsd_build_info{{run="a",service="{}",version="1"}}'
_PROGRESS = {
    'rlsd_learner_step{run="a"}': "7x200",
    'rlsd_learner_num_steps{run="a"}': "100x200",
    'rlsd_learner_last_step_timestamp_seconds{run="a"}': "60x200",
}


def _learner(busy: str, waiting: str) -> dict[str, str]:
    """Seconds in two of the learner's states."""
    of = 'rlsd_service_state_seconds_total{run="a",service="learner",state='
    return {f'{of}"busy"}}': busy, f'{of}"waiting_for_work"}}': waiting}


def _verdicts(errors: str, passes: str) -> dict[str, str]:
    of = 'rlsd_verifier_verdicts_total{run="a",kind="math",outcome='
    return {f'{of}"timeout"}}': errors, f'{of}"pass"}}': passes}


def _judged(fail: str, mixed: str, passing: str) -> dict[str, str]:
    of = 'rlsd_learner_groups_judged_total{run="a",kind="math",outcome='
    return {f'{of}"all_fail"}}': fail, f'{of}"mixed"}}': mixed, f'{of}"all_pass"}}': passing}


def _rewards(total: str, count: str) -> dict[str, str]:
    of = 'rlsd_learner_reward_{}{{run="a",kind="math"}}'
    return {of.format("sum"): total, of.format("count"): count}


CASES: dict[str, Case] = {
    "RlsdIdentityResidual": Case(
        at="10m",
        fires={'rlsd_learner_identity_residual{run="a"}': "0x4 -3x30"},
        silent={'rlsd_learner_identity_residual{run="a"}': "0x60"},
        summary="Run a: 3 groups have no outcome and are not in flight",
    ),
    "RlsdTrainedTwice": Case(
        at="10m",
        fires={'rlsd_learner_trained_twice_total{run="a"}': "0x4 1x30"},
        silent={'rlsd_learner_trained_twice_total{run="a"}': "0x60"},
        summary="Run a: groups trained twice: 1",
    ),
    "RlsdNonFiniteStep": Case(
        at="10m",
        fires={'rlsd_learner_nonfinite_steps_total{run="a"}': "0x6 1x30"},
        silent={'rlsd_learner_nonfinite_steps_total{run="a"}': "1x60"},  # long ago
        summary="Run a: a step had a loss or gradient that is not finite",
    ),
    "RlsdCreditSignFlips": Case(
        at="10m",
        fires={
            'rlsd_credit_sign_flips_total{run="a"}': "5x60",
            'rlsd_run_info{run="a",method="rlsd",model="m"}': "1x60",
        },
        silent={
            'rlsd_run_info{run="a",method="rlsd",model="m"}': "_x60",
            'rlsd_run_info{run="a",method="opsd",model="m"}': "1x60",
        },
        summary="Run a: 5 tokens were pushed against their verdict",
    ),
    "RlsdLearnerStalled": Case(
        at="30m",
        fires={**_PROGRESS, **_learner("0+60x200", "0x200")},
        silent={  # then it is Redis; and when it waits for groups, it is the next one
            **_learner("0x200", "0x200"),
            'rlsd_service_state_seconds_total{run="a",service="learner",'
            'state="waiting_for_queues"}': "0+60x200",
        },
        summary="Run a: no step for 29m 0s, and the learner waits neither for groups nor for Redis",
    ),
    "RlsdLearnerStarved": Case(
        at="30m",
        fires={**_PROGRESS, **_learner("0x200", "0+60x200")},
        silent={  # a step takes ten minutes here, so half an hour without one is no wonder
            'rlsd_learner_step_duration_seconds_sum{run="a",phase="train"}': "0+60x200",
            'rlsd_learner_step_duration_seconds_count{run="a",phase="train"}': "0+0.1x200",
        },
        summary="Run a: no step for 29m 0s; the learner waits for groups",
    ),
    "RlsdServiceStalled": Case(
        at="10m",
        fires={
            # Kubernetes restarts it half a minute later.
            'rlsd_service_stalled{run="a",service="teacher",pod="p"}': "0x3 1 0x60",
            'rlsd_service_stalled{run="a",service="teacher",pod="q"}': "0x60",
        },
        silent={'rlsd_service_stalled{run="a",service="teacher",pod="p"}': "0x60"},
        summary="Run a: teacher does not move, or did not of late",
        labels={"service": "teacher"},
    ),
    "RlsdServiceNotReady": Case(
        at="15m",
        fires={
            'rlsd_service_ready{run="a",service="rollout",pod="p"}': "0x60",
            'rlsd_service_ready{run="a",service="rollout",pod="q"}': "1x60",
        },
        silent={'rlsd_service_ready{run="a",service="rollout",pod="p"}': "0x8 1x60"},
        summary="Run a: a replica of rollout is not ready",
        labels={"service": "rollout"},
    ),
    "RlsdServiceDown": Case(
        at="20m",
        fires={**_PROGRESS, 'rlsd_build_info{run="a",service="verifier"}': "1x10 stale"},
        silent={'rlsd_learner_step{run="a"}': "100x200"},  # the run is at its end
        summary="Run a: no replica of verifier is left, and the run is not at its end",
        labels={"service": "verifier"},
    ),
    "RlsdLearnerMissing": Case(
        at="40m",
        fires={_UP.format("rollout"): "_x10 1x60", _UP.format("verifier"): "1x60"},
        silent={_UP.format("learner"): "_x23 1x60"},  # a large model, loaded for long
        summary="Run a: rollout waits for its first weights, and there is no learner",
    ),
    "RlsdQueuesUnreachable": Case(
        at="10m",
        fires={
            'rlsd_service_state_seconds_total{run="a",service="rollout",'
            'state="waiting_for_queues"}': "0+60x60"
        },
        silent={
            'rlsd_service_state_seconds_total{run="a",service="rollout",'
            'state="waiting_for_queues"}': "0+20x60"
        },
        summary="Run a: rollout cannot reach Redis",
        labels={"service": "rollout"},
    ),
    "RlsdQueueAge": Case(
        at="30m",
        fires={
            'rlsd_queue_oldest_age_seconds{run="a",stage="verify"}': "1900x60",
            'rlsd_learner_step{run="a"}': "7x60",
        },
        silent={'rlsd_queue_oldest_age_seconds{run="a",stage="verify"}': "1700x60"},
        summary="Run a: the oldest entry of verify is 31m 40s old",
        labels={"stage": "verify"},
    ),
    "RlsdDeadLetters": Case(
        at="20m",
        fires={'rlsd_queue_dead_letters_total{run="a",stage="rollout"}': "0x10 1x60"},
        silent={'rlsd_queue_dead_letters_total{run="a",stage="rollout"}': "1x60"},
        summary="Run a: groups were buried at rollout",
        labels={"stage": "rollout"},
    ),
    "RlsdRedisMemory": Case(
        at="10m",
        fires={
            'rlsd_queue_memory_used_bytes{run="a"}': "90x60",
            'rlsd_queue_memory_limit_bytes{run="a"}': "100x60",
        },
        silent={'rlsd_queue_memory_limit_bytes{run="a"}': "0x60"},  # no limit
        summary="Run a: Redis is 90% full",
    ),
    "RlsdWeightSkew": Case(
        at="30m",
        fires={
            'rlsd_learner_policy_version{run="a"}': "30x60",
            'rlsd_rollout_policy_version{run="a",pod="p"}': "30x60",
            'rlsd_rollout_policy_version{run="a",pod="q"}': "3x60",
            'rlsd_learner_staleness_limit_versions{run="a"}': "2x60",
        },
        silent={'rlsd_rollout_policy_version{run="a",pod="q"}': "27x60"},
        summary="Run a: a rollout replica is 27 versions behind",
    ),
    "RlsdWeightInstallFailures": Case(
        at="20m",
        fires={
            'rlsd_weight_install_failures_total{run="a",service="rollout",'
            'reason="probe"}': "0x10 1x60"
        },
        silent={
            'rlsd_weight_install_failures_total{run="a",service="rollout",reason="probe"}': "0x60"
        },
        summary="Run a: rollout could not install weights (probe)",
        labels={"service": "rollout", "reason": "probe"},
    ),
    "RlsdVerifierErrorBudgetBurn": Case(
        at="80m",
        fires=_verdicts("0+10x120", "0+90x120"),
        silent=_verdicts("0x74 60+60x30", "0+90x120"),  # five bad minutes in a good hour
        summary="Run a: 10% of math checks give no verdict",
        labels={"kind": "math"},
    ),
    "RlsdVerifierCircuitOpen": Case(
        at="10m",
        fires={  # half open now and then, while probes fail
            'rlsd_verifier_http_circuit_state{run="a",verifier="checks"}': "2 1 " * 30
        },
        silent={'rlsd_verifier_http_circuit_state{run="a",verifier="checks"}': "0x60"},
        summary="Run a: the circuit to checks is open",
        labels={"verifier": "checks"},
    ),
    "RlsdVerifierCanaryWrong": Case(
        at="10m",
        fires={'rlsd_verifier_http_canary_state{run="a",verifier="checks"}': "2x60"},
        silent={'rlsd_verifier_http_canary_state{run="a",verifier="checks"}': "1x60"},
        summary="Run a: checks judges its canaries wrongly",
        labels={"verifier": "checks"},
    ),
    "RlsdSandboxKills": Case(
        at="40m",
        fires={
            'rlsd_sandbox_runs_total{run="a",tier="T3",result="memory"}': "0+10x60",
            'rlsd_sandbox_runs_total{run="a",tier="T3",result="ok"}': "0+90x60",
        },
        silent={
            'rlsd_sandbox_runs_total{run="a",tier="T3",result="memory"}': "0x60",
            'rlsd_sandbox_runs_total{run="a",tier="T3",result="failed"}': "0+90x60",
        },
        summary="Run a: 10% of sandbox runs were killed or broke",
    ),
    "RlsdRewardCollapse": Case(
        at="230m",
        fires={
            **_rewards("0+8x100 800+2x150", "0+10x300"),
            'rlsd_learner_groups_judged_total{run="a",kind="math",outcome="mixed"}': "0+2x300",
        },
        silent=_rewards("0+8x100 800+5x150", "0+10x300"),
        summary="Run a: the mean reward fell to 0.2, half of its best or less",
    ),
    "RlsdEntropyCollapse": Case(
        at="100m",
        fires={
            'rlsd_learner_sampled_entropy_nats{run="a"}': "2x30 0.1x200",
            **_rewards("0+3x200", "0+10x200"),
        },
        silent=_rewards("0+9.5x200", "0+10x200"),  # it has converged
        summary="Run a: entropy fell to 0.1 nats, a tenth of its highest or less",
    ),
    "RlsdGroupsUninformative": Case(
        at="60m",
        fires=_judged("0+9x120", "0+1x120", "0x120"),
        silent=_judged("0x120", "0+1x120", "0+9x120"),  # the task is learned
        summary="Run a: 90% of math groups have equal rewards",
        labels={"kind": "math"},
    ),
    "RlsdStalenessAtBound": Case(
        at="40m",
        fires={
            'rlsd_learner_groups{run="a",outcome="rejected",reason="stale"}': "0+1x60",
            'rlsd_learner_groups_admitted_total{run="a"}': "0+10x60",
        },
        silent={
            'rlsd_learner_groups_admitted_total{run="a"}': "0+100x60",
            'rlsd_learner_staleness_versions_sum{run="a",part="total"}': "0+10x60",
            'rlsd_learner_staleness_versions_count{run="a",part="total"}': "0+10x60",
            'rlsd_learner_staleness_limit_versions{run="a"}': "1x60",  # one step behind is usual
        },
        summary="Run a: trajectories are as stale as they may be",
    ),
    "RlsdLogprobMismatch": Case(
        at="20m",
        fires={'rlsd_learner_mismatch_kl_nats{run="a"}': "0.06x60"},
        silent={'rlsd_learner_mismatch_kl_nats{run="a"}': "0.04x60"},
        summary="Run a: rollout and learner differ by 0.06 nats a token",
    ),
    "RlsdLeakage": Case(
        at="60m",
        fires={
            'rlsd_credit_leaks_total{run="a"}': "0+2x90",
            'rlsd_credit_leak_checks_total{run="a"}': "0+100x90",
        },
        silent={'rlsd_credit_leak_checks_total{run="a"}': "0+400x90"},
        summary="Run a: 2% of completions cite privileged context",
    ),
    "RlsdCreditSaturated": Case(
        at="60m",
        fires={
            'rlsd_credit_weight_clip_ratio{run="a",side="low"}': "0.4x90",
            'rlsd_credit_weight_clip_ratio{run="a",side="high"}': "0.4x90",
        },
        silent={'rlsd_credit_weight_clip_ratio{run="a",side="low"}': "0.2x90"},
        summary="Run a: 80% of the token weights are at a bound",
    ),
    "RlsdTeacherOverhead": Case(
        at="60m",
        fires={
            'rlsd_service_state_seconds_total{run="a",service="teacher",state="busy"}': "0+50x90",
            'rlsd_service_state_seconds_total{run="a",service="learner",state="busy"}': "0+50x90",
        },
        silent={
            'rlsd_service_state_seconds_total{run="a",service="rollout",state="busy"}': "0+60x90"
        },
        summary="Run a: the teacher takes 50% of the busy time",
    ),
}
