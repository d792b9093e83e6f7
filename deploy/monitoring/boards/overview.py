"""Is my run healthy? One screen of 1920 × 1080."""

from __future__ import annotations

from typing import Any

from deploy.monitoring.boards.shared import (
    AT_STAGE,
    BURIED,
    MEAN_STEP,
    OLDEST,
    REDELIVERED,
    RESIDUAL,
    SERVICE_STATE,
    SERVICE_STATES,
    STEP_SECONDS,
    TRAINED_TWICE,
    WAIT_P95,
    staleness,
    weights_p95,
    without_verdict,
)
from deploy.monitoring.panels import (
    BLUE,
    GREEN,
    MUST_BE_0,
    ORANGE,
    RED,
    YELLOW,
    Band,
    Column,
    Query,
    R,
    dashboard,
    graph,
    largest,
    number,
    or_0,
    rate,
    rows,
    smallest,
    total,
)

_STEP, _NUM_STEPS = largest("rlsd_learner_step"), largest("rlsd_learner_num_steps")


def board() -> dict[str, Any]:
    """The dashboard."""
    return dashboard(
        "overview",
        "Overview",
        "Is my run healthy? What is red here has a runbook page behind the panel's link.",
        [Band(4, _verdict()), Band(7, _learning()), Band(7, _time()), Band(6, _flow())],
    )


def _verdict() -> list[Any]:
    return [
        number(
            "Alerts",
            Query(
                f'count(ALERTS{{alertname=~"Rlsd.+", alertstate="firing", {R}}}) or vector(0)', ""
            ),
            unit="none",
            text="Rules that fire now. Normal: 0. The alerts themselves stand in Prometheus, each "
            "with the address of its runbook page. 0 too where the rules are not loaded.",
            page="README.md",
            steps=MUST_BE_0,
            filled=True,
            columns=2,
        ),
        number(
            "Progress",
            Query(f"{_STEP} / {_NUM_STEPS}"),
            unit="percentunit",
            text="Optimizer steps done of run.steps. Normal: it grows at an even pace. Else see "
            "the alerts RlsdLearnerStalled and RlsdLearnerStarved.",
            page="learner.md",
            steps=((None, BLUE), (1, GREEN)),
            trend=True,
        ),
        number(
            "Time left",
            Query(f"({_NUM_STEPS} - {_STEP}) * ({MEAN_STEP})"),
            unit="s",
            text="Steps to go, times the mean step of the dashboard's time range, evaluations "
            "included. Normal: it falls. Choose a longer range when steps are slow.",
            page="learner.md",
            decimals=1,
        ),
        number(
            "Reward",
            Query(largest("rlsd_learner_reward_mean")),
            unit="percentunit",
            text="Mean reward of the last batch, privileged context excluded. Normal: it rises, "
            "then levels off. A fall by half is the alert RlsdRewardCollapse.",
            page="learning.md",
            trend=True,
        ),
        number(
            "Held-out accuracy",
            Query(largest("rlsd_learner_held_out_accuracy_ratio")),
            unit="percentunit",
            text="Greedy completions of held-out prompts, last evaluation. Normal: it follows the "
            "reward. Reward up and this down: the policy found a hole in the verifier.",
            page="learning.md",
            trend=True,
        ),
        number(
            "Account",
            Query(RESIDUAL, "residual"),
            Query(TRAINED_TWICE, "trained twice"),
            unit="none",
            text="Groups without an outcome, and groups trained twice. Both must be 0, always, "
            "through every crash. Else stop the run and run `rlsd audit`.",
            page="account.md",
            steps=MUST_BE_0,
            named=True,
            filled=True,
            columns=4,
        ),
        number(
            "Services",
            Query(SERVICE_STATE, "{{service}}"),
            unit="none",
            text="Of each service its worst replica: ready (/readyz), not ready, stalled "
            "(/livez is 503). Normal: ready. `rlsd why RUN` says what each waits for.",
            page="services.md",
            words=SERVICE_STATES,
            named=True,
            filled=True,
            columns=6,
        ),
    ]


