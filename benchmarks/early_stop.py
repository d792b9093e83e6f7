"""What stopping a group early would do: `python benchmarks/early_stop.py RUN`.

RUN is the folder of a finished run whose rewards are 0 or 1; its batch log has every group's
rewards and lengths. A group of G whose first k completions all have the same reward is stopped
there: what is saved, and which groups that had something to teach are lost. Members are
exchangeable, so the chance that the first k of s successes among G agree is exact,

    (C(s, k) + C(G - s, k)) / C(G, k),

and nothing is drawn at random.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from math import comb
from pathlib import Path

from rlsd.batch_log import BatchLog
from rlsd.trajectory import Group


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    groups = [g for g in _groups(parser.parse_args().run) if None not in g.rewards]
    size = len(groups[0].trajectories)
    json.dump(
        {
            "groups": len(groups),
            "group_size": size,
            "equal_rewards_percent": _percent(_is_equal(g) for g in groups),
            "stopped_after": {str(k): _stopped(groups, k) for k in range(2, size)},
        },
        sys.stdout,
        indent=1,
    )


def _groups(run: Path) -> list[Group]:
    log = BatchLog(run / "batches")
    groups: list[Group] = []
    sha256 = ""
    for step in log.steps():
        batch = log.read(step, previous_sha256=sha256)
        sha256 = batch.sha256
        groups += batch.groups
    return groups


def _stopped(groups: list[Group], k: int) -> dict[str, float]:
    """Percent: tokens not drawn, groups and successes of trained groups that are lost."""
    chances = [_agree(g, k) for g in groups]
    saved = sum(
        c * g.num_tokens * (1 - k / len(g.rewards)) for c, g in zip(chances, groups, strict=True)
    )
    varied = [(c, g) for c, g in zip(chances, groups, strict=True) if not _is_equal(g)]
    rare = [(c, g) for c, g in varied if _successes(g) in (1, len(g.rewards) - 1)]
    return {
        "tokens_saved": round(100 * saved / sum(g.num_tokens for g in groups), 1),
        "trainable_groups_lost": _percent(c for c, _ in varied),
        "lost_of_those_with_one_that_differs": _percent(c for c, _ in rare),
        "hard_prompts_lost": _percent(c for c, g in varied if _successes(g) == 1),
    }


def _agree(group: Group, k: int) -> float:
    size, successes = len(group.rewards), _successes(group)
    return (comb(successes, k) + comb(size - successes, k)) / comb(size, k)


def _successes(group: Group) -> int:
    return sum(r == 1.0 for r in group.rewards)


def _is_equal(group: Group) -> bool:
    return len(set(group.rewards)) == 1


def _percent(values: Iterable[float]) -> float:
    numbers = list(values)
    return round(100 * sum(numbers) / max(1, len(numbers)), 1)


if __name__ == "__main__":
    main()
