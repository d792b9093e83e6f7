"""RLSD's own: what the teacher says, and what becomes of it."""

from __future__ import annotations

from typing import Any

from deploy.monitoring.boards.shared import (
    spread,
)
from deploy.monitoring.panels import (
    GREEN,
    MUST_BE_0,
    ORANGE,
    RED,
    Band,
    Query,
    dashboard,
    graph,
    heat,
    largest,
    number,
    rate,
)


def board() -> dict[str, Any]:
    """The dashboard."""
    return dashboard(
        "credit",
        "Credit",
        "Token-level credit from the self-teacher. Empty for methods without one.",
        [
            Band(4, _figures()),
            Band(8, _weights(), "Weights of tokens"),
            Band(8, _leakage(), "Leakage"),
            Band(8, _teacher(), "Teacher"),
        ],
    )


def _figures() -> list[Any]:
    return [
        number(
            "Mean |Δ|",
            Query(largest("rlsd_credit_delta_abs_mean_nats")),
            unit="none",
            text="Nats a token: how far privileged context moves the policy's own log-probs. "
            "Normal: above 0.01. 0: the teacher has nothing to say (check privileged).",
            page="credit.md",
            decimals=3,
            trend=True,
            columns=4,
        ),
        number(
            "λ",
            Query(largest("rlsd_credit_mix_lambda")),
            unit="percentunit",
            text="Share of token-level credit; it normally follows method.lam and "
            "method.decay_steps. 0: plain GRPO.",
            page="credit.md",
            columns=4,
        ),
        number(
            "Weight entropy",
            Query(largest("rlsd_credit_weight_entropy_ratio")),
            unit="percentunit",
            text="Entropy of a sequence's weights over that of equal ones. Normal: 0.4 to 1, which "
            "is GRPO. Towards 0: a few tokens get everything.",
            page="credit.md",
            steps=((None, RED), (0.2, ORANGE), (0.4, GREEN)),
            decimals=1,
            columns=4,
        ),
        number(
            "Sign flips",
            Query(largest("rlsd_credit_sign_flips_total")),
            unit="none",
            text="Tokens whose advantage has another sign than their trajectory's. Must be 0 for "
            "RLSD; other methods may flip.",
            page="credit.md",
            steps=MUST_BE_0,
            filled=True,
            columns=4,
        ),
        number(
            "Leakage, held out",
            Query(largest("rlsd_credit_leakage_ratio")),
            unit="percentunit",
            text="Share of the last evaluation's completions that cite privileged context. Normal: "
            "0.",
            page="credit.md",
            steps=((None, GREEN), (0.01, RED)),
            filled=True,
            columns=4,
        ),
        number(
            "Teacher's share of busy time",
            Query(
                rate("rlsd_service_state_seconds_total", where='service="teacher", state="busy"')
                + " / "
                + rate(
                    "rlsd_service_state_seconds_total",
                    where='service=~"teacher|rollout|learner", state="busy"',
                )
            ),
            unit="percentunit",
            text="Of teacher, rollout and learner. Normal: a quarter or less, for one forward pass "
            "over what was sampled.",
            page="credit.md",
            steps=((None, GREEN), (0.25, ORANGE), (0.4, RED)),
            columns=4,
        ),
    ]


def _weights() -> list[Any]:
    return [
        graph(
            "Mean |Δ| and λ",
            Query(largest("rlsd_credit_delta_abs_mean_nats"), "{{run}} |Δ|"),
            Query(largest("rlsd_credit_mix_lambda"), "{{run}} λ (right)", on_right="percentunit"),
            unit="none",
            text="Normal: |Δ| falls as the policy learns what the teacher reads. At 0 from the "
            "start: no privileged context reaches the teacher.",
            page="credit.md",
            columns=6,
        ),
        heat(
            "|Δ| of a trajectory",
            "rlsd_credit_sequence_delta_abs_nats",
            unit="none",
            text="Trajectories by their mean |Δ|, nats. Normal: one band, falling. Two bands: some "
            "prompts have a useful reference and others none.",
            page="credit.md",
            columns=6,
        ),
        graph(
            "Weights at a bound",
            Query(largest("rlsd_credit_weight_clip_ratio", "side"), "{{run}} {{side}}"),
            unit="percentunit",
            steps=((None, GREEN), (0.7, RED)),
            text="Share of tokens beyond 1 ± method.eps_w. Normal: below half. Nearly all: only "
            "the sign of Δ is left; widen eps_w.",
            page="credit.md",
            columns=6,
        ),
        graph(
            "Weight entropy over time",
            Query(largest("rlsd_credit_weight_entropy_ratio")),
            unit="percentunit",
            least=None,
            text="1: equal weights, GRPO. Normal: 0.4 to 1, lower with a wide eps_w.",
            page="credit.md",
            columns=6,
        ),
    ]


def _leakage() -> list[Any]:
    return [
        graph(
            "Completions that cite privileged context",
            Query(
                f"{rate('rlsd_credit_leaks_total')} / {rate('rlsd_credit_leak_checks_total')}",
                "{{run}} in training",
            ),
            Query(largest("rlsd_credit_leakage_ratio"), "{{run}} held out"),
            unit="percentunit",
            steps=((None, GREEN), (0.01, RED)),
            text="By evaluation.leakage_patterns; without any it is always 0. Normal: 0. Above 1 % "
            "the policy learns to speak of what it cannot see: lower λ.",
            page="credit.md",
        ),
        graph(
            "Completions searched",
            Query(rate("rlsd_credit_leak_checks_total")),
            unit="short",
            text="A second. Normal: all logged completions. 0: no patterns are given.",
            page="credit.md",
        ),
        graph(
            "Tokens against their verdict",
            Query(rate("rlsd_credit_sign_flips_total")),
            unit="short",
            text="A second. Normal for RLSD: 0, by construction.",
            page="credit.md",
        ),
    ]


def _teacher() -> list[Any]:
    engine = "rlsd_teacher_engine_tokens_total"
    return [
        graph(
            "Version lag",
            Query(f"{largest('rlsd_learner_policy_version')} - {largest('rlsd_teacher_version')}"),
            unit="none",
            text="Learner's version minus the teacher's. Normal: a saw-tooth up to "
            "teacher.sync_every.",
            page="weights.md",
            columns=5,
        ),
        graph(
            "Time of a group",
            *spread("rlsd_teacher_group_duration_seconds"),
            unit="s",
            text="From the request to its scores, waiting included. Normal: far below the time of "
            "sampling it.",
            page="credit.md",
            columns=5,
        ),
        graph(
            "Trajectories",
            Query(rate("rlsd_teacher_trajectories_total", "outcome"), "{{outcome}}"),
            Query(rate("rlsd_teacher_prefixes_too_long_total"), "groups: prefix too long"),
            unit="short",
            text="A second. skipped: no verdict, or no scores are needed. Prefix too long: the "
            "privileged prompt does not fit, so its tokens have weight 1. Normal: scored "
            "alone.",
            page="credit.md",
            columns=5,
        ),
        graph(
            "Tokens scored",
            Query(rate("rlsd_teacher_tokens_total")),
            unit="short",
            text="A second. Normal: it follows what is sampled, less what was rejected.",
            page="credit.md",
            columns=4,
        ),
        graph(
            "Tokens on an engine",
            Query(rate(engine, "kind"), "{{kind}}"),
            unit="short",
            text="A second, prefixes of both contexts included; only on vLLM or SGLang. Normal: "
            "computed below given, thanks to the prefix cache.",
            page="credit.md",
            columns=5,
        ),
    ]
