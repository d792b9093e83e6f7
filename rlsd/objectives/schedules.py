"""How much the teacher's credit counts at a step, and which teacher gives it.

Steps are optimizer steps counted from 1. Pure Python: every service computes the same answer.
"""

from __future__ import annotations


def lambda_at(step: int, *, lam: float, decay_steps: int, warmup_steps: int = 0) -> float:
    """The share lambda of token-level credit at a step.

    Rises linearly to `lam` at step `warmup_steps`, then falls linearly to 0 over `decay_steps`.

    Args:
        step: >= 1.
        lam: the share before any decay, in [0, 1].
        decay_steps: 0 keeps `lam` for good.

    Source: RLSD (arXiv:2604.03128), with steps counted from 1 as in the released code.
    """
    _check_step(step)
    if step < warmup_steps:
        return lam * step / warmup_steps
    if decay_steps == 0:
        return lam
    return lam * max(1.0 - (step - warmup_steps) / decay_steps, 0.0)


def teacher_version_at(step: int, *, sync_every: int) -> int:
    """The policy version whose weights teach at a step: `floor((step - 1) / N) * N`.

    Args:
        step: >= 1.
        sync_every: N, steps between copies of the policy into the teacher; 1 is a live teacher.

    Source: RLSD's released code: the copy is made after the update of every N-th step.
    """
    _check_step(step)
    if sync_every < 1:
        raise ValueError(f"sync_every is {sync_every}; it must be at least 1")
    return (step - 1) // sync_every * sync_every


def _check_step(step: int) -> None:
    if step < 1:
        raise ValueError(f"step is {step}; steps are counted from 1")
