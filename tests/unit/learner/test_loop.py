"""The loop's decisions, against stages that answer from memory."""

import asyncio
import json
from dataclasses import dataclass, replace

import pytest
from builders import make_prompt, make_trajectory

from rlsd.config import RunConfig, load
from rlsd.errors import ConfigError, ServiceError, StreamError
from rlsd.objectives.methods import method_named
from rlsd.trajectory import GroupOutcome
from rlsd.weights import Probe
from services.learner.checkpoint import Meta
from services.learner.feeder import Feeder
from services.learner.lease import FencedError, Lease
from services.learner.loop import Learner
from services.learner.ranks import Paths
from services.learner.run_log import RunLog

PROMPTS = [make_prompt(f"question {i}", id=f"p{i}") for i in range(7)]


class StubRank:
    """Obeys every command without a model."""

    def __init__(self, config, method):
        self.config, self.method, self.paths = config, method, Paths.of(config)
        self.commands, self.checkpoint = [], None

    def restore(self):
        return self.checkpoint

    def lead(self, command, step=0, **_):
        self.commands.append((command.name, step))
        return {}


class MemoryStages:
    """Gives every group back at once, with the rewards that a test decides on."""

    def __init__(self, rewards_of):
        self._rewards_of = rewards_of
        self.out, self.admitted, self.forget_next = {}, [], 0

    async def admit(self, groups, *, limit):
        for group in groups:
            self.admitted.append(group.index)
            if self.forget_next:
                self.forget_next -= 1
                continue
            rewards = self._rewards_of(group.index)
            version = group.required_policy_version
            versions = {"min_policy_version": version, "max_policy_version": version}
            trajectories = tuple(
                make_trajectory(m, reward=r, **versions) for m, r in enumerate(rewards)
            )
            back = replace(group, trajectories=trajectories, prompt_token_ids=None)
            self.out.setdefault(group.group_id, self._judged(back, rewards))
        assert len(self.out) <= limit

    def _judged(self, group, rewards):
        if len(set(rewards)) == 1 and rewards[0] is not None:
            return replace(group, outcome=GroupOutcome.REJECTED, reason="zero_variance")
        return group

    async def collect(self, *, wait_s):
        await asyncio.sleep(0)
        return list(self.out.values())

    async def settle(self, groups):
        for group in groups:
            self.out.pop(group.group_id, None)

    async def lost(self, group_ids):
        return [g for g in group_ids if g not in self.out]

    async def clear(self):
        self.out.clear()

    async def depths(self):
        return {"train": len(self.out)}


def learner(
    tmp_path,
    rewards_of,
    *,
    method="grpo",
    steps=3,
    evaluator=None,
    curriculum="none",
    activity=None,
    **section,
):
    config = RunConfig.model_validate(
        {
            "run": {"dir": str(tmp_path), "id": "r", "steps": steps, "groups_per_step": 4},
            "model": {"path": "m"},
            "data": {"train": "t", "curriculum": curriculum},
            "learner": section,
        }
    )
    made = method_named(method)
    stages = MemoryStages(rewards_of)
    rank = StubRank(config, made)
    loop = Learner(
        rank,
        stages,
        Feeder(PROMPTS, config, made),
        evaluator,
        run_log=RunLog(config.run_dir),
        lease=Lease(config.run_dir),
        activity=activity,
    )
    return loop, stages, rank


async def run(loop, stopping=None):
    await loop.restore()
    await loop.train(stopping or asyncio.Event())


def meta(rank, step):
    sha256 = rank.paths.batch_log.read(step).sha256
    return Meta(run_id="r", step=step, batch_sha256=sha256, teacher_version=0, elapsed_s=0.0)


def logged(rank, step):
    return [(g.index, g.outcome.value) for g in rank.paths.batch_log.read(step).groups]


