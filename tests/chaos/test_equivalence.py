"""Twenty kills at random moments, in every service, and not one bit of difference at the end."""

from __future__ import annotations

import pytest

from tests.chaos.account import re_executions
from tests.chaos.killer import Killer, Pace
from tests.chaos.seeded import Ended, assert_equal_end, train
from tests.chaos.system import num_logged

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

KILLS = 20
STEPS = 60


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Ended:
    return train(tmp_path_factory.mktemp("undisturbed"), f"run.steps={STEPS}", timeout_s=400)


@pytest.mark.parametrize("seed", [0, 1])
def test_twenty_random_kills_end_with_the_same_weights(seed, undisturbed, tmp_path):
    kills = {}

    async def disturb(config, supervisor):
        def is_due():
            # Spread over the steps, so that all hit before the end on a machine of any speed.
            return num_logged(config) > killer.kills.total() * (STEPS - 2) / KILLS

        pace = Pace(interval_s=0.5, together=0.0, gentle=0.0)
        killer = Killer(supervisor, pace, seed=seed, may_strike=is_due)
        await killer.run(KILLS)
        kills.update(killer.kills)

    run = train(tmp_path, f"run.steps={STEPS}", disturb=disturb, timeout_s=800)
    assert sum(kills.values()) == KILLS
    assert set(kills) == {"rollout", "verifier", "teacher", "learner", "redis"}
    assert max(re_executions(tmp_path / "chaos" / "logs" / "learner.log")) <= 3
    assert_equal_end(run, undisturbed)