def _learning() -> list[Any]:
    return [
        graph(
            "Reward and held-out accuracy",
            Query(largest("rlsd_learner_reward_mean"), "reward"),
            Query(largest("rlsd_learner_held_out_accuracy_ratio"), "held-out accuracy"),
            unit="percentunit",
            most=1,
            text="Normal: both rise. They part when the policy is over-trained on the prompts or "
            "games the verifier: then look at completions in the run's report.",
            page="learning.md",
            columns=6,
        ),
        graph(
            "Groups by verdict",
            *(
                Query(
                    rate("rlsd_learner_groups_judged_total", where=f'outcome="{x}"'),
                    name,
                    color=paint,
                )
                for x, name, paint in (
                    ("mixed", "mixed (learned from)", BLUE),
                    ("all_pass", "all pass", GREEN),
                    ("all_fail", "all fail", RED),
                )
            ),
            unit="short",
            stacked=True,
            text="Groups a second. Only mixed ones carry a gradient. Mostly all-fail: the task is "
            "too hard or the verifier refuses everything; mostly all-pass: it is learned. "
            "Normal: mixed first, then all-pass.",
            page="learning.md",
            columns=6,
        ),
        graph(
            "Entropy, and rollout against learner",
            Query(largest("rlsd_learner_entropy_nats"), "entropy"),
            Query(largest("rlsd_learner_mismatch_kl_nats"), "mismatch KL (right)", on_right="sci"),
            unit="none",
            text="Nats a token. Entropy normally falls slowly; at a tenth of its highest with "
            "a reward below 0.9 the policy has stopped exploring. The mismatch is normally "
            "below 1e-3: above 0.05 engine and learner compute different models.",
            page="mismatch.md",
            columns=6,
        ),
        graph(
            "Credit: what the teacher changes",
            Query(or_0(largest("rlsd_credit_weight_entropy_ratio")), "weight entropy (1 = GRPO)"),
            Query(or_0(total("rlsd_credit_weight_clip_ratio")), "share clipped"),
            Query(or_0(largest("rlsd_credit_leakage_ratio")), "leakage, held out"),
            unit="percentunit",
            most=1,
            text="Normal: weight entropy above 0.4, less than half clipped, leakage 0. All "
            "0 for a method without a teacher. Details: RLSD / Credit.",
            page="credit.md",
            columns=6,
        ),
    ]


def _time() -> list[Any]:
    busy = rate("rlsd_service_state_seconds_total", "service", where='state="busy"')
    return [
        graph(
            "Busy share of each service",
            Query(f"{busy} / {rate('rlsd_service_state_seconds_total', 'service')}", "{{service}}"),
            unit="percentunit",
            most=1,
            text="The rest is waiting. Normal: the services on the scarce device are busy, a "
            "verifier mostly idle. A learner below 80 % waits for a stage: see the queue "
            "table.",
            page="learner.md",
            columns=6,
        ),
        graph(
            "Learner's time by phase",
            *(
                Query(rate(f"{STEP_SECONDS}_sum", where=f'phase="{phase}"'), phase)
                for phase in ("train", "wait", "publish", "log", "checkpoint", "evaluate")
            ),
            unit="percentunit",
            stacked=True,
            text="Share of the time; a phase counts when it ends. Normal: train is the largest. "
            "Large wait: a stage is too slow (`rlsd plan` splits devices anew); large publish: the "
            "volume is slow.",
            page="learner.md",
            columns=6,
        ),
        graph(
            "Tokens a second",
            Query(rate("rlsd_rollout_tokens_total", where='kind="completion"'), "sampled"),
            Query(rate("rlsd_learner_trained_tokens_total"), "trained"),
            Query(rate("rlsd_teacher_tokens_total"), "scored by the teacher"),
            unit="short",
            text="Sampled minus trained is what was rejected (equal rewards, stale) or sampled for "
            "evaluation. Normal: trained follows sampled.",
            page="learner.md",
            columns=6,
        ),
        without_verdict(),
    ]


def _flow() -> list[Any]:
    return [
        rows(
            "Queues",
            Column("groups", AT_STAGE, "none"),
            Column(
                "oldest",
                OLDEST,
                "s",
                ((None, GREEN), (900, ORANGE), (1800, RED)),
                decimals=1,
            ),
            Column("p95 wait", WAIT_P95, "s", decimals=2),
            Column(
                "given out again",
                REDELIVERED,
                "none",
                ((None, GREEN), (1, YELLOW)),
                decimals=0,
            ),
            Column(
                "buried",
                BURIED,
                "none",
                ((None, GREEN), (1, RED)),
                decimals=0,
            ),
            by=("run", "stage"),
            text="One row for each stage that a group passes. Where groups and age grow is the "
            "slow stage. Given out again: a worker died or failed; buried: three times. "
            "Normal: 0 of both.",
            page="queues.md",
            columns=9,
        ),
        staleness(columns=5),
        graph(
            "Policy version",
            Query(largest("rlsd_learner_policy_version"), "learner"),
            Query(largest("rlsd_rollout_policy_version"), "rollout, newest"),
            Query(smallest("rlsd_rollout_policy_version"), "rollout, oldest"),
            Query(largest("rlsd_teacher_version"), "teacher"),
            unit="none",
            least=None,
            text="Normal: rollout follows the learner at once, the teacher every "
            "teacher.sync_every steps. A replica that stays behind is RlsdWeightSkew.",
            page="weights.md",
            columns=5,
        ),
        weights_p95(
            "Weights: how long an update takes, p95", columns=5, where='phase=~"publish|pause"'
        ),
    ]
