"""How many traces begin a second."""

import hashlib

import pytest

from rlsd.telemetry.tracing.pace import Pace


def begun(a_second: float, *, seconds: float) -> list[tuple[float, int, bool]]:
    """Time, trace id and whether it was admitted, of traces that begin at an even pace."""
    at_s = 0.0
    pace, found = Pace(lambda: at_s), []
    for number in range(int(seconds * a_second)):
        at_s = number / a_second
        trace_id = int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:16])
        found.append((at_s, trace_id, pace.admits(trace_id)))
    return found


@pytest.mark.parametrize("a_second", [0.01, 1, 4.5])
def test_a_slow_run_has_all_its_traces(a_second):
    assert all(admitted for _, _, admitted in begun(a_second, seconds=1000))


@pytest.mark.parametrize("a_second", [20, 100, 1000])
def test_a_fast_run_has_five_a_second(a_second):
    late = [x for x in begun(a_second, seconds=200) if x[0] > 100]
    assert sum(admitted for _, _, admitted in late) / 100 == pytest.approx(5, rel=0.2)


def test_the_traces_of_a_faster_run_are_among_those_of_a_slower_one():
    late_ids = [
        {trace_id for _, trace_id, admitted in begun(a, seconds=40_000 / a)[30_000:] if admitted}
        for a in (50, 200)
    ]
    assert late_ids[1] < late_ids[0]


def test_a_run_that_slows_down_has_all_its_traces_again():
    at_s = 0.0
    pace = Pace(lambda: at_s)
    for number in range(10_000):
        at_s = number / 100
        pace.admits(number)
    last = 2**64 - 1
    assert not pace.admits(last)
    at_s += 120
    assert pace.admits(last)
