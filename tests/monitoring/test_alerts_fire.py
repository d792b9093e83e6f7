"""The path of `benchmarks/alerts.py`, with three of its faults: caused, seen, over."""

import asyncio

import pytest

from benchmarks.alert_faults import FAULTS
from benchmarks.alerts import SCALE, disturbed, problems
from deploy.monitoring.alerts import ALERTS

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(300)]


def test_a_real_fault_fires_its_alert_which_was_silent_before_and_is_silent_after(tmp_path):
    faults = ("learner_stopped", "redis_nearly_full", "weights_damaged")
    found = asyncio.run(disturbed(faults, SCALE, tmp_path))
    assert list(found) == list(faults)
    assert problems(found) == []


def test_every_alert_has_a_fault_that_fires_it():
    assert {alert for fault in FAULTS.values() for alert in fault.fires} == {x.name for x in ALERTS}


def test_an_alert_that_stays_silent_or_goes_on_is_a_problem():
    good = {"missing": [], "silent_before": True, "can_be_undone": True, "silent_after_s": 3.0}
    assert problems({"a": good}) == []
    for wrong in ({"missing": ["X"]}, {"silent_before": False}, {"silent_after_s": None}):
        assert len(problems({"a": good | wrong})) == 1
