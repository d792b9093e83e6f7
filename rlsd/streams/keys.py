"""Every Redis key of a run; all of them share one hash tag, so a cluster keeps them together.

| key | type | holds |
|---|---|---|
| `{rlsd:RUN}:in_flight` | hash | group id -> stage |
| `{rlsd:RUN}:entries:STAGE` | stream | group, payload, trace; consumer group `workers` |
| `{rlsd:RUN}:bell:STAGE` | list | rings that wake idle consumers; losing one costs a short wait |
| `{rlsd:RUN}:asking:STAGE` | sorted set | consumer, when it last asked for work: who has a share |
| `{rlsd:RUN}:dead_letters` | stream | group, stage, reason, deliveries, trace |
"""

from __future__ import annotations

from rlsd.streams.stage import Stage

CONSUMER_GROUP = "workers"
NOBODY = "nobody"
"""Owner of claims that were given back: no consumer may carry this name."""


class Keys:
    """The key names of one run."""

    def __init__(self, run_id: str) -> None:
        if not run_id or "{" in run_id or "}" in run_id:
            raise ValueError(f"run_id {run_id!r} must not be empty or contain braces")
        self._prefix = f"{{rlsd:{run_id}}}:"
        self.in_flight = self._prefix + "in_flight"
        self.dead_letters = self._prefix + "dead_letters"

    def entries(self, stage: Stage) -> str:
        """The stream of a stage."""
        return f"{self._prefix}entries:{stage}"

    def bell(self, stage: Stage) -> str:
        """The list on which idle consumers of a stage wait."""
        return f"{self._prefix}bell:{stage}"

    def asking(self, stage: Stage) -> str:
        """The consumers of a stage that ask for work."""
        return f"{self._prefix}asking:{stage}"

    def all(self) -> list[str]:
        """Every key that this run can have."""
        staged = [name(stage) for stage in Stage for name in (self.entries, self.bell, self.asking)]
        return [self.in_flight, self.dead_letters, *staged]
