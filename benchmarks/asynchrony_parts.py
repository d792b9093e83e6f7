"""The services of `asynchrony.py`: the project's own, but with waits in place of devices.

    python benchmarks/asynchrony_parts.py rollout CONFIG DEVICES

Only what would compute is another object, behind the seams at which engines, scorers and ranks are
exchanged anyway. A wait is as long as the device would take, so that several of them overlap on one
core as they would on several devices.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rlsd.batch_log import BatchLog
from rlsd.config import Addresses, RunConfig, load
from rlsd.objectives.methods import Method
from rlsd.planning.workload import LogNormal
from rlsd.serving.batcher import Batcher
from rlsd.serving.process import stage_worker
from rlsd.streams.redis import RedisStream
from rlsd.streams.stage import Stage
from rlsd.telemetry.activity import Activity
from rlsd.trajectory import (
    FinishReason,
    Group,
    GroupOutcome,
    Message,
    Prompt,
    TeacherScores,
    VerifierSpec,
)
from rlsd.weights import FolderStore, Probe

PROMPT_IDS = tuple(range(1, 65))
RIGHT, WRONG = "# 4", "# 5"
_SHARE_RIGHT = 0.4


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """Calibrated waits."""

    token_s: float = 1e-3
    """One decoding step, with every slot taken as with one."""
    slots: int = 128
    mean_tokens: float = 250.0
    p99_tokens: float = 1000.0
    teach_s_per_token: float = 1e-6
    train_s_per_token: float = 26e-6
    publish_s: float = 0.0


class WaitingEngine:
    """A rollout engine that admits a completion whenever a slot is free."""

    def __init__(self, store: FolderStore, devices: Devices, *, max_tokens: int) -> None:
        self._store = store
        self._devices = devices
        self._slots = asyncio.Semaphore(devices.slots)
        self._lengths = LogNormal(
            mean_tokens=devices.mean_tokens,
            p99_tokens=devices.p99_tokens,
            max_tokens=max_tokens,
            group_size=1,
            prompt_tokens=1,
        )
        self.policy_version = -1

    async def hold(self, required: int) -> None:
        """Take the newest weights; completions under way go on."""
        if self.policy_version < required:
            newest = self._store.latest()
            assert newest is not None
            assert newest >= required
            self.policy_version = newest

    async def generate(self, request):
        """One completion for each seed."""
        await self.hold(request.required_policy_version)
        return await asyncio.gather(*(self._draw(seed) for seed in request.seeds))

    async def _draw(self, seed: int):
        from services.rollout.engines.engine import Completion

        length = self._lengths.load(seed).completion_tokens[0]
        async with self._slots:
            began = self.policy_version
            await asyncio.sleep(length * self._devices.token_s)
        return Completion(
            token_ids=np.ones(length, dtype=np.int32),
            rollout_logprobs=np.zeros(length, dtype=np.float32),
            text=RIGHT if random.Random(seed).random() < _SHARE_RIGHT else WRONG,
            finish_reason=FinishReason.STOP,
            min_policy_version=began,
            max_policy_version=self.policy_version,
        )

    def tokenize(self, messages) -> list[int]:
        """A prompt of fixed length."""
        return list(PROMPT_IDS)


class WaitingScorer:
    """A teacher that reads every completion of a group in two contexts, batch by batch."""

    version = 0

    def __init__(self, devices: Devices, *, max_groups: int) -> None:
        self._devices = devices
        self.batcher: Batcher[Group, Group] = Batcher(self._run, max_items=max_groups)

    async def score(self, group: Group) -> Group:
        """Scores of zero, after the time that they would take."""
        return await self.batcher.submit(group)

    def _run(self, groups: list[Group]) -> list[Group | Exception]:
        time.sleep(self._devices.teach_s_per_token * sum(2 * read_tokens(g) for g in groups))
        return [replace(g, trajectories=tuple(map(_scored, g.trajectories))) for g in groups]


def _scored(trajectory):
    zeros = np.zeros(trajectory.num_tokens, dtype=np.float32)
    scores = TeacherScores(teacher_version=0, teacher_logprobs=zeros, student_logprobs=zeros)
    return replace(trajectory, scores=scores)


class WaitingRank:
    """A learner's rank without a model: it reads the batch log, waits, and publishes."""

    def __init__(self, config: RunConfig, method: Method, devices: Devices) -> None:
        from services.learner.ranks import Paths

        self.config, self.method, self.paths = config, method, Paths.of(config)
        self._devices = devices

    def restore(self) -> None:
        """Nothing was before."""

    def lead(self, command, step: int = 0, **_: object) -> dict[str, float]:
        """Execute a command of the loop."""
        if command.name == "TRAIN":
            groups = self.paths.batch_log.read(step).groups
            trained = [g for g in groups if g.outcome is GroupOutcome.TRAINED]
            time.sleep(self._devices.train_s_per_token * sum(map(read_tokens, trained)))
        if command.name == "PUBLISH":
            time.sleep(self._devices.publish_s)
            probe = Probe(token_ids=(1, 2), logprobs=(-1.0,))
            self.paths.weights.publish(step, step=step, probe=probe, save=_save)
        return {}


