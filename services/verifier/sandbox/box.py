"""What a fork server holds ready: the jobs, and how a fork of it is confined before one of them."""

from __future__ import annotations

from typing import Protocol

from services.verifier.sandbox.confine import Limits


class Job(Protocol):
    """What a run is about: a module, or one inside the component of tier 3."""

    starts_programs: bool

    def run(self, payload: int, channels: list[int], /) -> None:
        """Do it; called in the confined process."""


class Box(Protocol):
    """Jobs and confinement of one tier."""

    jobs: dict[str, Job]
    remark: str
    """What this machine adds to the tier or lacks of it, in words."""

    def enter(self, job: Job, limits: Limits, /) -> None:
        """In the fork, before the job: there is no way back. Raises OSError."""
