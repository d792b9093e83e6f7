"""A run's queues as Redis itself knows them, for tests that strike at a chosen moment."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from typing import Any

import redis

from rlsd.streams.keys import CONSUMER_GROUP, Keys
from rlsd.streams.stage import Stage
from tests.chaos.account import Account
from tests.chaos.system import Supervisor, until

_SERVICES = {Stage.ROLLOUT: "rollout", Stage.VERIFY: "verifier", Stage.TEACH: "teacher"}
_ANSWER_S = 5.0
_ON_ITS_WAY_S = 0.1
"""What a process has sent before it was frozen has been done after this time."""


class Queues:
    """A second pair of eyes: it reads what the services have written and adds nothing."""

    def __init__(self, supervisor: Supervisor, run_id: str) -> None:
        url = supervisor.children["verifier-0"].environment["RLSD_REDIS_URL"]
        self.client: Any = redis.Redis.from_url(
            url, decode_responses=True, socket_timeout=_ANSWER_S
        )
        self._keys = Keys(run_id)

    def at_stages(self) -> Counter[str]:
        """Unsettled groups by stage."""
        return Counter(self.client.hvals(self._keys.in_flight))

    def wait_before(self, stage: Stage) -> bool:
        """Whether nothing moves any more, since `stage` is frozen: it has groups, and no other."""
        at = self.at_stages()
        return at[stage] > 0 and not set(at) - {stage, Stage.TRAIN}

    def claims(self, stage: Stage, pid: int) -> set[str]:
        """Entries that a process holds at a stage."""
        return {e for e, owner in self.owners(stage).items() if owner.endswith(f"-{pid}")}

    def owners(self, stage: Stage) -> dict[str, str]:
        """Consumers by the entries that they hold at a stage."""
        try:
            pending = self.client.xpending_range(
                self._keys.entries(stage), CONSUMER_GROUP, "-", "+", 1000
            )
        except (redis.ConnectionError, redis.ResponseError):  # nobody is there yet
            return {}
        return {x["message_id"]: x["consumer"] for x in pending}

    def fill_up(self) -> None:
        """From now on every write is refused that needs memory; work is still given out."""
        self.client.config_set("maxmemory", self.client.info("memory")["used_memory"] // 2)

    def make_room(self) -> None:
        """Accept writes again."""
        self.client.config_set("maxmemory", 0)

    def num_added(self) -> int:
        """Entries that were ever added to any stream since this server started."""
        return self.client.info("commandstats")["cmdstat_xadd"]["calls"]


async def freeze_before(stage: Stage, supervisor: Supervisor, queues: Queues) -> None:
    """Freeze all workers of a stage; return with groups there that nobody moves on."""
    for name in supervisor.children:
        if name.startswith(_SERVICES[stage]):
            supervisor.signal(name, signal.SIGSTOP)
    await until(lambda: queues.wait_before(stage), timeout_s=60)


async def freeze_holding(name: str, supervisor: Supervisor, queues: Queues) -> set[str]:
    """Freeze a worker while it has groups in hand; returns their entries."""
    stage = next(stage for stage, service in _SERVICES.items() if name.startswith(service))
    pid = supervisor.pid(name)
    async with asyncio.timeout(60):
        while True:
            await until(lambda: bool(queues.claims(stage, pid)), timeout_s=60)
            supervisor.signal(name, signal.SIGSTOP)
            await asyncio.sleep(_ON_ITS_WAY_S)
            if held := queues.claims(stage, pid):
                return held
            supervisor.signal(name, signal.SIGCONT)


def num_moves(account: Account) -> int:
    """Entries that an admission and one effect of each stage add for the groups of a run."""
    return 4 * account.groups - sum(account.rejected.values())  # which skip the teacher
