"""How to read a comparison: what its numbers show and what they do not, in sentences. Pure.

One rule: every sentence follows from the numbers, and a difference within noise supports no claim.
"""

from __future__ import annotations

from collections.abc import Sequence

from rlsd.report.arms import Arm, ArmRow, Comparison, Control, Pair, mean_curve, pair_of
from rlsd.report.page import duration, percent, points
from rlsd.report.statistics import SMALL_NUM_SEEDS, Evidence, PairedDifference

LEAKAGE_ALARM = 0.1
STILL_CLIMBING = 0.02
"""Rise of the mean over the last quarter of the steps that counts as not finished."""


def reading(comparison: Comparison, rows: Sequence[ArmRow], pairs: Sequence[Pair]) -> list[str]:
    """The paragraph, one sentence or two for each point."""
    baselines = [p for p in pairs if p.arm.control is None]
    controls = [p for p in pairs if p.arm.control is not None]
    return [
        _what_ran(comparison, rows),
        *(_baseline(comparison, p) for p in baselines),
        *_controls(comparison, controls, baselines, rows),
        *_ceiling(comparison, rows),
        *_leakage(rows),
        *_time(rows),
        _limits(rows),
    ]


def interval(difference: PairedDifference | None) -> str:
    """A difference with its interval, in points."""
    if difference is None:
        return "not measured"
    text = f"{points(difference.mean)} points"
    if difference.low is None:
        return f"{text}, one seed"
    return f"{text}, 95 % interval {points(difference.low)} to {points(difference.high)}"


def _what_ran(comparison: Comparison, rows: Sequence[ArmRow]) -> str:
    seeds = max(len(row.arm.runs) for row in rows)
    prompts = f" on {comparison.num_prompts} held-out prompts" if comparison.num_prompts else ""
    return (
        f"Shown: {len(rows)} arms with up to {seeds} seed{'s' * (seeds != 1)}, "
        f"{comparison.steps} steps each; a seed fixes prompts and their order for all arms. "
        f"Accuracy is {comparison.metric_words}{prompts}. A difference counts as beyond noise only "
        "when both the paired bootstrap interval and the paired t interval over seeds exclude 0."
    )


def _baseline(comparison: Comparison, pair: Pair) -> str:
    """What the subject shows against an arm that is not a control."""
    subject, other = comparison.subject.name, pair.arm.name
    half, end = pair.half, pair.end
    match (_evidence(half), _evidence(end)):
        case (_, None):
            return f"{subject} and {other} have no common seed measured at the end: no comparison."
        case (_, Evidence.AHEAD):
            return f"{subject} ends ahead of {other} ({interval(end)})."
        case (_, Evidence.BEHIND):
            return f"{subject} ends behind {other} ({interval(end)})."
        case (Evidence.AHEAD, _):
            return (
                f"{subject} is ahead of {other} at step {comparison.half_step} ({interval(half)}) "
                f"but within noise of it at the end ({interval(end)}): fewer steps to get there, "
                "not a higher end."
            )
        case (Evidence.BEHIND, _):
            return (
                f"{subject} is behind {other} at step {comparison.half_step} ({interval(half)}) "
                f"and within noise of it at the end ({interval(end)})."
            )
        case _:
            return (
                f"Between {subject} and {other} nothing is shown: the differences at step "
                f"{comparison.half_step} ({interval(half)}) and at the end ({interval(end)}) are "
                "within noise."
            )


def _controls(
    comparison: Comparison,
    controls: Sequence[Pair],
    baselines: Sequence[Pair],
    rows: Sequence[ArmRow],
) -> list[str]:
    """What the controls allow to say about the cause."""
    if not controls:
        return [
            "No control arm ran: if there is a difference, this comparison cannot say whether the "
            "teacher's content or the placement of credit on tokens explains it."
        ]
    is_gain = any(Evidence.AHEAD in (_evidence(p.half), _evidence(p.end)) for p in baselines)
    gain = "the gain" if is_gain else "any gain"
    sentences = [_control(comparison, pair, gain) for pair in controls]
    base = _strongest([p.arm for p in baselines], rows)
    for pair in controls if base is not None else ():
        assert base is not None
        end = pair_of(pair.arm, base, comparison).end
        if _evidence(end) is Evidence.AHEAD:
            sentences.append(
                f"The control {pair.arm.name} itself ends ahead of {base.name} ({interval(end)}): "
                "that much is had without the ingredient it takes away."
            )
    return sentences


