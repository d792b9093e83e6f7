"""How strong a sandbox is, and what its policy is called."""

from __future__ import annotations

from enum import StrEnum


class Tier(StrEnum):
    """From the strongest to the weakest."""

    T1 = "T1"
    """Namespaces with a private root, then Landlock, seccomp and limits."""
    T2 = "T2"
    """Landlock, seccomp and limits: works without any right, in an unprivileged pod."""

    def is_at_least(self, minimum: str) -> bool:
        """Whether this is as strong as a minimum."""
        return self.value <= minimum
