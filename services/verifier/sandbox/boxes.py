"""The box of each tier; what the other tiers need is not even imported."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from services.verifier.sandbox.box import Box, Job
from services.verifier.sandbox.confine import Limits
from services.verifier.sandbox.tier import Tier


class KernelBox:
    """Tiers 1 and 2: jobs are modules, and the kernel confines the process."""

    remark = ""

    def __init__(self, tier: Tier, jobs: Sequence[str]) -> None:
        """Import the jobs; raises OSError or ImportError for what the machine lacks."""
        from services.verifier.sandbox import filters, landlock
        from services.verifier.sandbox.confine import Confinement, confine, file_rules

        self.jobs: dict[str, Job] = {name: importlib.import_module(name) for name in jobs}
        self._confine = confine
        self._confinement = Confinement(
            tier=tier,
            landlock_abi=landlock.abi(),
            python=filters.python(),
            programs=filters.programs(),
            files=file_rules(tier),
        )
        if not self._confinement.landlock_abi:
            raise OSError("this kernel has no Landlock")

    def enter(self, job: Job, limits: Limits, /) -> None:
        """Confine this process."""
        self._confine(self._confinement, limits, starts_programs=job.starts_programs)


def open_box(tier: Tier, component: str, jobs: Sequence[str]) -> Box:
    """The jobs, ready; raises OSError or ImportError for what the machine lacks."""
    if tier is not Tier.T3:
        return KernelBox(tier, jobs)
    from services.verifier.sandbox.wasm.host import Host

    return Host(component, jobs)
