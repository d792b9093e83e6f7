"""Bring published weights into the engine before a group asks for them."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from rlsd.errors import RlsdError
from rlsd.serving.lifecycle import Background
from rlsd.telemetry.activity import Activity, State
from rlsd.weights import WeightStore
from services.rollout.engines.engine import Engine

log = logging.getLogger(__name__)

_FIRST = "the first version from the learner"


def follow_weights(engine: Engine, store: WeightStore, activity: Activity) -> Background:
    """Install each version as soon as it is published.

    Without it, weights would come with the first group, and no group comes to a service that is
    not ready; and completions under way would end on older weights than they need to.
    """

    async def loop(stopping: asyncio.Event) -> None:
        told = _Obstacle(activity)
        told.say(_FIRST)
        while not stopping.is_set():
            try:
                newest = await asyncio.to_thread(store.latest)
                if newest is not None and newest > engine.policy_version:
                    await engine.hold(newest)
            except RlsdError as error:  # what is held serves on
                if told.say(f"newer weights: {error}"):
                    log.warning("weights not installed", extra={"reason": str(error)})
            else:
                told.say("" if engine.policy_version >= 0 else _FIRST)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), store.look_every_s)
        told.say("")

    return loop


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