def _strongest(arms: Sequence[Arm], rows: Sequence[ArmRow]) -> Arm | None:
    """The arm with the highest mean at the end."""
    means = {r.arm.name: r.end.estimate.mean for r in rows if r.end.estimate is not None}
    measured = [arm for arm in arms if arm.name in means]
    return max(measured, key=lambda arm: means[arm.name], default=None)


def _control(comparison: Comparison, pair: Pair, gain: str) -> str:
    """What one control says about the ingredient that it takes away."""
    subject, other = comparison.subject.name, pair.arm.name
    assert pair.arm.control is not None
    ingredient = {
        Control.PERMUTED: "the placement of credit on tokens",
        Control.OTHER_REFERENCE: "the teacher's content",
    }[pair.arm.control]
    half, end = _evidence(pair.half), _evidence(pair.end)
    numbers = f"step {comparison.half_step}: {interval(pair.half)}; end: {interval(pair.end)}"
    introduced = f"the control {other} ({pair.arm.control.value}; {numbers})"
    match (half, end):
        case (_, Evidence.BEHIND):
            return f"{subject} ends behind {introduced}: {ingredient} does not explain {gain}."
        case (_, Evidence.AHEAD):
            return f"{subject} ends ahead of {introduced}: {ingredient} matters here."
        case (Evidence.AHEAD, _):
            return (
                f"{subject} is ahead of {introduced} half way, within noise at the end: "
                f"{ingredient} matters for the speed here, and is not shown to for the end."
            )
        case _:
            return (
                f"{subject} is within noise of {introduced}: {ingredient} is not shown to explain "
                f"{gain}."
            )


def _ceiling(comparison: Comparison, rows: Sequence[ArmRow]) -> list[str]:
    """Which arms had not finished learning."""
    climbing = [row.arm.name for row in rows if _rise(row, comparison) > STILL_CLIMBING]
    if not climbing:
        return []
    names = ", ".join(climbing)
    return [f"Still climbing when the run ended: {names}. Nothing is said about the final level."]


def _rise(row: ArmRow, comparison: Comparison) -> float:
    """Rise of the mean accuracy over the last quarter of the steps."""
    curve = mean_curve(row.arm, comparison.metric)
    late = [
        v for s, v in zip(curve.steps, curve.values, strict=True) if s >= 0.75 * comparison.steps
    ]
    return late[-1] - late[0] if len(late) > 1 else 0.0


def _leakage(rows: Sequence[ArmRow]) -> list[str]:
    leaking = [row for row in rows if (row.leakage_max or 0.0) > LEAKAGE_ALARM]
    return [
        f"{row.arm.name} cites what only the teacher has read in up to "
        f"{percent(row.leakage_max)} of held-out completions (at its last evaluation "
        f"{percent(row.leakage_last)})."
        for row in leaking
    ]


def _time(rows: Sequence[ArmRow]) -> list[str]:
    """Equal steps are not equal time."""
    timed = [row for row in rows if row.duration_s]
    if len(timed) < 2:
        return []
    listed = ", ".join(f"{row.arm.name} {duration(row.duration_s)}" for row in timed)
    return [f"Arms are compared at equal steps, not at equal time; a run took {listed}."]


def _limits(rows: Sequence[ArmRow]) -> str:
    """What more runs would be needed for."""
    fewest = min(len(row.arm.runs) for row in rows)
    text = (
        "All runs start from one base model, so the spread over seeds leaves out the spread over "
        "base models. Intervals are not corrected for looking at several arms and two steps. An "
        "arm is only as good as its settings below: a better tuned one may be closer."
    )
    if fewest >= SMALL_NUM_SEEDS:
        return text
    seeds = "one seed" if fewest == 1 else f"{fewest} seeds"
    return (
        f"With {seeds} an interval is itself rough: read the per-seed values, and run at least "
        f"{SMALL_NUM_SEEDS} seeds before relying on a difference. {text}"
    )


def _evidence(difference: PairedDifference | None) -> Evidence | None:
    return None if difference is None else difference.evidence
