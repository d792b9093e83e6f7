"""The stages a group passes, in order; the one rule is that a group only ever moves forward."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """Where a group waits or is worked on."""

    ROLLOUT = "rollout"
    """A prompt waits for its completions."""
    VERIFY = "verify"
    """Completions wait for their verdicts."""
    TEACH = "teach"
    """Verdicts are in; the sampled tokens wait for teacher log-probs."""
    TRAIN = "train"
    """An outcome waits for the learner: work for a batch, a rejection or a failure."""

    def precedes(self, other: Stage) -> bool:
        """Whether a group may move from this stage to the other."""
        order = list(Stage)
        return order.index(self) < order.index(other)
