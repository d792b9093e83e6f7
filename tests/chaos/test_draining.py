"""A service that is asked to stop hands back what it holds at once, and exits with 0.

The learner ends its step first; its exit code says that the run is not done.

A claim is not abandoned before ten minutes here: only what is handed back can go on.
"""

from __future__ import annotations

import asyncio
import signal
import time
from unittest.mock import ANY

import pytest

from rlsd.errors import STOPPED_EXIT_CODE
from rlsd.local.processes import Child, free_ports
from rlsd.streams.keys import NOBODY
from rlsd.streams.stage import Stage
from tests.chaos.queues import Queues, freeze_before, freeze_holding
from tests.chaos.seeded import INSTANCES, Ended, assert_equal_end, train
from tests.chaos.system import Exit, num_logged, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

AT_ONCE_S = 5.0
GRACE_S = 30.0
STEPS = ("run.steps=10", "run.abandoned_after_s=600")
LONG_GROUP = (
    "run.steps=1",
    "run.groups_per_step=1",
    "rollout.group_size=256",
    "rollout.max_batch=8",  # thirty-two times in turn: seconds
    "run.abandoned_after_s=600",
)
WORKERS = {Stage.ROLLOUT: "rollout-1", Stage.VERIFY: "verifier-1", Stage.TEACH: "teacher-1"}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Ended:
    return train(tmp_path_factory.mktemp("undisturbed"), *STEPS)


def twin(child: Child, name: str) -> Child:
    """Another process of the same service."""
    bind, metrics = free_ports(2)
    shared = [x for x in child.command if not x.startswith(("--bind", "--metrics"))]
    return Child(
        name=name,
        command=[*shared, f"--bind=127.0.0.1:{bind}", f"--metrics=127.0.0.1:{metrics}"],
        environment=child.environment,
        log_path=child.log_path.with_name(f"{name}.log"),
    )


async def handed_back(name, stage, supervisor, queues) -> None:
    """Ask a worker that is frozen, or at work, to stop; return when it holds nothing."""
    pid = supervisor.pid(name)
    supervisor.signal(name, signal.SIGTERM)
    supervisor.signal(name, signal.SIGCONT)
    await until(lambda: not queues.claims(stage, pid), timeout_s=AT_ONCE_S)


async def taken_over(stage, queues) -> None:
    """Return when no group of the stage waits for somebody to take it again."""
    await until(lambda: NOBODY not in queues.owners(stage).values(), timeout_s=AT_ONCE_S)


def test_workers_that_come_and_go_change_nothing(undisturbed, tmp_path):
    codes: list[int | None] = []

    async def scale(config, supervisor):
        queues = Queues(supervisor, config.run.id)
        twins = [twin(supervisor.children["rollout-0"], f"rollout-{n}") for n in (1, 2)]
        for worker in twins:
            await worker.start()
            supervisor.children[worker.name] = worker
        await until(lambda: num_logged(config) >= 1, timeout_s=120)
        await freeze_before(Stage.VERIFY, supervisor, queues)  # until all three are up
        for worker in twins:
            await until(
                lambda log=worker.log_path: "service ready" in log.read_text(), timeout_s=60
            )
        supervisor.signal("verifier-0", signal.SIGCONT)
        for worker in twins:
            await freeze_holding(worker.name, supervisor, queues)
            await handed_back(worker.name, Stage.ROLLOUT, supervisor, queues)
            await taken_over(Stage.ROLLOUT, queues)
            async with asyncio.timeout(AT_ONCE_S):
                codes.append(await worker.process.wait())

    run = train(tmp_path, *STEPS, disturb=scale)
    assert codes == [0, 0]
    assert run.exits == []
    assert_equal_end(run, undisturbed)


def test_workers_that_cannot_finish_what_they_hold_hand_it_back(undisturbed, tmp_path):
    async def stop_each(config, supervisor):
        queues = Queues(supervisor, config.run.id)
        await until(lambda: num_logged(config) >= 1, timeout_s=120)
        for stage, name in WORKERS.items():
            sibling, pid = name.replace("1", "0"), supervisor.pid(name)
            await freeze_before(stage, supervisor, queues)
            queues.fill_up()  # what it makes of a group, it cannot pass on
            supervisor.signal(name, signal.SIGCONT)
            await until(lambda s=stage, p=pid: bool(queues.claims(s, p)), timeout_s=60)
            supervisor.signal(sibling, signal.SIGCONT)
            await handed_back(name, stage, supervisor, queues)
            queues.make_room()
            await taken_over(stage, queues)
            async with asyncio.timeout(AT_ONCE_S):
                await supervisor.restarted(name, pid)

    run = train(
        tmp_path,
        *STEPS,
        instances={"rollout": 2, "verifier": 2, "teacher": 2},
        disturb=stop_each,
    )
    assert run.exits == [Exit(name, 0) for name in WORKERS.values()]
    assert_equal_end(run, undisturbed)


def test_a_long_generation_is_given_up_and_handed_back(tmp_path):
    undisturbed = train(tmp_path / "undisturbed", *LONG_GROUP)

    async def stop(config, supervisor):
        queues = Queues(supervisor, config.run.id)
        pids = {name: supervisor.pid(name) for name in ("rollout-0", "rollout-1")}
        holding = []

        def is_generating() -> bool:
            holding[:] = [n for n, p in pids.items() if queues.claims(Stage.ROLLOUT, p)]
            return bool(holding)

        await until(is_generating, timeout_s=120)
        (name,) = holding
        await handed_back(name, Stage.ROLLOUT, supervisor, queues)
        await taken_over(Stage.ROLLOUT, queues)
        async with asyncio.timeout(AT_ONCE_S):
            await supervisor.restarted(name, pids[name])

    run = train(
        tmp_path / "disturbed", *LONG_GROUP, instances=INSTANCES | {"rollout": 2}, disturb=stop
    )
    assert [e.code for e in run.exits] == [0], run.exits
    assert_equal_end(run, undisturbed)


def test_a_learner_that_is_stopped_hands_its_groups_to_the_next_one(undisturbed, tmp_path):
    lasted_s: list[float] = []

    async def stop(config, supervisor):
        queues = Queues(supervisor, config.run.id)
        await until(lambda: num_logged(config) >= 2, timeout_s=120)
        while True:
            await freeze_before(Stage.ROLLOUT, supervisor, queues)
            if queues.at_stages()[Stage.TRAIN]:
                break  # the learner has some groups of the step and waits for the others
            supervisor.signal("rollout-0", signal.SIGCONT)
            await asyncio.sleep(0.05)
        before, pid = num_logged(config), supervisor.pid("learner")
        supervisor.signal("learner", signal.SIGTERM)
        asked = time.monotonic()
        await supervisor.restarted("learner", pid)
        lasted_s.append(time.monotonic() - asked)
        supervisor.signal("rollout-0", signal.SIGCONT)
        await until(lambda: num_logged(config) > before, timeout_s=50)

    run = train(tmp_path, *STEPS, disturb=stop)
    assert run.exits == [Exit("learner", STOPPED_EXIT_CODE, ANY)]
    assert lasted_s[0] < GRACE_S
    assert_equal_end(run, undisturbed)
