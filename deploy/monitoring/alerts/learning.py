"""What the policy learns, and what the teacher says of it."""

from __future__ import annotations

from deploy.monitoring.alerts.alert import Alert

LEARNING = (
    Alert(
        name="RlsdRewardCollapse",
        expr="""
            rlsd:reward:mean1h < 0.5 * rlsd:reward:best6h
              and rlsd:reward:best6h > 0.1""",
        after="<15m>",
        severity="warning",
        pillar="learning",
        page="learning",
        summary='Run {{ $labels.run }}: the mean reward fell to {{ $value | printf "%.3g" }}, half '
        "of its best or less",
        description="The policy or the verifier broke. Compare with the verifier's errors first.",
    ),
    Alert(
        name="RlsdEntropyCollapse",
        expr="""
            rlsd:entropy_nats:mean15m < 0.1 * max_over_time(rlsd:entropy_nats:mean15m[<1d>])
              and rlsd:reward:mean15m < 0.9""",
        after="<30m>",
        severity="warning",
        pillar="learning",
        page="learning",
        summary='Run {{ $labels.run }}: entropy fell to {{ $value | printf "%.3g" }} nats, a tenth '
        "of its highest or less",
        description="The policy hardly explores, and its reward is below 0.9, so it has not "
        "converged on the task.",
    ),
    Alert(
        name="RlsdGroupsUninformative",
        expr="""
            rlsd:group_uninformative:ratio_rate15m > 0.8
              and rlsd:group_all_fail:ratio_rate15m > 0.4""",
        after="<30m>",
        severity="warning",
        pillar="learning",
        page="learning",
        summary="Run {{ $labels.run }}: {{ $value | humanizePercentage }} of {{ $labels.kind }} "
        "groups have equal rewards",
        description="They carry no gradient, and many of them fail as a whole: the task is too "
        "hard, or the verifier refuses everything.",
    ),
    Alert(
        name="RlsdStalenessAtBound",
        expr="""
            rlsd:stale_groups:ratio15m > 0.05
              or (rlsd:staleness_versions:mean15m > on (run) 0.95 * max by (run) (
                rlsd_learner_staleness_limit_versions > 1))""",
        after="<15m>",
        severity="warning",
        pillar="learning",
        page="staleness",
        summary="Run {{ $labels.run }}: trajectories are as stale as they may be",
        description="Nearly all of them reach run.max_staleness (above 1), or more than 5 % of "
        "the groups are rejected for it.",
    ),
    Alert(
        name="RlsdLogprobMismatch",
        expr="rlsd:mismatch_kl_nats:mean10m > 0.05",
        after="<10m>",
        severity="warning",
        pillar="learning",
        page="mismatch",
        summary='Run {{ $labels.run }}: rollout and learner differ by {{ $value | printf "%.3g" }} '
        "nats a token",
        description="The engine that samples and the learner give other probabilities to the "
        "same tokens under the same weights.",
    ),
    Alert(
        name="RlsdLeakage",
        expr="rlsd:credit_leaks:ratio_rate30m > 0.01",
        after="<15m>",
        severity="warning",
        pillar="learning",
        page="credit",
        summary="Run {{ $labels.run }}: {{ $value | humanizePercentage }} of completions cite "
        "privileged context",
        description="The policy learns to speak of a reference that is not in its prompt.",
    ),
    Alert(
        name="RlsdCreditSaturated",
        expr="rlsd:credit_clipped:mean15m > 0.7",
        after="<30m>",
        severity="info",
        pillar="learning",
        page="credit",
        summary="Run {{ $labels.run }}: {{ $value | humanizePercentage }} of the token weights "
        "are at a bound",
        description="The weights say little more than a sign: widen method.eps_w, or use a "
        "shorter privileged context.",
    ),
    Alert(
        name="RlsdTeacherOverhead",
        expr="rlsd:teacher_overhead:ratio_rate5m > 0.4",
        after="<30m>",
        severity="info",
        pillar="progress",
        page="credit",
        summary="Run {{ $labels.run }}: the teacher takes {{ $value | humanizePercentage }} of "
        "the busy time",
        description="One forward pass should cost a quarter or less.",
    ),
)
