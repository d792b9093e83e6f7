"""Prompts, trajectories and groups as many tests need them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rlsd.trajectory import (
    FinishReason,
    Group,
    GroupPlan,
    Message,
    Prompt,
    SamplingParams,
    TeacherScores,
    Trajectory,
    Verdict,
    VerdictOutcome,
    VerifierSpec,
)


def make_prompt(text: str = "2 + 2 = ?", **changes) -> Prompt:
    prompt = Prompt(
        id="p",
        messages=(Message(role="user", content=text),),
        reference="4",
        verifier=VerifierSpec(kind="exact", params={"after": "#"}),
        privileged="two and two make 4",
    )
    return replace(prompt, **changes)


def make_trajectory(member: int = 0, *, reward: float | None = 1.0, length: int = 3, **changes):
    verdict = (
        Verdict(outcome=VerdictOutcome.TIMEOUT, reason="slow")
        if reward is None
        else Verdict(outcome=VerdictOutcome.SCORED, reward=reward)
    )
    generator = np.random.default_rng(member)
    trajectory = Trajectory(
        member=member,
        token_ids=generator.integers(3, 20, length).astype(np.int32),
        rollout_logprobs=-generator.random(length).astype(np.float32),
        text="# 4",
        finish_reason=FinishReason.STOP,
        min_policy_version=0,
        max_policy_version=0,
        verdict=verdict,
    )
    return replace(trajectory, **changes)


def make_group(rewards=(1.0, 0.0, 0.0, 1.0), *, index: int = 0, **changes) -> Group:
    group = Group(
        run_id="run",
        group_id=f"g{index:08d}",
        index=index,
        prompt=make_prompt(),
        sampling=SamplingParams(num_completions=len(rewards), max_tokens=8),
        plan=GroupPlan(),
        required_policy_version=0,
        prompt_token_ids=np.arange(3, 8, dtype=np.int32),
        trajectories=tuple(make_trajectory(m, reward=r) for m, r in enumerate(rewards)),
    )
    return replace(group, **changes)


def make_scores(length: int = 3, *, support: int = 0, version: int = 0) -> TeacherScores:
    generator = np.random.default_rng(length)
    shape = (length, support)
    return TeacherScores(
        teacher_version=version,
        teacher_logprobs=-generator.random(length).astype(np.float32),
        student_logprobs=-generator.random(length).astype(np.float32),
        support_ids=generator.integers(0, 20, shape).astype(np.int32) if support else None,
        teacher_support_logprobs=-generator.random(shape).astype(np.float32) if support else None,
    )
