"""Bring published weights into the engine before a group asks for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from rlsd.errors import RlsdError, WeightsError
from rlsd.telemetry.activity import Activity, State
from rlsd.weights import WeightStore
from services.rollout.engines.engine import Engine

log = logging.getLogger(__name__)


class Follower:
    """Installs each version as soon as it is published, and knows which one is wanting.

    Without it, weights would come with the first group, and no group comes to a service that is
    not ready; and completions under way would end on older weights than they need to.
    """

    def __init__(self, engine: Engine, store: WeightStore, activity: Activity) -> None:
        self._engine = engine
        self._store = store
        self._told = _Obstacle(activity)
        self._needed = 0
        """The first version counts as needed; later ones once a group has asked in vain."""

    def needs(self, version: int) -> None:
        """A group needs this version, which could not be reached."""
        self._needed = max(self._needed, version)

    def lacks(self) -> str:
        """Why no group should be taken; empty when there is no reason."""
        held = self._engine.policy_version
        if held < 0:
            return "no weights are installed yet"
        if held < self._needed:
            return f"version {self._needed} is needed, {held} is installed"
        return ""

    async def follow(self, stopping: asyncio.Event) -> None:
        """The loop."""
        self._told.say(self._wanting())
        while not stopping.is_set():
            try:
                newest = await asyncio.to_thread(self._store.latest)
                if newest is not None and newest > self._engine.policy_version:
                    await self._engine.hold(newest)
            except RlsdError as error:  # what is held serves on
                if isinstance(error, WeightsError):
                    # Waiting mends no version. That its groups fail is how the learner hears of it.
                    self._needed = 0
                if self._told.say(f"newer weights: {error}"):
                    log.warning("weights not installed", extra={"reason": str(error)})
            else:
                self._told.say(self._wanting())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), self._store.look_every_s)
        self._told.say("")

    def _wanting(self) -> str:
        if self._engine.policy_version < 0:
            return "the first version from the learner"
        return f"version {self._needed}, which a group needs" if self.lacks() else ""


class _Obstacle:
    """What stands in the way, said when it changes."""

    def __init__(self, activity: Activity) -> None:
        self._activity = activity
        self._said = ""

    def say(self, detail: str) -> bool:
        """Say it, and whether it is news; empty when nothing does any more."""
        if detail == self._said:
            return False
        self._said = detail
        self._activity.release(State.WAITING_FOR_WEIGHTS)
        if detail:
            self._activity.hold(State.WAITING_FOR_WEIGHTS, detail)
        return True
