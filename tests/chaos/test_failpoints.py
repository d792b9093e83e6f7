"""A process that dies between two durable actions changes nothing in what is learned."""

from __future__ import annotations

import asyncio
import signal

import pytest

from rlsd.failpoints import POINTS
from rlsd.local.processes import Child
from rlsd.weights import FolderStore
from tests.chaos.account import audit, debris, re_executions
from tests.chaos.seeded import INSTANCES, SETTINGS, Ended, assert_equal_end, ended, train
from tests.chaos.system import chain_run, has_ended, num_logged, supervised, system, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

STEPS = "run.steps=8"
CRASHES = {
    "between the actions of a step": {
        "learner": "seal/log:1,log/settle:2,settle/train:2,train/publish:2,"
        "publish/checkpoint:2,checkpoint/retain:2"
    },
    "inside a publication or a checkpoint": {
        "learner": "folder-fill/rename:1,folder-fill/rename:3,checkpoint-fill/rename:1,"
        "folder-fill/rename:6"
    },
    "before a file is in its place": {
        "learner": "file-write/rename:1,file-write/rename:3,file-write/rename:6,"
        "file-write/rename:9,file-write/rename:14"
    },
    "before and after a group moves on": {
        "rollout-0": "process/advance:2,advance/next:4,process/advance:9",
        "verifier-0": "process/advance:3,advance/next:6",
        "teacher-0": "process/advance:4,advance/next:7",
    },
}
"""Where which process dies; one run each."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Ended:
    return train(tmp_path_factory.mktemp("undisturbed"), STEPS)


def test_a_run_without_crashes_has_one_possible_end(undisturbed, tmp_path):
    again = train(tmp_path, STEPS)
    assert again.exits == []
    assert_equal_end(again, undisturbed)


@pytest.mark.parametrize("where", CRASHES)
def test_a_run_that_dies_ends_with_the_same_weights(where, undisturbed, tmp_path):
    crashes = CRASHES[where]

    def environment(name, folder):
        if name not in crashes:
            return {}
        passed = str(folder / f"{name}.passed")
        return {"RLSD_FAILPOINT": crashes[name], "RLSD_FAILPOINT_ONCE": passed}

    run = train(tmp_path, STEPS, environment=environment)
    for name, points in crashes.items():
        killed = [e for e in run.exits if (e.name, e.code) == (name, -signal.SIGKILL)]
        assert len(killed) == len(points.split(",")), run.exits
    assert not [e for e in run.exits if e.code > 0]
    assert not [path for path in debris(tmp_path / "chaos") if path.is_dir()]
    assert_equal_end(run, undisturbed)


def test_every_failpoint_is_died_at():
    wanted = [points for crashes in CRASHES.values() for points in crashes.values()]
    assert {p.partition(":")[0] for x in wanted for p in x.split(",")} == set(POINTS)


def test_a_worker_that_was_frozen_changes_nothing_when_it_goes_on(undisturbed, tmp_path):
    config, path = chain_run(tmp_path, *SETTINGS, STEPS)
    parts = system(config, path, instances=INSTANCES | {"rollout": 2})

    async def frozen() -> Ended:
        async with supervised(parts.children, is_finished=has_ended(config)) as supervisor:
            await until(lambda: num_logged(config) >= 2, timeout_s=120)
            supervisor.signal("rollout-0", signal.SIGSTOP)
            await until(lambda: num_logged(config) >= 5, timeout_s=60)
            supervisor.signal("rollout-0", signal.SIGCONT)
            await asyncio.wait_for(supervisor.finished.wait(), 120)
        return ended(config, supervisor)

    assert_equal_end(asyncio.run(frozen()), undisturbed)


def test_a_learner_that_was_frozen_and_replaced_writes_nothing_more(undisturbed, tmp_path):
    config, path = chain_run(tmp_path, *SETTINGS, STEPS)
    parts = system(config, path, instances=INSTANCES)
    zombie = parts.children[-1]
    second = Child(
        name="learner-second",
        command=[x for x in zombie.command if not x.startswith(("--bind", "--metrics"))],
        environment=zombie.environment,
        log_path=zombie.log_path.with_name("learner-second.log"),
    )

    def is_finished(name: str, code: int) -> bool:
        return name == "learner" or has_ended(config)(name, code)

    async def replaced() -> Ended:
        async with supervised(parts.children, is_finished=is_finished) as supervisor:
            await until(lambda: num_logged(config) >= 2, timeout_s=120)
            supervisor.signal("learner", signal.SIGSTOP)
            before = num_logged(config)
            await second.start()
            supervisor.children[second.name] = second
            await until(lambda: num_logged(config) >= before + 2, timeout_s=60)
            supervisor.signal("learner", signal.SIGCONT)
            await asyncio.wait_for(supervisor.finished.wait(), 60)
            assert second.process is not None
            assert await asyncio.wait_for(second.process.wait(), 120) == 0
        return ended(config, supervisor)

    run = asyncio.run(replaced())
    assert zombie.exit_code == 1
    assert "another learner has taken over" in zombie.last_words()
    assert_equal_end(run, undisturbed)


def test_a_learner_that_executes_steps_again_takes_no_version_away(tmp_path):
    config, path = chain_run(tmp_path, *SETTINGS, "run.steps=24", "learner.checkpoint_every=1000")
    parts = system(config, path, instances=INSTANCES)
    store = FolderStore(config.run_dir / "weights", config.run.id)
    seen: list[int] = []

    def note_latest() -> bool:
        seen.append(store.latest() or 0)
        return re_executions(config.run_dir / "logs" / "learner.log")[-1] >= 20

    async def killed() -> None:
        async with supervised(parts.children, is_finished=has_ended(config)) as supervisor:
            await until(lambda: (store.latest() or 0) >= 20, timeout_s=120)
            supervisor.signal("learner", signal.SIGKILL)
            await until(note_latest, timeout_s=60)
            await asyncio.wait_for(supervisor.finished.wait(), 120)

    asyncio.run(killed())
    assert seen == sorted(seen)
    assert audit(config).failed == {}
