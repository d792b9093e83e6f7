"""Recording rules and alerts.

Durations stand in angle brackets: `<5m>` is a PromQL duration, `<900>` a number of seconds. A test
renders the same rules with all of them divided, so that an alert fires within seconds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

RUNBOOKS = "docs/runbooks"
"""Where the runbook pages are; the chart puts `monitoring.rules.runbookUrl` in its place."""

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"<(\d+)([smhd]?)>")

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


def _either(vllm: str, sglang: str) -> str:
    """The same quantity of both engines, told apart by `engine`."""
    parts = [
        f'label_replace({" ".join(expr.split())}, "engine", "{engine}", "", "")'
        for engine, expr in (("vllm", vllm), ("sglang", sglang))
    ]
    return "\n  or ".join(parts)


def _named(name: str) -> str:
    """A metric of an engine by its name, `vllm:num_requests_running`.

    Older Prometheis (2.x) are given `vllm_num_requests_running` by the Python client.
    """
    return f'{{__name__=~"{name.replace(":", "[:_]")}"}}'


def _p95(name: str) -> str:
    rates = f"rate({_named(f'{name}_bucket')}[<5m>])"
    return f"histogram_quantile(0.95, sum by (run, pod, le) ({rates}))"


def _each(name: str) -> str:
    return f"sum by (run, pod) ({_named(name)})"


def _largest(name: str) -> str:
    return f"max by (run, pod) ({_named(name)})"


def _rate(name: str) -> str:
    return f"sum by (run, pod) (rate({_named(name)}[<5m>]))"


def _gpu(name: str, factor: str) -> str:
    """A series of DCGM's exporter, of the pods of runs alone.

    The exporter names the pod that has the device `exported_pod` unless its monitor honours labels.
    Replicas on Ray share a pod and are `POD/REPLICA` here; whose its devices are nobody can say.
    """
    pod = f'label_replace({name}, "pod", "$1", "exported_pod", "(.+)")'
    namespaced = f'label_replace({pod}, "namespace", "$1", "exported_namespace", "(.+)")'
    replicas = 'label_replace(rlsd_build_info{pod=~".+/.+"}, "node", "$1", "pod", "(.+)/.+")'
    nodes = f'label_replace(max by (namespace, node, run) ({replicas}), "service", "ray", "", "")'
    return f"""
        max by (namespace, pod, gpu) ({namespaced}) * {factor}
          * on (namespace, pod) group_left (run, service) (
            max by (namespace, pod, run, service) (rlsd_build_info)
              or label_replace({nodes}, "pod", "$1", "node", "(.+)"))"""


ENGINES = {
    "rlsd:engine_requests_running": _either(
        _each("vllm:num_requests_running"), _each("sglang:num_running_reqs")
    ),
    "rlsd:engine_requests_waiting": _either(
        _each("vllm:num_requests_waiting"), _each("sglang:num_queue_reqs")
    ),
    "rlsd:engine_cache_usage:ratio": _either(
        _largest("vllm:kv_cache_usage_perc"), _largest("sglang:token_usage")
    ),
    "rlsd:engine_generated_tokens:rate5m": _either(
        _rate("vllm:generation_tokens_total"), _rate("sglang:generation_tokens_total")
    ),
    "rlsd:engine_prompt_tokens:rate5m": _either(
        _rate("vllm:prompt_tokens_total"), _rate("sglang:prompt_tokens_total")
    ),
    "rlsd:engine_prefix_hits:ratio": _either(
        f"{_rate('vllm:prefix_cache_hits_total')} / {_rate('vllm:prefix_cache_queries_total')}",
        _largest("sglang:cache_hit_rate"),
    ),
    "rlsd:engine_preempted_requests": _either(
        f"sum by (run, pod) (increase({_named('vllm:num_preemptions_total')}[<5m>]))",
        _each("sglang:num_retracted_reqs"),
    ),
    "rlsd:engine_first_token_seconds:p95_5m": _either(
        _p95("vllm:time_to_first_token_seconds"), _p95("sglang:time_to_first_token_seconds")
    ),
    "rlsd:engine_between_tokens_seconds:p95_5m": _either(
        _p95("vllm:inter_token_latency_seconds"), _p95("sglang:inter_token_latency_seconds")
    ),
    "rlsd:engine_request_seconds:p95_5m": _either(
        _p95("vllm:e2e_request_latency_seconds"), _p95("sglang:e2e_request_latency_seconds")
    ),
    "rlsd:gpu_busy:ratio": _gpu("DCGM_FI_DEV_GPU_UTIL", "0.01"),
    "rlsd:gpu_sm_active:ratio": _gpu("DCGM_FI_PROF_SM_ACTIVE", "1"),
    "rlsd:gpu_memory_used:bytes": _gpu("DCGM_FI_DEV_FB_USED", "1048576"),
}
"""Of others' exporters, in one form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; its page is the file below RUNBOOKS that has a heading of its name."""

    name: str
    expr: str
    after: str = ""
    """How long it must hold; empty: at once."""
    severity: str
    """critical: stop what you do; warning: today; info: look when you tune."""
    pillar: str
    page: str
    summary: str
    description: str


