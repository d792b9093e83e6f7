"""Synthetic run folders and results, written through the same wire and log as real ones."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from rlsd.batch_log import BatchLog
from rlsd.trajectory import (
    FinishReason,
    Group,
    GroupOutcome,
    GroupPlan,
    Message,
    Prompt,
    SamplingParams,
    TeacherNeed,
    TeacherScores,
    Trajectory,
    Verdict,
    VerdictOutcome,
    VerifierSpec,
)

NUM_VALUES = 12
GROUP_SIZE = 8
SEPARATOR, MARKER, END = 10, 11, 12
TEXTS = [*"0123456789", ";", "#", "<|im_end|>"]


def token_texts(ids):
    return [f" {TEXTS[i]}" for i in ids]


def make_trajectory(random, member, reference, *, wrong_at=None, scores=True):
    """A chain of values; from `wrong_at` on it is off by one, and the teacher blames that token."""
    values = [(v + (wrong_at is not None and i >= wrong_at)) % 10 for i, v in enumerate(reference)]
    ids = [*[x for v in values for x in (v, SEPARATOR)][:-1], MARKER, values[-1], END]
    student = -random.exponential(0.12, len(ids))
    delta = random.normal(0.02, 0.1, len(ids))
    if wrong_at is not None:
        delta[2 * wrong_at] = -3.7 - random.exponential(0.4)
    right = wrong_at is None
    words = f"answer {values[-1]}, reference {reference[-1]}"
    return Trajectory(
        member=member,
        token_ids=np.array(ids, dtype=np.int32),
        rollout_logprobs=student.astype(np.float32),
        text=" ".join(TEXTS[i] for i in ids),
        finish_reason=FinishReason.STOP,
        min_policy_version=0,
        max_policy_version=0,
        verdict=Verdict(outcome=VerdictOutcome.SCORED, reward=float(right), reason=words),
        scores=TeacherScores(
            teacher_version=0,
            teacher_logprobs=(student + delta).astype(np.float32),
            student_logprobs=student.astype(np.float32),
        )
        if scores
        else None,
    )


def make_group(random, index, share_right, *, scores=True, outcome=GroupOutcome.TRAINED):
    reference = random.integers(10, size=NUM_VALUES).tolist()
    question = " ".join(f"{random.choice(list('+-*'))} {random.integers(10)}" for _ in reference)
    fates = [
        None if random.random() < share_right else int(random.integers(NUM_VALUES))
        for _ in range(GROUP_SIZE)
    ]
    return Group(
        run_id="chain",
        group_id=f"g{index:06d}",
        index=index,
        prompt=Prompt(
            id=f"chain-train-{index:04d}",
            messages=(
                Message(role="user", content=f"Question: {random.integers(10)} {question} = ?"),
            ),
            reference=str(reference[-1]),
            verifier=VerifierSpec(kind="exact", params={"after": "#"}),
            privileged=" ; ".join(map(str, reference)),
        ),
        sampling=SamplingParams(num_completions=GROUP_SIZE),
        plan=GroupPlan(teacher=TeacherNeed.SAMPLED if scores else TeacherNeed.NONE),
        required_policy_version=0,
        trajectories=tuple(
            make_trajectory(random, m, reference, wrong_at=f, scores=scores)
            for m, f in enumerate(fates)
        ),
        outcome=outcome,
    )


def accuracy_at(step, steps):
    return 0.22 + 0.73 / (1 + np.exp(-(step - 0.45 * steps) / (0.09 * steps)))


def metric_row(random, step, steps, *, scores=True):
    accuracy = accuracy_at(step, steps)
    row = {
        "step": step,
        "time_s": 0.35 * step,
        "step_s": 0.33,
        "phase_s": {
            "wait": 0.18 + 0.04 * random.random(),
            "log": 0.004,
            "train": 0.09 + 0.01 * random.random(),
            "publish": 0.02,
            "evaluate": 0.4 if step % 20 == 0 else 0.0,
        },
        "reward_mean": float(np.clip(accuracy + random.normal(0, 0.07), 0, 1)),
        "completion_tokens_mean": 26 + random.normal(0, 0.2),
        "groups": {"trained": 8, "rejected": int(random.integers(3)), "failed": 0},
        "staleness_mean": 0.0,
        "lr": 3e-4 * min(step / 10, 1),
        "loss": random.normal(0, 0.02),
        "grad_norm": 0.8 * np.exp(-step / steps) + 0.1 * random.random(),
        "entropy": 0.3 * np.exp(-2 * step / steps) + 0.01 * random.random(),
        "ratio_clipped_low": 0.0,
        "ratio_clipped_high": 0.0,
        "rollout_gap": 2e-6,
        "rollout_gap_max": 4e-5,
    }
    if scores:
        row |= {
            "lam": 0.5,
            "delta_abs": 0.35 * np.exp(-step / steps) + 0.02 * random.random(),
            "weight": 1.0 + 0.02 * random.normal(),
            "weight_clipped_low": 0.012,
            "weight_clipped_high": 0.03 * np.exp(-step / steps),
        }
    return row


def evaluation_row(step, steps, shift=0.0):
    accuracy = float(min(accuracy_at(step, steps) + shift, 1.0))
    return {
        "step": step,
        "greedy_accuracy": min(accuracy + 0.02, 1.0),
        "mean_at_k": accuracy,
        "k": 4,
        "num_prompts": 256,
        "leakage": 0.05 * np.exp(-((step / steps - 0.4) ** 2) / 0.02),
        "errors": 0,
        "completion_tokens_mean": 26.0,
        "duration_s": 1.1,
    }


def config_values(method="rlsd", **settings):
    return {
        "run": {"id": "chain", "seed": 0, "steps": 200, "groups_per_step": 8},
        "model": {"path": "examples/no-such-model"},
        "data": {
            "train": "examples/chain/train.jsonl",
            "held_out": "examples/chain/held_out.jsonl",
        },
        "method": {"name": method, **settings},
        "learner": {"lr": 3e-4},
    }


def summary_values(steps):
    return {
        "run_id": "chain",
        "method": "rlsd",
        "seed": 0,
        "steps": steps,
        "policy_version": steps,
        "held_out_accuracy": {"start": 0.22, "end": 0.95},
        "outcomes": {
            "admitted": 1790,
            "trained": 1600,
            "rejected": {"zero_variance": 180, "no_verdict": 3},
            "failed": {"verifier": 2},
            "in_flight": 5,
        },
        "identity_residual": 0,
        "trained_twice": 0,
        "trajectories": 14280,
        "verdicts": {"scored": 14270, "error": 6, "timeout": 4},
        "duration_s": 73.4,
        "interrupted": False,
    }


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_run(folder: Path, *, steps=60, scores=True, num_batches=3, config=None):
    """A whole run folder; the batch log holds `num_batches` steps."""
    random = np.random.default_rng(7)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config or config_values(lam=0.5, eps_w=0.2)))
    (folder / "summary.json").write_text(json.dumps(summary_values(steps)))
    rows = [metric_row(random, s, steps, scores=scores) for s in range(1, steps + 1)]
    write_rows(folder / "metrics.jsonl", rows)
    every = max(steps // 10, 1)
    write_rows(
        folder / "evaluations.jsonl",
        [evaluation_row(s, steps) for s in range(0, steps + 1, every)],
    )
    log = BatchLog(folder / "batches", "chain")
    previous = ""
    for batch in range(1, num_batches + 1):
        share = 0.3 + 0.6 * batch / num_batches
        groups = [make_group(random, 8 * batch + i, share, scores=scores) for i in range(4)]
        previous = log.append(batch, groups, previous_sha256=previous)
    return folder


def with_text(group, text):
    """The group with `text` as prompt, reference, privileged context and verdict reason."""
    prompt = replace(
        group.prompt,
        messages=(Message(role="user", content=text),),
        reference=text,
        privileged=text,
    )
    trajectories = tuple(
        replace(t, verdict=replace(t.verdict, reason=text)) for t in group.trajectories
    )
    return replace(group, prompt=prompt, trajectories=trajectories)


def arm_entry(name, seed, accuracies, **settings):
    """One run of `results.json`; `accuracies` are mean@k at equally spaced steps of 200."""
    steps = np.linspace(0, 200, len(accuracies)).astype(int).tolist()
    rows = [
        {
            "step": step,
            "greedy_accuracy": min(accuracy + 0.03, 1.0),
            "mean_at_k": accuracy,
            "k": 4,
            "num_prompts": 256,
            "leakage": 0.01,
            "completion_tokens_mean": 26.0,
        }
        for step, accuracy in zip(steps, accuracies, strict=True)
    ]
    return {
        "name": name,
        "seed": seed,
        "run_dir": f"runs/cmp/{name}-{seed}",
        "settings": settings,
        "evaluations": rows,
        "outcomes": {
            "admitted": 10,
            "trained": 8,
            "rejected": {"zero_variance": 2},
            "failed": {},
            "in_flight": 0,
        },
        "duration_s": 70.0,
    }


def write_results(folder: Path, arms, *, steps=200):
    path = folder / "results.json"
    seeds = sorted({arm["seed"] for arm in arms})
    path.write_text(json.dumps({"task": "chain", "steps": steps, "seeds": seeds, "arms": arms}))
    return path
