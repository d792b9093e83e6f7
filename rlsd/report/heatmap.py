"""Token-credit heatmaps: groups from the batch log as rows of coloured tokens. Pure.

One rule: hue is the direction of the update and depth is its size, and nothing else is coloured.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from rlsd.report import credit
from rlsd.report.methods import Direction, MethodWords
from rlsd.report.page import TokenTexts
from rlsd.trajectory import FinishReason, Trajectory

MAX_TOKENS = 300
"""Shown of one completion: the window around its largest |Δ|."""
MAX_TEXT = 2000
NUM_OPEN = 4
NUM_LEVELS = 20
FLAT_LEVEL = 6
"""Depth where every token weighs the same."""
FULL_DELTA = 3.0
"""Nats that are drawn in the deepest colour."""
_OF_A_TOOL = "of a tool: not learned from"


class Hue(StrEnum):
    """Direction of a completion's or token's update; the values are style-sheet classes."""

    UP = "pos"
    DOWN = "neg"
    NONE = "none"
    TOOL = "tool"
    """No token of the policy: its update has no direction at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """What decides the colours in this run."""

    words: MethodWords
    rule: credit.CreditRule
    token_texts: TokenTexts


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenView:
    """One coloured token."""

    text: str
    level: int
    """Depth of the colour, 0 … NUM_LEVELS."""
    hue: Hue
    tip: str
    is_clipped: bool = False
    """The update used the bound 1 ± ε_w instead of this weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionView:
    """One trajectory."""

    member: int
    hue: Hue
    verdict: str
    reason: str
    advantage: float | None
    cut: bool
    """It reached its limit of tokens or turns."""
    num_before: int
    num_after: int
    tokens: tuple[TokenView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupView:
    """One group, the most telling completions first."""

    step: int
    lam: float | None
    group_id: str
    prompt: str
    reference: str
    privileged: str
    outcome: str
    teacher_skipped: str
    num_right: int
    num_members: int
    completions: tuple[CompletionView, ...]


def group_view(picked: credit.Picked, palette: Palette, lam: float | None) -> GroupView:
    """A group as the template wants it.

    Args:
        lam: λ of the step that trained on it, when it is known.
    """
    group = picked.group
    advantages = credit.group_advantages(group.rewards, normalise=palette.words.normalised)
    views = [
        completion_view(t, a, palette, lam)
        for t, a in _by_interest(list(zip(group.trajectories, advantages, strict=True)))
    ]
    return GroupView(
        step=picked.step,
        lam=lam,
        group_id=group.prompt.id or group.group_id,
        prompt=_shortened("\n".join(m.content for m in group.prompt.messages)),
        reference=_shortened(group.prompt.reference),
        privileged=_shortened(group.prompt.privileged or ""),
        outcome=f"{group.outcome.value} {group.reason}".strip(),
        teacher_skipped=group.teacher_skipped,
        num_right=sum(1 for r in group.rewards if r is not None and r > 0),
        num_members=len(group.trajectories),
        completions=tuple(views),
    )


def completion_view(
    trajectory: Trajectory, advantage: float | None, palette: Palette, lam: float | None
) -> CompletionView:
    """One trajectory with its tokens coloured."""
    deltas = credit.token_deltas(trajectory)
    start, stop = _window(deltas, trajectory.num_tokens)
    verdict = trajectory.verdict
    return CompletionView(
        member=trajectory.member,
        hue=_hue(advantage),
        verdict=_verdict_words(trajectory),
        reason=_shortened(verdict.reason, 200) if verdict is not None else "",
        advantage=advantage,
        cut=trajectory.finish_reason is not FinishReason.STOP,
        num_before=start,
        num_after=trajectory.num_tokens - stop,
        tokens=tuple(_tokens(trajectory, advantage, palette, lam)[start:stop]),
    )


def _tokens(
    trajectory: Trajectory, advantage: float | None, palette: Palette, lam: float | None
) -> list[TokenView]:
    """Every token; those of tools are not coloured, since nothing is learned from them."""
    return [
        token if is_sampled else replace(token, level=0, hue=Hue.TOOL, tip=_OF_A_TOOL)
        for token, is_sampled in zip(
            _coloured(trajectory, advantage, palette, lam), trajectory.sampled, strict=True
        )
    ]


def _coloured(
    trajectory: Trajectory, advantage: float | None, palette: Palette, lam: float | None
) -> list[TokenView]:
    deltas = credit.token_deltas(trajectory)
    ids = trajectory.token_ids.tolist()
    texts = [_visible(text) for text in palette.token_texts(ids)]
    names = [f"token {t + 1} · id {i}" for t, i in enumerate(ids)]
    hue = _hue(advantage)
    if deltas is None:
        return [
            TokenView(text=text, level=FLAT_LEVEL, hue=hue, tip=name)
            for text, name in zip(texts, names, strict=True)
        ]
    hues, weights, is_clipped = [hue] * len(ids), None, np.zeros(len(ids), dtype=bool)
    if palette.words.direction is Direction.TEACHER:
        levels = np.minimum(np.abs(deltas) / FULL_DELTA, 1.0)
        hues = [_hue(float(d)) for d in deltas]
    else:
        weights = credit.token_weights(advantage or 0.0, deltas, palette.rule)
        levels = weight_depth(weights)
        is_clipped = credit.clipped(weights, palette.rule) != weights
    tips = _tips(trajectory, advantage, palette, lam, weights)
    return [
        TokenView(
            text=texts[t],
            level=round(float(levels[t]) * NUM_LEVELS),
            hue=hues[t],
            tip=f"{names[t]}\n{tips[t]}",
            is_clipped=bool(is_clipped[t]),
        )
        for t in range(len(ids))
    ]


def _tips(
    trajectory: Trajectory,
    advantage: float | None,
    palette: Palette,
    lam: float | None,
    weights: credit.Array | None,
) -> list[str]:
    """Δ, the log-probs, w and the resulting advantage of every token."""
    scores = trajectory.scores
    deltas = credit.token_deltas(trajectory)
    assert scores is not None
    assert deltas is not None
    lines = [
        f"Δ = {_signed(d)} nats\nteacher {_signed(teacher)} · student {_signed(student)}"
        for d, teacher, student in zip(
            deltas, scores.teacher_logprobs, scores.student_logprobs, strict=True
        )
    ]
    if weights is None:
        return lines
    held = credit.clipped(weights, palette.rule)
    lines = [
        f"{line}\nw = {w:.3g}" + (f" → clipped {h:.3g}" if abs(w - h) > 1e-9 else "")
        for line, w, h in zip(lines, weights, held, strict=True)
    ]
    if lam is None or advantage is None:
        return lines
    factors = (1 - lam) + lam * held
    return [
        f"{line}\nA_t = {_signed(advantage)} × {f:.3g} = {_signed(advantage * f)}"
        for line, f in zip(lines, factors, strict=True)
    ]


def weight_depth(weights: credit.Array) -> credit.Array:
    """[T] depth by log w: faint below w = 1, deepest from w = e³ ≈ 20 on.

    Before the clip, since the clip hides by how much one token stands out from the others.
    """
    flat = FLAT_LEVEL / NUM_LEVELS
    nats = np.log(weights) / FULL_DELTA
    return np.clip(np.where(nats > 0, flat + (1 - flat) * nats, flat * (1 + 2 * nats)), 0.0, 1.0)


def _by_interest(
    rows: list[tuple[Trajectory, float | None]],
) -> list[tuple[Trajectory, float | None]]:
    """Half of the open rows for wrong trajectories with one clear culprit, half for right ones."""

    def ranked(sign: int) -> list[tuple[Trajectory, float | None]]:
        same = [r for r in rows if (0 if r[1] is None else int(np.sign(r[1]))) == sign]
        return sorted(same, key=lambda r: -credit.concentration(r[0]))

    wrong, right, rest = ranked(-1), ranked(1), ranked(0)
    half = NUM_OPEN // 2
    return [*wrong[:half], *right[:half], *wrong[half:], *right[half:], *rest]


def _window(deltas: credit.Array | None, num_tokens: int) -> tuple[int, int]:
    """The shown tokens: all, or MAX_TOKENS around the largest |Δ|."""
    if num_tokens <= MAX_TOKENS:
        return 0, num_tokens
    centre = int(np.abs(deltas).argmax()) if deltas is not None else 0
    start = min(max(centre - MAX_TOKENS // 2, 0), num_tokens - MAX_TOKENS)
    return start, start + MAX_TOKENS


def _verdict_words(trajectory: Trajectory) -> str:
    verdict = trajectory.verdict
    if verdict is None:
        return "no verdict"
    if not verdict.is_scored:
        return f"verdict {verdict.outcome.value}"
    return {1.0: "right", 0.0: "wrong"}.get(verdict.reward, f"reward {verdict.reward:.3g}")


def _hue(signed: float | None) -> Hue:
    if signed is None or signed == 0:
        return Hue.NONE
    return Hue.UP if signed > 0 else Hue.DOWN


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _visible(text: str) -> str:
    """Text in which line ends and empty tokens can be seen."""
    return text.replace("\r", "").replace("\n", "↵\n").replace("\t", "→\t") or "∅"


def _shortened(text: str, limit: int = MAX_TEXT) -> str:
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit} more characters)"
