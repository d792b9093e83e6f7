"""A run does not go on as fast as it could: its learner, services, queues, weights."""

from __future__ import annotations

from deploy.monitoring.alerts.alert import Alert

PROGRESS = (
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
    # A rollout without weights waits for the first version, which only a learner makes. One that
    # has some says nothing of a learner: its run has ended, or it serves by itself.
    Alert(
        name="RlsdLearnerMissing",
        expr="""
            group by (run) (rlsd_build_info{service="rollout"})
              unless on (run) rlsd_rollout_policy_version
              unless on (run) rlsd_build_info{service="learner"}""",
        after="<15m>",
        severity="critical",
        pillar="progress",
        page="services",
        summary="Run {{ $labels.run }}: rollout waits for its first weights, and there is no "
        "learner",
        description="For a quarter of an hour rollout has been up without weights, and no learner "
        "of the run could be scraped: it dies before it can be, or was never started.",
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
)
