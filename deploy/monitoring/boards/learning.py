"""What the policy learns, and from what."""

from __future__ import annotations

from typing import Any

from deploy.monitoring.boards.shared import (
    MEAN_STEP,
    spread,
    staleness,
)
from deploy.monitoring.panels import (
    GREEN,
    MUST_BE_0,
    ORANGE,
    RED,
    Band,
    Column,
    Query,
    R,
    count,
    dashboard,
    graph,
    heat,
    largest,
    mean,
    number,
    or_0,
    quantile,
    rate,
    rows,
    share,
)

_KIND = 'kind=~"$kind"'


def board() -> dict[str, Any]:
    """The dashboard."""
    return dashboard(
        "learning",
        "Learning",
        "Reward, objective, completions and how fresh they are.",
        [
            Band(4, _run()),
            Band(8, _reward(), "Reward"),
            Band(8, _objective(), "Objective"),
            Band(8, _mismatch(), "Rollout against learner"),
            Band(8, _completions(), "Completions"),
            Band(8, _freshness(), "Freshness"),
        ],
        variables=("kind",),
    )


def _run() -> list[Any]:
    return [
        rows(
            "Run",
            Column("step", f"{_joined('rlsd_learner_step')}", "none"),
            Column("of", f"{_joined('rlsd_learner_num_steps')}", "none"),
            by=("run", "method", "model", "transport"),
            hidden=("config_sha256",),
            text="What is run. Two runs are compared only if nothing but what is compared differs: "
            "their config_sha256 (in rlsd_run_info) tells. Normal: one row.",
            page="README.md",
            columns=10,
        ),
        number(
            "Not finite",
            Query(largest("rlsd_learner_nonfinite_steps_total")),
            unit="none",
            text="Steps that were not taken because loss or gradient was not finite. Normal: 0.",
            page="learning.md",
            steps=MUST_BE_0,
            filled=True,
            columns=4,
        ),
        number(
            "Mean step",
            Query(MEAN_STEP),
            unit="s",
            text="Of the dashboard's time range, evaluations and checkpoints included. Normal: "
            "what `rlsd plan` said.",
            page="learner.md",
            columns=5,
        ),
        number(
            "Trajectories trained",
            Query(largest("rlsd_learner_trained_trajectories_total")),
            unit="short",
            text="Since the learner started. Normal: groups_per_step times group_size for each "
            "step, less what was rejected.",
            page="learner.md",
            columns=5,
        ),
    ]


def _joined(name: str) -> str:
    """A gauge of the learner with what describes its run."""
    info = f"max by (run, method, model, transport, config_sha256) (rlsd_run_info{{{R}}})"
    return f"{info} * on (run) group_left () {largest(name)}"


def _reward() -> list[Any]:
    return [
        graph(
            "Mean reward by kind",
            Query(mean("rlsd_learner_reward", "kind", where=_KIND), "{{run}} {{kind}}"),
            unit="percentunit",
            most=1,
            text="Of all logged trajectories with a verdict. One kind that falls while others "
            "rise: its verifier, or too little of it in the data. Normal: none falls.",
            page="learning.md",
            columns=6,
        ),
        heat(
            "Share of a group that passes",
            "rlsd_learner_group_pass_ratio",
            unit="percentunit",
            where=_KIND,
            text="Groups by the share of siblings with reward 1. Normal: it moves upwards. All at "
            "the two ends: prompts are too easy or too hard, see data.curriculum.",
            page="learning.md",
            columns=6,
        ),
        graph(
            "Groups that teach nothing",
            *(
                Query(
                    share("rlsd_learner_groups_judged_total", "kind", of=of, where=_KIND),
                    f"{{{{run}}}} {{{{kind}}}} {words}",
                )
                for of, words in (
                    ('outcome="all_fail"', "all fail"),
                    ('outcome="all_pass"', "all pass"),
                )
            ),
            unit="percentunit",
            most=1,
            text="Equal rewards are no gradient. Normal at the end of a run that has learned its "
            "task; at the beginning the prompts do not fit the policy.",
            page="learning.md",
            columns=6,
        ),
        heat(
            "Rewards",
            "rlsd_learner_reward",
            unit="percentunit",
            where=_KIND,
            text="Trajectories by reward. Normal for a verifier of right and wrong: only 0 and 1.",
            page="learning.md",
            columns=6,
        ),
    ]


def _objective() -> list[Any]:
    return [
        graph(
            "Loss",
            Query(largest("rlsd_learner_loss")),
            unit="none",
            least=None,
            text="Of the last step. A policy gradient's loss is about 0 and says little; a jump "
            "says that something else has changed. Normal: noise around 0.",
            page="learning.md",
            columns=6,
        ),
        graph(
            "Gradient norm and learning rate",
            Query(largest("rlsd_learner_grad_norm"), "{{run}} norm before clipping"),
            Query(largest("rlsd_learner_learning_rate"), "{{run}} rate (right)", on_right="sci"),
            unit="none",
            text="Normal: steady after warm-up. Growing norms: lower learner.lr.",
            page="learning.md",
            columns=6,
        ),
        graph(
            "Entropy",
            Query(largest("rlsd_learner_entropy_nats")),
            unit="none",
            text="Nats a token. Normal: it falls slowly. A tenth of its highest with reward below "
            "0.9 is RlsdEntropyCollapse: raise the temperature, lower the rate.",
            page="learning.md",
            columns=6,
        ),
        graph(
            "KL to the old policy, and clipped tokens",
            Query(largest("rlsd_learner_kl_nats", "reference"), "{{run}} KL to {{reference}}"),
            Query(
                largest("rlsd_learner_clip_ratio", "side"),
                "{{run}} clipped {{side}} (right)",
                on_right="percentunit",
            ),
            unit="none",
            text="Of the last step. Normal on-policy, with one step on each batch: both 0. Above "
            "0.1 nats or 20 % clipped: the data is old or the rate too high.",
            page="staleness.md",
            columns=6,
        ),
    ]


