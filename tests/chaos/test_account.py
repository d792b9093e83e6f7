"""The audit finds what it is there to find; an audit that cannot fail would prove nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders import make_group, make_prompt

from rlsd.batch_log import BatchLog
from rlsd.data.order import order
from rlsd.data.sources import load_prompts
from rlsd.trajectory import Group, GroupOutcome
from rlsd.weights import FolderStore, Probe
from tests.chaos.account import Account, audit, ks_distance
from tests.chaos.system import chain_run

STEPS = [[0, 1], [2, 3]]
"""Groups by step, two trajectories each."""


@pytest.fixture(scope="module")
def prompt_ids() -> list[str]:
    prompts = load_prompts("examples/chain/train.jsonl").prompts
    return [prompts[i].id for i in order(len(prompts), seed=0, epoch=0)[:8]]


def group(index: int, prompt_ids: list[str], **changes) -> Group:
    found = make_group(
        (1.0, 0.0),
        index=index,
        run_id="chaos",
        prompt=make_prompt(id=prompt_ids[index]),
        outcome=GroupOutcome.TRAINED,
    )
    trajectories = tuple(
        replace(t, min_policy_version=index // 2, max_policy_version=index // 2)
        for t in found.trajectories
    )
    return replace(found, trajectories=trajectories, **changes)


def audited(folder: Path, steps: list[list[Group]]) -> Account:
    """The account of a finished run with this log."""
    config, _ = chain_run(
        folder, "run.steps=2", "run.groups_per_step=2", "rollout.group_size=2", "run.seed=0"
    )
    log, sha256 = BatchLog(config.run_dir / "batches", "chaos"), ""
    for step, groups in enumerate(steps, 1):
        sha256 = log.append(step, groups, previous_sha256=sha256)
    FolderStore(config.run_dir / "weights", "chaos").publish(
        2, step=2, probe=Probe(token_ids=(1, 2), logprobs=(-0.5,)), save=lambda _: None
    )
    outcomes = {"admitted": 4, "trained": 4, "rejected": {}, "failed": {}, "in_flight": 0}
    summary = {"steps": 2, "identity_residual": 0, "outcomes": outcomes, "interrupted": False}
    (config.run_dir / "summary.json").write_text(json.dumps(summary))
    lines = "".join(json.dumps({"step": s}) + "\n" for s in (1, 2))
    (config.run_dir / "metrics.jsonl").write_text(lines)
    return audit(config)


def whole(prompt_ids: list[str]) -> list[list[Group]]:
    return [[group(i, prompt_ids) for i in indices] for indices in STEPS]


def test_a_whole_log_has_nothing_against_it(tmp_path, prompt_ids):
    account = audited(tmp_path, whole(prompt_ids))
    assert (account.lost, account.trained_twice, account.residual) == (0, 0, 0)
    assert account.faults == []


def test_a_group_that_is_not_in_the_log_is_lost(tmp_path, prompt_ids):
    steps = whole(prompt_ids)
    steps[1].pop()
    account = audited(tmp_path, steps)
    assert (account.lost, account.residual) == (2, 1)


def test_a_sibling_that_is_not_in_its_group_is_lost(tmp_path, prompt_ids):
    steps = whole(prompt_ids)
    steps[0][1] = replace(steps[0][1], trajectories=steps[0][1].trajectories[:1])
    assert audited(tmp_path, steps).lost == 1


def test_a_group_in_two_steps_is_trained_twice(tmp_path, prompt_ids):
    steps = whole(prompt_ids)
    steps[1].append(group(2, prompt_ids))
    account = audited(tmp_path, steps)
    assert (account.lost, account.trained_twice) == (0, 2)


def test_a_prompt_out_of_its_place_is_a_fault(tmp_path, prompt_ids):
    steps = whole(prompt_ids)
    steps[0][0] = replace(steps[0][0], prompt=make_prompt(id=prompt_ids[7]))
    assert audited(tmp_path, steps).faults == ["group 0 has the wrong prompt"]


def test_a_trajectory_of_an_old_policy_is_a_fault(tmp_path, prompt_ids):
    steps = whole(prompt_ids)
    old = [replace(t, min_policy_version=0) for t in steps[1][1].trajectories]
    steps[1][1] = replace(steps[1][1], trajectories=tuple(old))
    assert audited(tmp_path, steps).faults == ["step 2 trained on version 0"] * 2


def test_the_distance_of_lengths_is_0_of_equals_and_1_of_strangers():
    assert ks_distance([1, 2, 3], [1, 2, 3]) == 0.0
    assert ks_distance([1, 1], [5, 6, 5]) == 1.0
    assert ks_distance([1, 2], [1, 2, 3, 4]) == 0.5
