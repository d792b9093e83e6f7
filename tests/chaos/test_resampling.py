"""A method that replaces the groups it rejects admits more than its steps consume; none is lost."""

from __future__ import annotations

import pytest

from tests.chaos.account import replay_is_identical
from tests.chaos.killer import Killer, Pace
from tests.chaos.seeded import Ended, assert_equal_end, train
from tests.chaos.system import num_logged

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

KILLS = 10
STEPS = 6
SETTINGS = (f"run.steps={STEPS}", 'method.name="dapo"')


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Ended:
    return train(tmp_path_factory.mktemp("undisturbed"), *SETTINGS)


def test_ten_random_kills_end_with_the_same_weights_and_the_same_replay(undisturbed, tmp_path):
    async def disturb(config, supervisor):
        def is_due():
            # Spread over the steps, so that all hit before the end on a machine of any speed.
            return num_logged(config) > killer.kills.total() * (STEPS - 2) / KILLS

        pace = Pace(interval_s=0.5, together=0.0, gentle=0.0)
        killer = Killer(supervisor, pace, seed=0, may_strike=is_due)
        await killer.run(KILLS)

    run = train(tmp_path, *SETTINGS, disturb=disturb)
    assert sum(e.code < 0 for e in run.exits) == KILLS
    assert_equal_end(run, undisturbed)
    assert run.account.groups > STEPS * 4  # some were replaced
    assert replay_is_identical(tmp_path / "chaos" / "config.json")
