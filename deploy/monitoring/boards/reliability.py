"""The account, the queues, the weights, the processes."""

from __future__ import annotations

from typing import Any

from deploy.monitoring.boards.shared import (
    AT_STAGE,
    BURIED,
    OLDEST,
    REDELIVERED,
    RESIDUAL,
    SERVICE_STATE,
    SERVICE_STATES,
    STEP_SECONDS,
    TRAINED_TWICE,
    WAIT_P95,
    weights_p95,
)
from deploy.monitoring.panels import (
    GREEN,
    MUST_BE_0,
    RED,
    YELLOW,
    Band,
    Column,
    Query,
    R,
    bars,
    count,
    dashboard,
    graph,
    heat,
    largest,
    number,
    or_0,
    quantile,
    rate,
    rows,
    timeline,
    total,
)

_POD = 'pod=~"$pod"'


def board() -> dict[str, Any]:
    """The dashboard."""
    return dashboard(
        "reliability",
        "Reliability",
        "admitted = trained + rejected + failed + in_flight, and what crashes cost.",
        [
            Band(4, _figures()),
            Band(8, _account(), "Account"),
            Band(8, _queues(), "Queues"),
            Band(8, _redis()),
            Band(8, _weights(), "Weights and checkpoints"),
            Band(8, _services(), "Services"),
            Band(8, _processes()),
        ],
        variables=("pod",),
    )


def _figures() -> list[Any]:
    def counter(title: str, expr: str, text: str, steps: Any, page: str = "account.md") -> Any:
        return number(
            title,
            Query(expr),
            unit="none",
            text=text,
            page=page,
            steps=steps,
            filled=steps is MUST_BE_0,
            columns=4,
        )

    some = ((None, GREEN), (1, YELLOW))
    return [
        counter(
            "Residual",
            RESIDUAL,
            "Groups without an outcome that are not in flight either. Must be 0.",
            MUST_BE_0,
        ),
        counter(
            "Trained twice",
            TRAINED_TWICE,
            "Groups that are in two steps of the batch log. Must be 0.",
            MUST_BE_0,
        ),
        counter(
            "Duplicates dropped",
            total("rlsd_learner_duplicates_dropped_total"),
            "Groups that came back a second time and were not trained again. Normal after a "
            "worker or Redis died: this is the guard at work.",
            some,
        ),
        counter(
            "Admitted again",
            total("rlsd_learner_groups_readmitted_total"),
            "Groups that the queues had forgotten and that were made anew. Normal after Redis "
            "lost its memory.",
            some,
        ),
        counter(
            "Steps executed again",
            total("rlsd_learner_steps_reexecuted_total"),
            "Logged steps after the newest checkpoint, trained once more after a restart. The "
            "price of a crash; lower learner.checkpoint_every. Normal: 0.",
            some,
        ),
        counter(
            "Weights not installed",
            total("rlsd_weight_install_failures_total"),
            "Versions that a service could not take. Normal: 0.",
            ((None, GREEN), (1, RED)),
            "weights.md",
        ),
    ]


def _account() -> list[Any]:
    groups = "rlsd_learner_groups"
    return [
        rows(
            "Outcomes",
            Column("groups", largest(groups, "outcome", "reason"), "none"),
            by=("run", "outcome", "reason"),
            text="The account itself. Normal: the outcomes sum to admitted.",
            page="account.md",
            columns=7,
        ),
        graph(
            "Groups by outcome",
            *(
                Query(or_0(total(groups, where=f'outcome="{outcome}"')), outcome)
                for outcome in ("trained", "rejected", "failed", "in_flight")
            ),
            unit="short",
            stacked=True,
            text="Normal: trained and rejected grow, failed stays at 0, in_flight is bounded by "
            "the credits.",
            page="account.md",
            columns=6,
        ),
        graph(
            "Credits",
            Query(largest("rlsd_learner_credits", where='state="used"'), "{{run}} used"),
            Query(
                largest("rlsd_learner_credits", where='state="limit"'), "{{run}} limit", dashed=True
            ),
            Query(
                rate("rlsd_learner_groups_admitted_total"),
                "{{run}} admitted/s (right)",
                on_right="short",
            ),
            unit="short",
            text="Groups that are out, of those that may be. Normal: near the limit. Far below: "
            "the learner does not admit.",
            page="account.md",
            columns=6,
        ),
        graph(
            "No credit free",
            Query(rate("rlsd_learner_backpressure_seconds_total")),
            unit="percentunit",
            most=1,
            text="Share of the time in which no prompt was admitted since all credits were out. "
            "Normal: most of it; the pipeline is full.",
            page="queues.md",
            columns=5,
        ),
    ]