async def test_a_run_says_in_its_folder_what_it_was_made_with(tmp_path):
    loop, _, rank = learner(tmp_path, lambda _: (1.0, 0.0), steps=1)
    await run(loop)
    assert load(tmp_path / "r/config.json") == rank.config


async def test_every_step_logs_its_groups_before_it_trains_them(tmp_path):
    loop, _, rank = learner(tmp_path, lambda _: (1.0, 0.0))
    await run(loop)
    assert [g for step in (1, 2, 3) for g, _ in logged(rank, step)] == list(range(12))
    assert rank.commands[:3] == [("PUBLISH", 0), ("TRAIN", 1), ("PUBLISH", 1)]
    assert (loop.ledger.trained, loop.ledger.residual) == (12, 0)


async def test_rejected_groups_shrink_a_step_unless_the_method_resamples(tmp_path):
    rewards = lambda index: (1.0, 1.0) if index % 2 else (1.0, 0.0)  # noqa: E731
    loop, _, rank = learner(tmp_path / "grpo", rewards, steps=1)
    await run(loop)
    assert [o for _, o in logged(rank, 1)] == ["trained", "rejected", "trained", "rejected"]

    loop, _, rank = learner(tmp_path / "dapo", rewards, method="dapo", steps=1)
    await run(loop)
    outcomes = [o for _, o in logged(rank, 1)]
    assert outcomes.count("trained") == 4
    assert loop.ledger.residual == 0


async def test_groups_that_the_queues_forgot_are_admitted_again(tmp_path, monkeypatch):
    monkeypatch.setattr("services.learner.gathering._QUIET_S", 0.05)
    loop, stages, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=1)
    stages.forget_next = 3
    await asyncio.wait_for(run(loop), 10)
    assert stages.admitted == [0, 1, 2, 3, 0, 1, 2]
    assert loop.ledger.trained == 4


async def test_a_step_without_one_verdict_ends_the_run_and_is_not_logged(tmp_path):
    loop, stages, rank = learner(tmp_path, lambda _: (None, None))
    with pytest.raises(ServiceError, match=r"no group of this step has a verdict \(slow\)"):
        await run(loop)
    assert rank.paths.batch_log.steps() == []
    assert stages.out == {}, "a resumed learner would meet the same groups again"


async def test_a_run_to_which_nothing_comes_back_ends_saying_where_it_waits(tmp_path):
    loop, stages, _ = learner(tmp_path, lambda _: (1.0, 0.0), stage_timeout_s=0.1)
    stages.forget_next = 99
    with pytest.raises(ServiceError, match=r"no group has come back for 0\.1 s; no group is at"):
        await run(loop)


async def test_a_short_outage_of_the_queues_is_waited_for(tmp_path):
    loop, stages, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=1)
    working, failures = stages.collect, [StreamError("away"), StreamError("away")]

    async def collect(*, wait_s):
        if failures:
            raise failures.pop()
        return await working(wait_s=wait_s)

    stages.collect = collect
    await asyncio.wait_for(run(loop), 10)
    assert loop.ledger.trained == 4


async def test_a_learner_that_lost_its_lease_logs_nothing_more(tmp_path):
    loop, _, rank = learner(tmp_path, lambda _: (1.0, 0.0))
    Lease(tmp_path / "r")
    with pytest.raises(FencedError):
        await run(loop)
    assert rank.paths.batch_log.steps() == []


async def test_a_restart_goes_on_after_the_last_logged_step(tmp_path):
    loop, _, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=2)
    await run(loop)
    loop, stages, rank = learner(tmp_path, lambda _: (1.0, 0.0), steps=3)
    await run(loop)
    assert [c for c in rank.commands if c[0] == "TRAIN"] == [
        ("TRAIN", 1),
        ("TRAIN", 2),
        ("TRAIN", 3),
    ]
    assert stages.admitted == [8, 9, 10, 11]
    assert (loop.ledger.admitted, loop.ledger.residual) == (12, 0)


