"""Where the run stands, in numbers and words: what GetStatus answers and the display shows."""

from __future__ import annotations

from dataclasses import dataclass, field

from services.learner.evaluation import Evaluation


@dataclass(slots=True, kw_only=True)
class Progress:
    """Changed by the loop, read by the service."""

    num_steps: int
    step: int = 0
    reward_mean: float = 0.0
    staleness_mean: float = 0.0
    evaluation: Evaluation | None = None
    depths: dict[str, int] = field(default_factory=dict)

    def waiting_for(self) -> str:
        """Which stage the groups that are out are at, as a sentence."""
        stages = self.at_stages()
        return f"groups are waiting: {stages}" if stages else "no group is at any stage"

    def at_stages(self) -> str:
        """`3 at rollout, 5 at verify`; empty when none is anywhere."""
        return ", ".join(f"{n} at {stage}" for stage, n in self.depths.items() if n)