def _queues() -> list[Any]:
    return [
        graph(
            "Groups at each stage",
            Query(AT_STAGE, "{{stage}}"),
            unit="short",
            stacked=True,
            text="In hand or waiting. Normal: they gather at rollout; where else, that stage is "
            "slow.",
            page="queues.md",
            columns=6,
        ),
        graph(
            "Oldest entry",
            Query(OLDEST, "{{stage}}"),
            unit="s",
            text="Normal: about the time of a step. Ever growing: one group is stuck, or nobody "
            "works at that stage.",
            page="queues.md",
            columns=6,
        ),
        graph(
            "Wait until handed out, p95",
            Query(WAIT_P95, "{{stage}}"),
            unit="s",
            text="From entering a stage to a worker. Normal: short but at rollout. Large "
            "elsewhere: give that stage replicas.",
            page="queues.md",
            columns=6,
        ),
        graph(
            "Faults at each stage",
            Query(REDELIVERED, "{{stage}} given out again"),
            Query(BURIED, "{{stage}} buried"),
            Query(count("rlsd_queue_results_dropped_total", "stage"), "{{stage}} results dropped"),
            Query(count("rlsd_spans_dropped_total"), "spans not sent"),
            unit="short",
            text="In the window. Given out again: a worker failed or went silent. Buried: three "
            "times. Dropped: a late result of a group that has moved on; harmless. Spans not "
            "sent: traces have gaps, the run none. Normal: none.",
            page="queues.md",
            columns=6,
        ),
    ]


def _redis() -> list[Any]:
    used = largest("rlsd_queue_memory_used_bytes")
    return [
        graph(
            "Memory of Redis",
            Query(used, "{{run}} used"),
            Query(largest("rlsd_queue_memory_limit_bytes"), "{{run}} limit (0: none)", dashed=True),
            unit="bytes",
            text="Normal: flat, since credits bound what is in it. Above 80 %: RlsdRedisMemory.",
            page="queues.md",
            columns=8,
        ),
        heat(
            "Wait until handed out",
            "rlsd_queue_wait_seconds",
            unit="s",
            text="Groups by the time they waited, all stages. Normal: no tail that grows.",
            page="queues.md",
            columns=8,
        ),
        bars(
            "Where groups are now",
            Query(AT_STAGE, "{{stage}}"),
            unit="short",
            text="The same as a picture of the pipeline. Normal: most at rollout.",
            page="queues.md",
            columns=8,
        ),
    ]


def _weights() -> list[Any]:
    return [
        weights_p95("A version's way, p95", columns=6),
        graph(
            "Bytes of weights",
            Query(
                rate("rlsd_weight_bytes_total", "service", "direction"),
                "{{service}} {{direction}}",
            ),
            unit="Bps",
            text="Published by the learner, taken by rollout and teacher replicas. Normal: in "
            "proportion to the steps.",
            page="weights.md",
            columns=6,
        ),
        graph(
            "Version of each replica",
            Query(largest("rlsd_rollout_policy_version", "pod"), "rollout {{pod}}"),
            Query(largest("rlsd_learner_policy_version"), "learner", dashed=True),
            unit="none",
            least=None,
            text="Normal: one line. One that stays flat is stuck: RlsdWeightSkew.",
            page="weights.md",
            columns=6,
        ),
        graph(
            "Rare phases of the learner, p95",
            Query(
                quantile(
                    0.95, STEP_SECONDS, "phase", where='phase=~"checkpoint|evaluate|log|publish"'
                ),
                "{{phase}}",
            ),
            unit="s",
            text="What a step spends on the disk and on evaluations. Normal: steady. A growing log "
            "or checkpoint: the volume.",
            page="learner.md",
            columns=6,
        ),
    ]


def _services() -> list[Any]:
    return [
        timeline(
            "Ready",
            Query(SERVICE_STATE, "{{run}} {{service}}"),
            words=SERVICE_STATES,
            text="Of each service its worst replica. Normal: ready. A gap: no replica could be "
            "scraped.",
            page="services.md",
            columns=8,
        ),
        graph(
            "What services do",
            Query(rate("rlsd_service_state_seconds_total", "state"), "{{state}}"),
            unit="short",
            stacked=True,
            text="Replicas in each state, all services of the runs. Normal: busy or "
            "waiting_for_work. waiting_for_queues: Redis is away; waiting_for_weights: the "
            "volume; waiting_for_service: see `rlsd why`.",
            page="services.md",
            columns=8,
        ),
        rows(
            "Replicas",
            Column(
                "replicas", f"count by (run, service, version) (rlsd_build_info{{{R}, {_POD}}})"
            ),
            by=("run", "service", "version"),
            text="What runs, by version. Normal: one version, two during an upgrade.",
            page="services.md",
            columns=8,
        ),
    ]


def _processes() -> list[Any]:
    return [
        graph(
            "Restarts",
            Query(
                f"sum by (run, pod) (changes(process_start_time_seconds{{{R}, {_POD}}}[$window]))",
                "{{pod}}",
            ),
            unit="short",
            text="In the window. Normal: 0. In Kubernetes the container's last state says why; "
            "locally its log in the run's folder.",
            page="services.md",
        ),
        graph(
            "Memory",
            Query(f"max by (run, pod) (process_resident_memory_bytes{{{R}, {_POD}}})", "{{pod}}"),
            unit="bytes",
            text="Resident, of each process. Normal: flat after warm-up. Near its limit the kernel "
            "kills it.",
            page="services.md",
        ),
        graph(
            "CPU",
            Query(
                f"sum by (run, pod) (rate(process_cpu_seconds_total{{{R}, {_POD}}}[$window]))",
                "{{pod}}",
            ),
            unit="short",
            text="Cores used. Normal: below its limit. A verifier at its limit is slow, not wrong.",
            page="services.md",
        ),
    ]
