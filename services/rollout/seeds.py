"""Seeds of what is drawn: the same for the same place in the same run, another everywhere else."""

from __future__ import annotations

import hashlib

from rlsd.trajectory import Group


def trajectory_seed(group: Group, member: int) -> int:
    """63-bit seed of one trajectory, from run seed, prompt, member and required version.

    The group's admission index is mixed in too, so that a prompt seen again in a later epoch is
    sampled afresh. The run's id is not: two runs that differ in method alone start alike.
    """
    key = (
        f"{group.sampling.seed}/{group.index}/{group.prompt.id}/{member}"
        f"/{group.required_policy_version}"
    )
    return _mixed(key)


def turn_seed(seed: int, turn: int) -> int:
    """63-bit seed of one turn of a trajectory; the first one's is the trajectory's own."""
    return _mixed(f"{seed}/turn/{turn}") if turn else seed


def _mixed(key: str) -> int:
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 1
