"""A worker that is cut off from everything changes nothing in what is learned, and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace

import pytest

from tests.chaos.network import AWAY_ADDRESS, HOME_ADDRESS, PrivateLink, private_link
from tests.chaos.queues import Queues, freeze_holding, num_moves
from tests.chaos.recovery import num_finished
from tests.chaos.seeded import INSTANCES, Ended, assert_equal_end, train
from tests.chaos.system import num_logged, redis_child, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

STEPS = "run.steps=10"
FAR = "rollout-1"


@pytest.fixture
def link():
    if os.geteuid() != 0:
        pytest.skip("only root may make network namespaces")
    with private_link() as link:
        yield link


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Ended:
    return train(tmp_path_factory.mktemp("undisturbed"), STEPS)


def with_a_far_worker(parts, link: PrivateLink):
    """The same processes; one reaches Redis over the link, and nothing else at all."""
    redis, *services = parts.children
    folder = services[0].log_path.parent.parent / "redis"
    redis = redis_child(parts.redis_port, folder, bind=["127.0.0.1", HOME_ADDRESS])
    far = next(x for x in services if x.name == FAR)
    url = f"redis://{HOME_ADDRESS}:{parts.redis_port}/0"
    far.environment = {**far.environment, "RLSD_REDIS_URL": url}
    is_metrics = f"--metrics=127.0.0.1:{parts.metrics[FAR]}"
    reachable = f"--metrics={AWAY_ADDRESS}:{parts.metrics[FAR]}"
    far.command = link.inside([reachable if x == is_metrics else x for x in far.command])
    return replace(parts, children=(redis, *services))


def test_the_work_of_a_worker_that_is_cut_off_is_done_once_by_another(link, undisturbed, tmp_path):
    ports: dict[str, int] = {}
    finished: list[float] = []
    added: list[int] = []

    def arrange(parts):
        ports.update(parts.metrics)
        return with_a_far_worker(parts, link)

    async def num_finished_far() -> float:
        async with asyncio.timeout(60):
            while not (found := await num_finished("rollout", ports[FAR], host=AWAY_ADDRESS)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        return found

    async def cut_off(config, supervisor):
        queues = Queues(supervisor, config.run.id)
        await until(lambda: num_logged(config) >= 2, timeout_s=120)
        await freeze_holding(FAR, supervisor, queues)
        await asyncio.to_thread(link.cut)
        supervisor.signal(FAR, signal.SIGCONT)
        before = num_logged(config)
        await until(lambda: num_logged(config) >= before + 3, timeout_s=60)
        await asyncio.to_thread(link.mend)
        finished.append(await num_finished_far())
        supervisor.signal("rollout-0", signal.SIGSTOP)  # now the other one is needed
        before = num_logged(config)
        await until(lambda: num_logged(config) >= before + 2, timeout_s=60)
        finished.append(await num_finished_far())
        supervisor.signal("rollout-0", signal.SIGCONT)
        await supervisor.finished.wait()
        added.append(queues.num_added())

    run = train(
        tmp_path, STEPS, instances=INSTANCES | {"rollout": 2}, arrange=arrange, disturb=cut_off
    )
    said = (tmp_path / "chaos" / "logs" / f"{FAR}.log").read_text()
    assert "result dropped" in said
    assert finished[1] > finished[0]
    assert added == [num_moves(run.account)]
    assert run.exits == []
    assert_equal_end(run, undisturbed)