def _save(folder: Path) -> None:
    (folder / "weights").write_bytes(b"none")


def read_tokens(group: Group) -> int:
    """Positions of one pass over prompts and completions."""
    return group.num_tokens + len(PROMPT_IDS) * len(group.trajectories)


# --- parts ---------------------------------------------------------------------------------------


async def rollout(config: RunConfig, devices: Devices) -> None:
    """The rollout service's stage worker."""
    from services.rollout.following import follow_weights
    from services.rollout.service import RolloutService

    store = FolderStore(config.run_dir / "weights", config.run.id)
    activity = Activity()
    engine = WaitingEngine(store, devices, max_tokens=config.rollout.max_tokens)
    service = RolloutService(engine, engine_name="waits", run_id=config.run.id, activity=activity)
    limit = max(1, config.rollout.max_batch // config.rollout.group_size)
    worker = stage_worker(
        Stage.ROLLOUT, service.process, config, max_in_flight=limit, activity=activity
    )
    stopping = asyncio.Event()
    await asyncio.gather(worker(stopping), follow_weights(engine, store, activity)(stopping))


async def teacher(config: RunConfig, devices: Devices) -> None:
    """The teacher service's stage worker."""
    from services.teacher.service import TeacherService

    activity = Activity()
    max_groups = config.teacher.max_groups
    scorer = WaitingScorer(devices, max_groups=max_groups)
    service = TeacherService(scorer, run_id=config.run.id, activity=activity)
    worker = stage_worker(
        Stage.TEACH, service.process, config, max_in_flight=max_groups, activity=activity
    )
    async with scorer.batcher:
        await worker(asyncio.Event())


async def learner(config: RunConfig, devices: Devices) -> None:
    """The learner's loop to its last step."""
    from services.learner.feeder import Feeder
    from services.learner.lease import Lease
    from services.learner.loop import Learner
    from services.learner.method import configured_method
    from services.learner.run_log import RunLog
    from services.learner.stages import QueuedStages

    method = configured_method(config)
    stream = RedisStream.from_url(Addresses.from_environment().redis_url, config.run.id)
    loop = Learner(
        WaitingRank(config, method, devices),
        QueuedStages(stream, consumer=f"learner-{os.getpid()}"),
        Feeder(_prompts(), config, method),
        None,
        run_log=RunLog(config.run_dir),
        lease=Lease(config.run_dir),
    )
    await loop.restore()
    await loop.train(asyncio.Event())
    await stream.aclose()


def _prompts() -> list[Prompt]:
    return [
        Prompt(
            id=f"p{i}",
            messages=(Message(role="user", content=f"{i} + 4 - {i} = ?"),),
            reference="4",
            verifier=VerifierSpec(kind="exact", params={"after": "#"}),
            privileged="4",
        )
        for i in range(500)
    ]


def trained_ages(config: RunConfig) -> list[int]:
    """Staleness of every trained trajectory at the step that consumed it, from the batch log."""
    log = BatchLog(config.run_dir / "batches", config.run.id)
    return [
        step - 1 - trajectory.min_policy_version
        for step in log.steps()
        for group in log.read(step).groups
        if group.outcome is GroupOutcome.TRAINED
        for trajectory in group.trajectories
    ]


def main() -> None:
    """Start one part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("rollout", "teacher", "learner"))
    parser.add_argument("config", type=Path)
    parser.add_argument("devices", type=json.loads)
    arguments = parser.parse_args()
    config, devices = load(arguments.config), Devices(**arguments.devices)
    parts = {"rollout": rollout, "teacher": teacher, "learner": learner}
    asyncio.run(parts[arguments.part](config, devices))


if __name__ == "__main__":
    main()