def _mismatch() -> list[Any]:
    return [
        graph(
            "Mismatch KL",
            Query(largest("rlsd_learner_mismatch_kl_nats")),
            unit="sci",
            steps=((None, GREEN), (0.05, RED)),
            text="Learner against sampler on the same tokens, nats. Normal: below 1e-3; above 0.05 "
            "is RlsdLogprobMismatch.",
            page="mismatch.md",
            columns=6,
        ),
        graph(
            "Gap of log-probs",
            Query(largest("rlsd_learner_logprob_gap_nats", "stat"), "{{run}} {{stat}}"),
            unit="sci",
            log=True,
            text="|learner - sampler|, nats. Normal: mean below 0.02 in bfloat16, 1e-5 in float32. "
            "A large maximum alone: one token near the end of the distribution.",
            page="mismatch.md",
            columns=6,
        ),
        graph(
            "Effective share of the sample",
            Query(largest("rlsd_learner_importance_ess_ratio")),
            unit="percentunit",
            most=1,
            steps=((None, RED), (0.5, ORANGE), (0.9, GREEN)),
            text="mean(w)² / mean(w²) of the importance weights. Normal: above 0.9. Low: a few "
            "tokens decide the step.",
            page="mismatch.md",
            columns=6,
        ),
        graph(
            "Probe of the last update",
            Query(largest("rlsd_rollout_probe_difference_nats")),
            unit="sci",
            text="Largest difference between engine and learner on a fixed text after new weights "
            "were installed, nats. Above its limit the version is refused. Normal: below "
            "1e-3.",
            page="mismatch.md",
            columns=6,
        ),
    ]


def _completions() -> list[Any]:
    tools = "rlsd_rollout_tool_calls_total"
    return [
        graph(
            "Length of completions",
            *spread("rlsd_learner_completion_tokens"),
            unit="short",
            text="Tokens. Normal: it changes slowly. Steady growth without reward: the policy "
            "pads; a fall to a few: it gave up.",
            page="learning.md",
            columns=6,
        ),
        graph(
            "Completions by how they ended",
            Query(rate("rlsd_rollout_completions_total", "finish_reason"), "{{finish_reason}}"),
            unit="short",
            stacked=True,
            text="A second. length: cut at rollout.max_tokens. Normal: a few per cent; else raise "
            "it, since cut completions fail whatever they were to say.",
            page="learning.md",
            columns=6,
        ),
        graph(
            "Turns, and time of a group",
            Query(mean("rlsd_rollout_turns"), "{{run}} turns, mean"),
            Query(
                quantile(0.95, "rlsd_rollout_group_duration_seconds"),
                "{{run}} group p95 (right)",
                on_right="s",
            ),
            unit="short",
            text="1 turn without tools. A group lasts as long as its slowest sibling. Normal: both "
            "steady.",
            page="learner.md",
            columns=6,
        ),
        graph(
            "Calls of tools",
            Query(rate(tools, "tool", "outcome"), "{{tool}} {{outcome}}"),
            Query(rate("rlsd_rollout_tool_retries_total", "tool"), "{{tool}} retries"),
            Query(
                quantile(0.95, "rlsd_rollout_tool_duration_seconds", "tool"),
                "{{tool}} p95 (right)",
                on_right="s",
            ),
            unit="short",
            text="A second, by what became of them; empty in a run without tools. Normal: "
            "answered. malformed and unknown are the policy's fault, error is the tool's.",
            page="learning.md",
            columns=6,
        ),
    ]


def _freshness() -> list[Any]:
    return [
        staleness(columns=6),
        heat(
            "Staleness",
            "rlsd_learner_staleness_versions",
            unit="none",
            where='part="total"',
            text="Trained trajectories by versions. Normal: nothing above run.max_staleness.",
            page="staleness.md",
            columns=6,
        ),
        graph(
            "Age of a group when it is trained",
            Query(quantile(0.5, "rlsd_learner_group_age_seconds"), "{{run}} p50"),
            Query(quantile(0.95, "rlsd_learner_group_age_seconds"), "{{run}} p95"),
            unit="s",
            text="From admission to its batch. Normal: one to two steps, times run.max_staleness + "
            "1.",
            page="staleness.md",
            columns=6,
        ),
        graph(
            "Groups not trained",
            Query(
                or_0(
                    f"sum by (run, reason) (clamp_min(delta(rlsd_learner_groups{{{R}, "
                    'outcome=~"rejected|failed"}[$window]), 0))'
                ),
                "{{run}} {{reason}}",
            ),
            Query(
                count("rlsd_verifier_groups_total", "outcome", where='outcome!="passed"'),
                "verifier: {{outcome}}",
            ),
            unit="short",
            text="In the window, by reason. zero_variance is normal; stale: see staleness; "
            "no_verdict and the names of errors: see the service of that name.",
            page="account.md",
            columns=6,
        ),
    ]
