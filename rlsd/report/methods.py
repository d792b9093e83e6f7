"""What each method does, in words and as a formula, for people who open a report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Direction(StrEnum):
    """Who decides whether a token is made likelier."""

    VERDICT = "verdict"
    TEACHER = "teacher"


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodWords:
    """A method for a reader."""

    words: str
    formula: str
    direction: Direction = Direction.VERDICT
    """Decides the colour of a token in the heatmaps."""
    weighted: bool = False
    """Whether tokens carry the weight w."""
    normalised: bool = True
    """Whether the group advantage is divided by the deviation."""


_ADVANTAGE = "A = (R − mean R) / (std R + 10⁻⁶)          over the group"

_WORDS = {
    "rlsd": MethodWords(
        words="The verdict of the verifier fixes the direction of every update (the sign of A). "
        "A self-teacher, the same model reading privileged context, fixes its size token by token.",
        formula=f"{_ADVANTAGE}\n"
        "Δ_t = log P_teacher(y_t) − log P_student(y_t)\n"
        "w_t = exp( sign(A) · Δ_t )\n"
        "A_t = A · [ (1 − λ) + λ · clip(w_t, 1 − ε_w, 1 + ε_w) ]",
        weighted=True,
    ),
    "grpo": MethodWords(
        words="The verdict decides; every token of a completion carries the same advantage.",
        formula=_ADVANTAGE,
    ),
    "dr_grpo": MethodWords(
        words="GRPO without the division by the group's deviation and with a constant length.",
        formula="A = R − mean R          over the group",
        normalised=False,
    ),
    "dapo": MethodWords(
        words="GRPO with a wider clip above ratio 1 and a token mean over the kept groups.",
        formula=_ADVANTAGE,
    ),
    "gspo": MethodWords(
        words="GRPO with one importance ratio for the whole sequence.",
        formula=f"{_ADVANTAGE}\ns = exp( mean_t (log π − log π_old) )",
    ),
    "cispo": MethodWords(
        words="The importance ratio is clipped and detached; every token keeps its gradient.",
        formula=f"{_ADVANTAGE}\nloss = − sg(clip(ratio)) · A · log π",
    ),
    "opsd": MethodWords(
        words="On-policy self-distillation: the policy imitates itself reading privileged context. "
        "No verdict enters the loss.",
        formula="loss = D( P_teacher ‖ P_student ) at every sampled prefix",
        direction=Direction.TEACHER,
    ),
    "grpo+opsd": MethodWords(
        words="GRPO plus self-distillation: verdict and teacher both push a direction.",
        formula=f"{_ADVANTAGE}\nloss = GRPO + c · D( P_teacher ‖ P_student )",
        direction=Direction.TEACHER,
    ),
    "sdpo": MethodWords(
        words="Distillation from the policy reading a successful sibling's completion.",
        formula="loss = D( P_student ‖ P_teacher ) where a sibling succeeded",
        direction=Direction.TEACHER,
    ),
    "opd": MethodWords(
        words="Distillation from an external teacher on the policy's own samples.",
        formula="A_t = log P_teacher(y_t) − log P_rollout(y_t)",
        direction=Direction.TEACHER,
    ),
}


def words_of(method: str) -> MethodWords:
    """The description of `method`; an unknown one is described by its name alone."""
    return _WORDS.get(method, MethodWords(words="", formula=""))