@pytest.mark.parametrize("method", ["grpo", "dapo"])
async def test_a_restart_chooses_the_prompts_that_the_run_would_have_had(tmp_path, method):
    def rewards(index):
        return (1.0, 1.0) if index % 3 == 0 else (1.0, float(index % 2))

    def chosen(rank):
        log = rank.paths.batch_log
        return [(g.index, g.prompt.id) for s in log.steps() for g in log.read(s).groups]

    def shares(folder):
        lines = (folder / "r" / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line)["prompts_by_pass_rate"] for line in lines]

    settings = {"method": method, "curriculum": "pass_rate"}
    loop, _, undisturbed = learner(tmp_path / "a", rewards, steps=9, **settings)
    await run(loop)
    for steps, checkpoint in ((4, 0), (5, 0), (9, 4)):  # steps after the checkpoint: once more
        loop, _, stopped = learner(tmp_path / "b", rewards, steps=steps, **settings)
        if checkpoint:
            stopped.checkpoint = meta(stopped, checkpoint)
        await run(loop)
    assert chosen(stopped) == chosen(undisturbed)
    assert len(set(chosen(stopped)[:7])) == 7
    assert shares(tmp_path / "b") == shares(tmp_path / "a")
    assert loop.ledger.residual == 0


@pytest.mark.parametrize("damage", [False, True])
async def test_a_restart_publishes_again_what_was_damaged_on_the_volume(tmp_path, damage):
    loop, _, rank = learner(tmp_path, lambda _: (1.0, 0.0), steps=2)
    await run(loop)
    store = rank.paths.weights
    store.publish(
        2,
        step=2,
        probe=Probe(token_ids=(1, 2), logprobs=(-0.5,)),
        save=lambda folder: (folder / "model.safetensors").write_bytes(b"weights"),
    )
    if damage:
        (store.path(2) / "model.safetensors").write_bytes(b"wEights")
    loop, _, rank = learner(tmp_path, lambda _: (1.0, 0.0), steps=2)
    await run(loop)
    assert (("PUBLISH", 2) in rank.commands) is damage


async def test_weights_newer_than_the_log_are_refused_at_the_start(tmp_path):
    """Of an object store that outlived the run's folder: rollout would sample under them."""
    loop, _, rank = learner(tmp_path, lambda _: (1.0, 0.0), steps=2)
    rank.paths.weights.publish(
        1, step=1, probe=Probe(token_ids=(1, 2), logprobs=(-0.5,)), save=lambda _: None
    )
    with pytest.raises(
        ConfigError, match="version 1 is published and the batch log ends at step 0"
    ):
        await run(loop)
    assert rank.commands == []


async def test_an_evaluation_that_a_crash_cut_short_is_made_after_the_restart(tmp_path):
    class Evaluator:
        dies_at = 2

        async def measure(self, *, step, policy_version):
            if step == self.dies_at:
                raise KeyboardInterrupt
            return Evaluation(step)

    @dataclass
    class Evaluation:
        step: int
        greedy_accuracy: float = 0.5
        leakage: float = 0.0

    evaluator = Evaluator()
    loop, _, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=2, evaluator=evaluator)
    with pytest.raises(KeyboardInterrupt):
        await run(loop)
    evaluator.dies_at = None
    loop, _, _ = learner(tmp_path, lambda _: (1.0, 0.0), steps=2, evaluator=evaluator)
    await run(loop)
    assert [e["step"] for e in RunLog(tmp_path / "r").evaluations()] == [0, 2]


async def test_a_learner_that_is_to_stop_before_its_first_step_evaluates_nothing(tmp_path):
    class Silent:
        async def measure(self, *, step, policy_version):
            await asyncio.Event().wait()

    stopping = asyncio.Event()
    stopping.set()
    loop, _, rank = learner(tmp_path, lambda _: (1.0, 0.0), evaluator=Silent())
    await asyncio.wait_for(run(loop, stopping), timeout=10)
    assert rank.commands[-1] == ("STOP", 0)
