"""`python -m services.learner.replay --config RUN/config.json`: train a run's batch log once more.

Nothing is sampled, verified or taught: the log holds all of it. From the base model, or from the
oldest checkpoint that is left, the same steps on the same number of ranks must end in the same
weights. Prints one JSON object; what follows from it is the reader's to say (`rlsd audit`).

The run's folder is only read: what is published here goes to a temporary one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rlsd.config import RunConfig
from rlsd.errors import ConfigError
from rlsd.serving.process import configure, exit_on_error
from rlsd.weights import FolderStore, Manifest
from rlsd.weights.choice import open_store

if TYPE_CHECKING:  # torch comes in after the thread limit
    from services.learner.ranks import Rank


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What a replay came to, beside what the run had published."""

    run_id: str
    version: int
    """The newest published version, which both end with."""
    from_step: int
    """0: from the base model; else from the checkpoint of this step."""
    steps: int
    """Steps trained again."""
    ranks: int
    is_equal: bool
    """Whether every file of weights has the published checksum."""
    sha256: dict[str, str]
    published_sha256: dict[str, str]
    probe_difference: float
    """Largest |Δ log-prob| on the published probe, in nats."""
    unscored_rows: int
    """Rows trained on whose verdict is an error or a timeout; must be 0."""
    duration_s: float


def main() -> None:
    """Replay and print the result (rank 0)."""
    parser = argparse.ArgumentParser(
        prog="python -m services.learner.replay", description="Train a run's batch log once more."
    )
    parser.add_argument("--config", type=Path, required=True, help="the run's config.json")
    parser.add_argument(
        "--from-checkpoint", action="store_true", help="start from the oldest checkpoint"
    )
    parser.set_defaults(set=[])
    arguments = parser.parse_args()
    with exit_on_error("replay"):
        config = configure("replay", arguments)
        folder = arguments.config.resolve().parent
        replayed = replay(config, folder, from_checkpoint=arguments.from_checkpoint)
    if replayed is not None:
        sys.stdout.write(json.dumps(asdict(replayed)) + "\n")


def replay(config: RunConfig, folder: Path, *, from_checkpoint: bool = False) -> Replayed | None:
    """Train the steps of the log in `folder` up to the newest published version.

    Every rank calls it; only rank 0 returns a result.

    Raises:
        ConfigError: nothing is published, or there is no checkpoint to start from.
        BatchLogError, WeightsError: the log or the published version is torn.
    """
    import torch.distributed as dist

    from services.learner import ranks

    started = time.monotonic()
    torch_threads(config.run.threads)
    ranks.join()
    published = _published(config, folder)
    rank = _rank(config, folder, probe_ids=list(published.probe.token_ids))
    first = _restore(rank, until=published.version) if from_checkpoint else 0
    replayed = None
    if rank.policy.rank > 0:
        rank.follow()
    else:
        again = _train(rank, first, published.version)
        unscored = _unscored_rows(rank, first, published.version)
        replayed = _compare(published, again, first=first, ranks=rank.policy.world)
        duration_s = time.monotonic() - started
        replayed = replace(replayed, unscored_rows=unscored, duration_s=duration_s)
    if dist.is_initialized():
        dist.destroy_process_group()
    return replayed


def torch_threads(threads: int) -> None:
    """As many compute threads as the run had: with others, sums round otherwise."""
    import torch

    torch.set_num_threads(threads)


def _published(config: RunConfig, folder: Path) -> Manifest:
    store = open_store(config, run_dir=folder)
    version = store.latest()
    if version is None:
        raise ConfigError(f"run {folder}: has published no weights; there is nothing to compare")
    return store.verify(version)


def _rank(config: RunConfig, folder: Path, *, probe_ids: list[int]) -> Rank:
    """A rank as the run had it, reading from `folder` wherever that lies now."""
    from rlsd.batch_log import BatchLog
    from rlsd.policy.loading import load_tokenizer
    from services.learner.checkpoint import Checkpoints
    from services.learner.method import configured_method
    from services.learner.ranks import Paths, Rank

    pad_id = load_tokenizer(config.model.path).pad_token_id or 0
    rank = Rank(config, configured_method(config), pad_id=pad_id, probe_ids=probe_ids)
    rank.paths = Paths(
        batch_log=BatchLog(folder / "batches", config.run.id),
        weights=open_store(config, run_dir=folder),
        checkpoints=Checkpoints(folder / "checkpoints", keep=config.learner.keep_checkpoints),
    )
    return rank


def _restore(rank: Rank, *, until: int) -> int:
    """Load the oldest checkpoint; its step. A collective."""
    checkpoints = rank.paths.checkpoints
    steps = [step for step in checkpoints.steps() if step <= until]
    if not steps:
        raise ConfigError("--from-checkpoint: the run has no checkpoint; leave the option out")
    checkpoints.load(rank.policy, steps[0], run_id=rank.config.run.id)
    return steps[0]


def _train(rank: Rank, first: int, last: int) -> Manifest:
    """Train the steps after `first` and publish aside; the manifest of what came out."""
    from services.learner.ranks import Command

    with tempfile.TemporaryDirectory(prefix="rlsd-replay-") as aside:
        store = FolderStore(Path(aside), rank.config.run.id)
        rank.paths = replace(rank.paths, weights=store)
        for step in range(first + 1, last + 1):
            rank.lead(Command.TRAIN, step)
        rank.lead(Command.PUBLISH, last)
        rank.lead(Command.STOP)
        return store.verify(last)


def _unscored_rows(rank: Rank, first: int, last: int) -> int:
    from services.learner.batches import plan_step

    horizon = rank.config.rollout.max_tokens
    batches = (rank.paths.batch_log.read(step) for step in range(first + 1, last + 1))
    plans = (plan_step(b.groups, rank.method, horizon_tokens=horizon) for b in batches)
    verdicts = (row.trajectory.verdict for plan in plans for row in plan.rows)
    return sum(verdict is None or not verdict.is_scored for verdict in verdicts)


def _compare(published: Manifest, again: Manifest, *, first: int, ranks: int) -> Replayed:
    ours, theirs = _weights(again), _weights(published)
    pairs = zip(again.probe.logprobs, published.probe.logprobs, strict=True)
    return Replayed(
        run_id=published.run_id,
        version=published.version,
        from_step=first,
        steps=published.version - first,
        ranks=ranks,
        is_equal=ours == theirs,
        sha256=ours,
        published_sha256=theirs,
        probe_difference=max((abs(a - b) for a, b in pairs), default=0.0),
        unscored_rows=0,
        duration_s=0.0,
    )


def _weights(manifest: Manifest) -> dict[str, str]:
    """Checksums of the files that hold weights; the others hold a library's version."""
    return {n: s for n, s in manifest.sha256.items() if n.endswith(".safetensors")}


if __name__ == "__main__":
    main()
