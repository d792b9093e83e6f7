"""Checkpoints: everything that a restart needs, in one folder that is whole or absent.

checkpoints/00000050/{meta.json, state/…}     state: model and optimizer (DCP, any rank count)
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from rlsd import durable
from rlsd.errors import ConfigError
from rlsd.failpoints import failpoint
from services.learner.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Where the run stood."""

    run_id: str
    step: int
    """Steps done; also the policy version."""
    batch_sha256: str
    """Of the batch file of `step`; empty at step 0."""
    teacher_version: int
    """The teacher's weights, which stay published as long as this checkpoint exists."""
    elapsed_s: float
    """Seconds of training before it."""


class Checkpoints:
    """The checkpoints of one run."""

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def steps(self) -> list[int]:
        """Complete checkpoints, oldest first."""
        return sorted(int(p.parent.name) for p in self._folder.glob("[0-9]*/meta.json"))

    def meta(self, step: int) -> Meta:
        """What a checkpoint says of itself."""
        return Meta(**json.loads((self._path(step) / "meta.json").read_text()))

    def save(self, policy: Policy, meta: Meta) -> None:
        """Write a checkpoint; a collective over all ranks. Older ones beyond `keep` go."""
        aside = self._folder / f".{meta.step:08d}"
        if policy.rank == 0:
            for left in self._folder.glob(".[0-9]*"):  # by a learner that was killed
                shutil.rmtree(left)
            aside.mkdir(parents=True)
        _barrier(policy)
        model_state, optimizer_state = get_state_dict(policy.model, policy.optimizer)
        with _quiet():
            save(
                {"model": model_state, "optimizer": optimizer_state},
                checkpoint_id=aside / "state",
                no_dist=policy.world == 1,
            )
        _barrier(policy)
        if policy.rank == 0:
            content = json.dumps(asdict(meta), indent=1).encode()
            durable.write_file(aside / "meta.json", content)
            failpoint("checkpoint-fill/rename")
            shutil.rmtree(self._path(meta.step), ignore_errors=True)
            aside.rename(self._path(meta.step))
            _sync(self._folder)
            for old in self.steps()[: -self._keep]:
                shutil.rmtree(self._path(old))
        _barrier(policy)

    def load(self, policy: Policy, step: int, *, run_id: str) -> Meta:
        """Restore model and optimizer in place; a collective over all ranks.

        Raises:
            ConfigError: the checkpoint is another run's.
        """
        meta = self.meta(step)
        if meta.run_id != run_id:
            raise ConfigError(
                f"checkpoint {self._path(step)}: of run {meta.run_id!r}, not {run_id!r}; "
                "choose another run.id"
            )
        model_state, optimizer_state = get_state_dict(policy.model, policy.optimizer)
        state: dict[str, Any] = {"model": model_state, "optimizer": optimizer_state}
        with _quiet():
            load(state, checkpoint_id=self._path(step) / "state", no_dist=policy.world == 1)
        set_state_dict(
            policy.model,
            policy.optimizer,
            model_state_dict=state["model"],
            optim_state_dict=state["optimizer"],
        )
        return meta

    def _path(self, step: int) -> Path:
        return self._folder / f"{step:08d}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that one rank alone is no process group: it is meant."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        yield


def _barrier(policy: Policy) -> None:
    if policy.world > 1:
        dist.barrier()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
