"""What is recorded of a run's own metrics; `<5m>` as in `rules.py`."""

from __future__ import annotations

RECORDED = {
    # --- progress
    "rlsd:trained_tokens:rate5m": "sum by (run) (rate(rlsd_learner_trained_tokens_total[<5m>]))",
    "rlsd:sampled_tokens:rate5m": (
        'sum by (run) (rate(rlsd_rollout_tokens_total{kind="completion"}[<5m>]))'
    ),
    "rlsd:service_busy:ratio_rate5m": """
        sum by (run, service) (rate(rlsd_service_state_seconds_total{state="busy"}[<5m>]))
          / sum by (run, service) (rate(rlsd_service_state_seconds_total[<5m>]))""",
    "rlsd:learner_waiting:ratio_rate5m": """
        sum by (run) (rate(rlsd_service_state_seconds_total{service="learner",
            state=~"waiting_for_work|waiting_for_service"}[<5m>]))
          / sum by (run) (rate(rlsd_service_state_seconds_total{service="learner"}[<5m>]))""",
    "rlsd:teacher_overhead:ratio_rate5m": """
        sum by (run) (rate(rlsd_service_state_seconds_total{service="teacher",
            state="busy"}[<5m>]))
          / sum by (run) (rate(rlsd_service_state_seconds_total{
            service=~"teacher|rollout|learner", state="busy"}[<5m>]))""",
    "rlsd:step_seconds:mean6h": """
        sum by (run) (rate(rlsd_learner_step_duration_seconds_sum[<6h>]))
          / sum by (run) (rate(rlsd_learner_step_duration_seconds_count{phase="train"}[<6h>]))""",
    # How long a run may be without a step: five of its usual ones, and a quarter of an hour.
    "rlsd:patience_seconds": """
        (5 * rlsd:step_seconds:mean6h > <900>)
          or (0 * max by (run) (rlsd_learner_step) + <900>)""",
    # --- learning
    "rlsd:reward:mean15m": """
        sum by (run) (rate(rlsd_learner_reward_sum[<15m>]))
          / (sum by (run) (rate(rlsd_learner_reward_count[<15m>])) > 0)""",
    # Groups are all right or all wrong more often than not: a mean of few of them says nothing.
    "rlsd:reward:mean1h": """
        sum by (run) (rate(rlsd_learner_reward_sum[<1h>]))
          / sum by (run) (rate(rlsd_learner_reward_count[<1h>]))
          and sum by (run) (increase(rlsd_learner_groups_judged_total[<1h>])) > 100""",
    "rlsd:reward:best6h": "quantile_over_time(0.9, rlsd:reward:mean1h[<6h>])",
    # The learner's own entropy is that of trained tokens: when all siblings are alike, of none.
    "rlsd:entropy_nats:mean15m": (
        "max by (run) (avg_over_time(rlsd_learner_sampled_entropy_nats[<15m>]))"
    ),
    "rlsd:group_uninformative:ratio_rate15m": """
        sum by (run, kind) (rate(rlsd_learner_groups_judged_total{outcome!="mixed"}[<15m>]))
          / sum by (run, kind) (rate(rlsd_learner_groups_judged_total[<15m>]))""",
    "rlsd:group_all_fail:ratio_rate15m": """
        sum by (run, kind) (rate(rlsd_learner_groups_judged_total{outcome="all_fail"}[<15m>]))
          / sum by (run, kind) (rate(rlsd_learner_groups_judged_total[<15m>]))""",
    "rlsd:staleness_versions:mean15m": """
        sum by (run) (rate(rlsd_learner_staleness_versions_sum{part="total"}[<15m>]))
          / sum by (run) (rate(rlsd_learner_staleness_versions_count{part="total"}[<15m>]))""",
    "rlsd:stale_groups:ratio15m": """
        sum by (run) (clamp_min(delta(
            rlsd_learner_groups{outcome="rejected", reason="stale"}[<15m>]), 0))
          / sum by (run) (increase(rlsd_learner_groups_admitted_total[<15m>]))""",
    "rlsd:weight_lag:versions": """
        max by (run) (rlsd_learner_policy_version)
          - min by (run) (rlsd_rollout_policy_version)""",
    # --- credit
    "rlsd:credit_leaks:ratio_rate30m": """
        sum by (run) (rate(rlsd_credit_leaks_total[<30m>]))
          / sum by (run) (rate(rlsd_credit_leak_checks_total[<30m>]))""",
    # Gauges of the last step jump from step to step; `for:` would begin anew each time.
    "rlsd:credit_clipped:mean15m": (
        "sum by (run) (avg_over_time(rlsd_credit_weight_clip_ratio[<15m>]))"
    ),
    "rlsd:mismatch_kl_nats:mean10m": (
        "max by (run) (avg_over_time(rlsd_learner_mismatch_kl_nats[<10m>]))"
    ),
    # --- verifier
    "rlsd:verifier_errors:ratio_rate5m": """
        sum by (run, kind) (rate(rlsd_verifier_verdicts_total{outcome=~"error|timeout"}[<5m>]))
          / sum by (run, kind) (rate(rlsd_verifier_verdicts_total[<5m>]))""",
    "rlsd:verifier_errors:ratio_rate1h": """
        sum by (run, kind) (rate(rlsd_verifier_verdicts_total{outcome=~"error|timeout"}[<1h>]))
          / sum by (run, kind) (rate(rlsd_verifier_verdicts_total[<1h>]))""",
    "rlsd:sandbox_kills:ratio_rate15m": """
        sum by (run) (rate(rlsd_sandbox_runs_total{result!~"ok|failed|timeout"}[<15m>]))
          / sum by (run) (rate(rlsd_sandbox_runs_total[<15m>]))""",
}