ALERTS = (
    # --- correctness
    Alert(
        name="RlsdIdentityResidual",
        expr="max by (run) (abs(rlsd_learner_identity_residual)) > 0",
        after="<1m>",
        severity="critical",
        pillar="correctness",
        page="account",
        summary="Run {{ $labels.run }}: {{ $value }} groups have no outcome and are not in flight",
        description="admitted = trained + rejected + failed + in_flight does not hold. Stop the "
        "run, keep its folder, and run `rlsd audit`.",
    ),
    Alert(
        name="RlsdTrainedTwice",
        expr="max by (run) (max_over_time(rlsd_learner_trained_twice_total[<1h>])) > 0",
        severity="critical",
        pillar="correctness",
        page="account",
        summary="Run {{ $labels.run }}: groups trained twice: {{ $value }}",
        description="A group is in two steps of the batch log. Stop the run and run `rlsd audit`.",
    ),
    Alert(
        name="RlsdNonFiniteStep",
        expr="sum by (run) (increase(rlsd_learner_nonfinite_steps_total[<10m>])) > 0",
        severity="critical",
        pillar="learning",
        page="learning",
        summary="Run {{ $labels.run }}: a step had a loss or gradient that is not finite",
        description="The optimizer step was not taken. Once is a warning; again and again the run "
        "learns nothing.",
    ),
    Alert(
        name="RlsdCreditSignFlips",
        expr="""
            max by (run) (max_over_time(rlsd_credit_sign_flips_total[<1h>])) > 0
              and on (run) max by (run) (rlsd_run_info{method=~"rlsd.*"})""",
        severity="critical",
        pillar="correctness",
        page="credit",
        summary="Run {{ $labels.run }}: {{ $value }} tokens were pushed against their verdict",
        description="RLSD's weights are positive, so a token's advantage has the sign of its "
        "trajectory's. This cannot happen unless the credit is computed wrongly.",
    ),
    # --- progress
    Alert(
        name="RlsdLearnerStalled",
        expr="""
            (time() - max by (run) (rlsd_learner_last_step_timestamp_seconds)
                > on (run) rlsd:patience_seconds)
              and on (run) (max by (run) (rlsd_learner_step)
                < max by (run) (rlsd_learner_num_steps))
              unless on (run) (rlsd:learner_waiting:ratio_rate5m > 0.5)
              unless on (run) (sum by (run) (rate(rlsd_service_state_seconds_total{
                service="learner", state="waiting_for_queues"}[<5m>])) > 0.5)""",
        after="<2m>",
        severity="critical",
        pillar="progress",
        page="learner",
        summary="Run {{ $labels.run }}: no step for {{ $value | humanizeDuration }}, and the "
        "learner waits neither for groups nor for Redis",
        description="The learner itself stands still or one of its own phases takes far longer "
        "than usual.",
    ),
    Alert(
        name="RlsdLearnerStarved",
        expr="""
            (time() - max by (run) (rlsd_learner_last_step_timestamp_seconds)
                > on (run) rlsd:patience_seconds)
              and on (run) (max by (run) (rlsd_learner_step)
                < max by (run) (rlsd_learner_num_steps))
              and on (run) (rlsd:learner_waiting:ratio_rate5m > 0.5)""",
        after="<2m>",
        severity="critical",
        pillar="progress",
        page="learner",
        summary="Run {{ $labels.run }}: no step for {{ $value | humanizeDuration }}; the learner "
        "waits for groups",
        description="A stage before the learner gives nothing. The queue panels show at which "
        "stage the groups are.",
    ),
    Alert(
        name="RlsdServiceStalled",
        expr="max by (run, service) (max_over_time(rlsd_service_stalled[<10m>])) > 0",
        severity="critical",
        pillar="progress",
        page="services",
        summary="Run {{ $labels.run }}: {{ $labels.service }} does not move, or did not of late",
        description="/livez answers 503: a part has not ticked for run.stall_after_s. Kubernetes "
        "restarts it; elsewhere you have to.",
    ),
    Alert(
        name="RlsdServiceNotReady",
        expr="max by (run, service) (1 - rlsd_service_ready) > 0",
        after="<10m>",
        severity="warning",
        pillar="progress",
        page="services",
        summary="Run {{ $labels.run }}: a replica of {{ $labels.service }} is not ready",
        description="/readyz answers 503 for ten minutes and says why.",
    ),
    Alert(
        name="RlsdServiceDown",
        expr="""
            (group by (run, service) (last_over_time(rlsd_build_info[<1h>]))
                unless group by (run, service) (rlsd_build_info))
              and on (run) (max by (run) (last_over_time(rlsd_learner_step[<1h>]))
                < max by (run) (last_over_time(rlsd_learner_num_steps[<1h>])))""",
        after="<2m>",
        severity="critical",
        pillar="progress",
        page="services",
        summary="Run {{ $labels.run }}: no replica of {{ $labels.service }} is left, and the run "
        "is not at its end",
        description="Every target of the service disappeared or cannot be scraped. Also what a "
        "run that was stopped on purpose looks like, for an hour.",
    ),
    Alert(
        name="RlsdQueuesUnreachable",
        expr="""
            max by (run, service) (rate(rlsd_service_state_seconds_total{
                state="waiting_for_queues"}[<5m>])) > 0.5""",
        after="<1m>",
        severity="critical",
        pillar="progress",
        page="queues",
        summary="Run {{ $labels.run }}: {{ $labels.service }} cannot reach Redis",
        description="Nothing is lost: what has no outcome is admitted again when Redis is back.",
    ),
    Alert(
        name="RlsdQueueAge",
        expr="""
            max by (run, stage) (rlsd_queue_oldest_age_seconds)
              > on (run) group_left () (2 * rlsd:patience_seconds)""",
        after="<10m>",
        severity="warning",
        pillar="progress",
        page="queues",
        summary="Run {{ $labels.run }}: the oldest entry of {{ $labels.stage }} is "
        "{{ $value | humanizeDuration }} old",
        description="That stage does not keep up, or a group is redelivered again and again.",
    ),
    Alert(
        name="RlsdDeadLetters",
        expr="sum by (run, stage) (increase(rlsd_queue_dead_letters_total[<15m>])) > 0",
        severity="warning",
        pillar="correctness",
        page="queues",
        summary="Run {{ $labels.run }}: groups were buried at {{ $labels.stage }}",
        description="A group that fails three times is buried with its reason and counted as "
        "failed. If these are always the long ones, what is trained is biased.",
    ),
    Alert(
        name="RlsdRedisMemory",
        expr="""
            max by (run) (rlsd_queue_memory_used_bytes)
              / max by (run) (rlsd_queue_memory_limit_bytes > 0) > 0.8""",
        after="<5m>",
        severity="warning",
        pillar="progress",
        page="queues",
        summary="Run {{ $labels.run }}: Redis is {{ $value | humanizePercentage }} full",
        description="At its limit Redis refuses writes; groups already in it are still given out.",
    ),
    Alert(
        name="RlsdWeightSkew",
        expr="""
            rlsd:weight_lag:versions
              > on (run) (max by (run) (rlsd_learner_staleness_limit_versions) + 1)""",
        after="<10m>",
        severity="warning",
        pillar="progress",
        page="weights",
        summary="Run {{ $labels.run }}: a rollout replica is {{ $value }} versions behind",
        description="It does not take new weights, so what it samples will be too stale.",
    ),
    Alert(
        name="RlsdWeightInstallFailures",
        expr="""
            sum by (run, service, reason) (increase(
              rlsd_weight_install_failures_total[<15m>])) > 0""",
        severity="warning",
        pillar="progress",
        page="weights",
        summary="Run {{ $labels.run }}: {{ $labels.service }} could not install weights "
        "({{ $labels.reason }})",
        description="damaged: the files; probe: log-probs differ from the learner's; engine: it "
        "refused them.",
    ),
    # --- reward
    Alert(
        name="RlsdVerifierErrorBudgetBurn",
        expr="""
            rlsd:verifier_errors:ratio_rate5m > 14.4 * 0.005
              and rlsd:verifier_errors:ratio_rate1h > 14.4 * 0.005""",
        after="<2m>",
        severity="critical",
        pillar="reward",
        page="verifiers",
        summary="Run {{ $labels.run }}: {{ $value | humanizePercentage }} of {{ $labels.kind }} "
        "checks give no verdict",
        description="Errors and timeouts above 7.2 % over 5 minutes and over an hour: the budget "
        "of 0.5 % burns 14.4 times too fast. They are no rewards, but the sample shrinks.",
    ),
    Alert(
        name="RlsdVerifierCircuitOpen",
        expr="max by (run, verifier) (rlsd_verifier_http_circuit_state) > 0",
        after="<1m>",
        severity="warning",
        pillar="reward",
        page="verifiers",
        summary="Run {{ $labels.run }}: the circuit to {{ $labels.verifier }} is open",
        description="So many tries failed that it is left alone for a while; checks wait. Between "
        "its open times it is half open, which counts as well.",
    ),
    Alert(
        name="RlsdVerifierCanaryWrong",
        expr="max by (run, verifier) (rlsd_verifier_http_canary_state) > 1",
        severity="critical",
        pillar="reward",
        page="verifiers",
        summary="Run {{ $labels.run }}: {{ $labels.verifier }} judges its canaries wrongly",
        description="It gives another verdict than the known one, so none of its verdicts is "
        "taken until the canary passes.",
    ),
    Alert(
        name="RlsdSandboxKills",
        expr="rlsd:sandbox_kills:ratio_rate15m > 0.05",
        after="<15m>",
        severity="warning",
        pillar="reward",
        page="verifiers",
        summary="Run {{ $labels.run }}: {{ $value | humanizePercentage }} of sandbox runs were "
        "killed or broke",
        description="Memory, processes, output, signals, policy: the policy writes what the "
        "sandbox must end, or its limits are too tight for right answers.",
    ),
    # --- learning
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
    # --- credit
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


def scaled(text: str, scale: float = 1.0) -> str:
    """The text with its durations divided: `<5m>` at 60 is `5s`."""

    def one(found: re.Match[str]) -> str:
        seconds = int(found[1]) * _SECONDS[found[2] or "s"] / scale
        if not found[2]:
            return f"{seconds:g}"
        whole = f"{found[1]}{found[2]}"
        return whole if scale == 1 else f"{max(1, round(1000 * seconds))}ms"

    return _DURATION.sub(one, text)


def rules(scale: float = 1.0, *, runbooks: str = RUNBOOKS) -> dict[str, Any]:
    """Everything as a Prometheus rule file; all durations are divided by `scale`."""
    interval = scaled("<30s>", min(scale, 30.0))
    recorded = [
        {"name": name, "interval": interval, "rules": [_recording(*x, scale) for x in of.items()]}
        for name, of in (("rlsd-recorded", RECORDED), ("rlsd-engines", ENGINES))
    ]
    alerts = {"name": "rlsd-alerts", "interval": interval}
    return {"groups": [*recorded, alerts | {"rules": [_alert(x, scale, runbooks) for x in ALERTS]}]}


def _recording(name: str, expr: str, scale: float) -> dict[str, Any]:
    return {"record": name, "expr": _lines(expr, scale)}


def _alert(alert: Alert, scale: float, runbooks: str) -> dict[str, Any]:
    after = {"for": scaled(alert.after, scale)} if alert.after else {}
    return {
        "alert": alert.name,
        "expr": _lines(alert.expr, scale),
        **after,
        "labels": {"severity": alert.severity, "pillar": alert.pillar},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{runbooks}/{alert.page}.md#{alert.name.lower()}",
        },
    }


def _lines(expr: str, scale: float) -> str:
    """An expression without the indentation of this file."""
    lines = scaled(expr, scale).strip("\n").splitlines()
    indent = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[indent:].rstrip() for line in lines)
