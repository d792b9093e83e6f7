"""What all ranks do together: rank 0 decides, every rank executes the same command.

Only a command number and a step travel between ranks. The batch itself each rank reads from the
batch log, which rank 0 has made durable before.

| rank | consumes | waits for | unblocked by |
|---|---|---|---|
| 0 | its own loop | the other ranks, in collectives | their progress, or the group's timeout |
| others | commands | rank 0 | any command; IDLE comes while rank 0 waits for groups |
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from rlsd.batch_log import BatchLog
from rlsd.config import RunConfig
from rlsd.images.files import image_files
from rlsd.objectives.methods import Method
from rlsd.objectives.schedules import lambda_at
from rlsd.policy.loading import load_model, local_device, save_model
from rlsd.policy.vision import load_vision
from rlsd.telemetry.weights import WeightPhase
from rlsd.weights import WeightStore
from rlsd.weights.choice import open_store
from services.learner import metrics
from services.learner.batches import plan_step
from services.learner.checkpoint import Checkpoints, Meta
from services.learner.policy import Policy

log = logging.getLogger(__name__)

_TIMEOUT = timedelta(minutes=10)


class Command(IntEnum):
    """What rank 0 asks of all."""

    IDLE = 0
    TRAIN = 1
    CHECKPOINT = 2
    PUBLISH = 3
    STOP = 4


def join() -> None:
    """Join the process group that torchrun made; alone, there is none."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend, timeout=_TIMEOUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """Where a run keeps what its ranks share."""

    batch_log: BatchLog
    weights: WeightStore
    checkpoints: Checkpoints

    @classmethod
    def of(cls, config: RunConfig, *, pulse: Callable[[], object] = lambda: None) -> Paths:
        """The folders of a run, and its weight store.

        Args:
            pulse: called while weights move.
        """
        return cls(
            batch_log=BatchLog(config.run_dir / "batches", config.run.id),
            weights=open_store(config, pulse=pulse),
            checkpoints=Checkpoints(
                config.run_dir / "checkpoints", keep=config.learner.keep_checkpoints
            ),
        )


class Rank:
    """One rank's half of the learner: executes commands; decides nothing."""

    def __init__(
        self, config: RunConfig, method: Method, *, pad_id: int, probe_ids: list[int]
    ) -> None:
        self.config = config
        self.method = method
        self.paths = Paths.of(config, pulse=lambda: self.policy.pulse())
        self.policy = Policy(
            load_model(config.model.path, device=local_device()),
            method,
            config.learner,
            pad_id=pad_id,
            temperature=config.rollout.temperature,
            vision=load_vision(config.model.path, image_files(config)),
        )
        self._probe_ids = probe_ids

    def restore(self) -> Meta | None:
        """Load the newest checkpoint, or None when there is none; a collective."""
        steps = self.paths.checkpoints.steps()
        if not steps:
            return None
        return self.paths.checkpoints.load(self.policy, steps[-1], run_id=self.config.run.id)

    def follow(self) -> None:
        """Execute rank 0's commands until STOP (ranks above 0).

        torchrun sends SIGTERM to every rank, but only rank 0 knows when the step is over.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        while True:
            command, step = self._broadcast(Command.IDLE, 0)
            if command is Command.STOP:
                return
            self._execute(command, step)

    def lead(self, command: Command, step: int = 0, **for_rank_0: Any) -> dict[str, float]:
        """Have all ranks execute a command (rank 0)."""
        self._broadcast(command, step)
        return self._execute(command, step, **for_rank_0)

    def _broadcast(self, command: Command, step: int) -> tuple[Command, int]:
        if self.policy.world == 1:
            return command, step
        message = torch.tensor([int(command), step])
        dist.broadcast(message, src=0)
        return Command(int(message[0])), int(message[1])

    def _execute(self, command: Command, step: int, meta: Meta | None = None) -> dict[str, float]:
        match command:
            case Command.TRAIN:
                return self._train(step)
            case Command.CHECKPOINT:
                self.paths.checkpoints.save(self.policy, meta or _placeholder(step))
            case Command.PUBLISH:
                self._publish(step)
            case Command.IDLE | Command.STOP:
                pass
        return {}

    def _train(self, step: int) -> dict[str, float]:
        batch = self.paths.batch_log.read(step)
        plan = plan_step(batch.groups, self.method, horizon_tokens=self.config.rollout.max_tokens)
        lam = lambda_at(step, lam=self.method.lam, decay_steps=self.method.decay_steps)
        metrics = self.policy.update(plan, step=step, lam=lam, seed=self.config.run.seed)
        return metrics | {"lam": lam, "num_tokens": float(plan.denominators.num_tokens)}

    def _publish(self, version: int) -> None:
        with metrics.WEIGHTS.phase(WeightPhase.PUBLISH):
            probe = self.policy.probe(self._probe_ids)
            state = self.policy.full_state()
            if self.policy.rank == 0:
                self.paths.weights.publish(
                    version,
                    step=version,
                    probe=probe,
                    save=lambda folder: self._save(state, folder),
                )

    def _save(self, state: dict[str, torch.Tensor], folder: Path) -> None:
        save_model(self.policy.model, state, folder)
        metrics.WEIGHTS.moved(folder)


def _placeholder(step: int) -> Meta:
    """What ranks above 0 pass to `save`; rank 0 alone writes the real one."""
    return Meta(run_id="", step=step, batch_sha256="", teacher_version=0, elapsed_s=0.0)
