"""A Redis that goes back in time, is full, or is behind a bad wire changes nothing learned."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from rlsd.cli.why import ask
from rlsd.streams.stage import Stage
from tests.chaos.proxy import behind_proxy
from tests.chaos.queues import Queues, freeze_before, num_moves
from tests.chaos.seeded import Ended, assert_equal_end, train
from tests.chaos.system import num_logged, redis_child, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

STEPS = "run.steps=8"
FEW_STEPS = "run.steps=3"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Ended:
    return train(tmp_path_factory.mktemp("undisturbed"), STEPS)


def keeping(parts):
    folder = parts.children[1].log_path.parent.parent / "redis"
    redis = redis_child(parts.redis_port, folder, keeps_data=True)
    return replace(parts, children=(redis, *parts.children[1:]))


def test_a_redis_that_goes_back_in_time_loses_nothing_and_repeats_nothing(undisturbed, tmp_path):
    async def roll_back(config, supervisor):
        queues = Queues(supervisor, config.run.id)
        kept, old = config.run_dir / "redis", tmp_path / "old"
        await until(lambda: num_logged(config) >= 2, timeout_s=120)
        await freeze_before(Stage.VERIFY, supervisor, queues)
        shutil.copytree(kept, old)
        supervisor.signal("verifier-0", signal.SIGCONT)
        copied = num_logged(config)
        await until(lambda: num_logged(config) >= copied + 2, timeout_s=60)
        await freeze_before(Stage.VERIFY, supervisor, queues)
        pid = supervisor.pid("redis")
        supervisor.signal("redis", signal.SIGSTOP)
        shutil.rmtree(kept)
        shutil.copytree(old, kept)
        supervisor.signal("redis", signal.SIGKILL)
        await supervisor.restarted("redis", pid)
        supervisor.signal("verifier-0", signal.SIGCONT)

    run = train(tmp_path, STEPS, arrange=keeping, disturb=roll_back)
    assert [e.name for e in run.exits] == ["redis"], run.exits
    assert_equal_end(run, undisturbed)
    assert json.loads((tmp_path / "chaos" / "summary.json").read_text())["duplicates_dropped"] > 0


def test_a_full_redis_is_waited_for_and_said_to_be_full(undisturbed, tmp_path):
    said: list[str] = []
    logged: list[int] = []

    async def fill_up(config, supervisor):
        queues = Queues(supervisor, config.run.id)
        verifier = address_of(supervisor.children["verifier-0"].command)

        async def look() -> str:
            return (await ask("verifier", verifier, answer_s=10.0)).says

        await until(lambda: num_logged(config) >= 2, timeout_s=120)
        await freeze_before(Stage.VERIFY, supervisor, queues)
        queues.fill_up()
        supervisor.signal("verifier-0", signal.SIGCONT)
        async with asyncio.timeout(60):
            while "raise maxmemory" not in await look():  # noqa: ASYNC110  it gives no event
                await asyncio.sleep(0.1)
        for _ in range(20):
            said.append(await look())
            logged.append(num_logged(config))
            await asyncio.sleep(0.1)
        queues.make_room()

    run = train(tmp_path, STEPS, disturb=fill_up)
    assert all(x.startswith("waiting ") and "raise maxmemory" in x for x in said), said
    assert len(set(logged)) == 1
    log = (tmp_path / "chaos" / "logs" / "verifier-0.log").read_text()
    assert log.count("redis unreachable") == log.count("redis reachable") == 1
    assert run.exits == []
    assert_equal_end(run, undisturbed)


def address_of(command: list[str]) -> str:
    return next(x.partition("=")[2] for x in command if x.startswith("--bind="))


def test_a_slow_wire_that_loses_answers_repeats_nothing(tmp_path):
    undisturbed = train(tmp_path / "undisturbed", FEW_STEPS)
    added: list[int] = []

    async def count(config, supervisor):
        queues = Queues(supervisor, config.run.id)
        await supervisor.finished.wait()
        added.append(queues.num_added())

    run = train(
        tmp_path / "disturbed",
        FEW_STEPS,
        "run.abandoned_after_s=10",
        arrange=lambda parts: behind_proxy(parts, latency_s=0.15, reset_every=100, seed=0),
        disturb=count,
    )
    assert num_resets(tmp_path / "disturbed") > 1
    assert added == [num_moves(run.account)]
    assert run.exits == []
    assert_equal_end(run, undisturbed)


def num_resets(folder: Path) -> int:
    return (folder / "chaos" / "logs" / "proxy.log").read_text().count("reset\n")
