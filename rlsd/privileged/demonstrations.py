"""Which sibling's completion a teacher may read as a demonstration (SDPO). Pure."""

from __future__ import annotations

from collections.abc import Sequence


def demonstration_indices(
    rewards: Sequence[float | None], *, threshold: float = 1.0
) -> list[int | None]:
    """For each member of a group, the first other member that succeeded.

    A trajectory never demonstrates for itself, so the only success of a group gets no teacher.

    Args:
        rewards: of one group, in member order; None where the verdict was not scored.
        threshold: the least reward that counts as a success.

    Returns:
        A member index, or None where no sibling succeeded.

    Source: SDPO, as released (lasgroup/SDPO 0e6d510).
    """
    successes = [i for i, r in enumerate(rewards) if r is not None and r >= threshold]
    return [
        next((success for success in successes if success != member), None)
        for member in range(len(rewards))
    ]
