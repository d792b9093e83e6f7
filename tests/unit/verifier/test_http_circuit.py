import asyncio

import pytest

from rlsd.verifier_client.circuit import (
    FEWEST_TRIES,
    NUM_PROBES,
    OPEN_S,
    WINDOW_S,
    Circuit,
    CircuitState,
    Outage,
)


class FakeClock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def states():
    return []


@pytest.fixture
def circuit(clock, states):
    return Circuit(clock=clock, tell=states.append)


def fail(circuit, count=1):
    for _ in range(count):
        with circuit.admit() as admitted:
            admitted.failed()


def succeed(circuit, count=1):
    for _ in range(count):
        with circuit.admit() as admitted:
            admitted.succeeded()


def test_it_opens_when_half_of_twenty_tries_failed(circuit, states):
    succeed(circuit, FEWEST_TRIES // 2)
    fail(circuit, FEWEST_TRIES // 2 - 1)
    assert circuit.state is CircuitState.CLOSED
    fail(circuit)
    assert circuit.state is CircuitState.OPEN
    assert circuit.admit() is None
    assert states == [CircuitState.CLOSED, CircuitState.OPEN]


def test_nineteen_failures_alone_do_not_open_it(circuit):
    fail(circuit, FEWEST_TRIES - 1)
    assert circuit.state is CircuitState.CLOSED


def test_failures_of_more_than_thirty_seconds_ago_do_not_count(circuit, clock):
    fail(circuit, FEWEST_TRIES - 1)
    clock.now += WINDOW_S
    fail(circuit)
    assert circuit.state is CircuitState.CLOSED


def test_a_sudden_outage_after_many_successes_opens_it(circuit):
    succeed(circuit, 200)
    fail(circuit, FEWEST_TRIES - 1)
    assert circuit.state is CircuitState.CLOSED
    fail(circuit)
    assert circuit.state is CircuitState.OPEN


def test_fewer_than_half_never_open_it(circuit):
    for _ in range(100):
        succeed(circuit, 2)
        fail(circuit)
    assert circuit.state is CircuitState.CLOSED


def test_after_fifteen_seconds_three_probes_are_admitted_and_no_more(circuit, clock):
    fail(circuit, FEWEST_TRIES)
    clock.now += OPEN_S - 0.01
    assert circuit.admit() is None
    clock.now += 0.01
    probes = [circuit.admit() for _ in range(NUM_PROBES + 1)]
    assert [p is not None for p in probes] == [True] * NUM_PROBES + [False]


def test_three_good_probes_close_it(circuit, clock, states):
    fail(circuit, FEWEST_TRIES)
    clock.now += OPEN_S
    succeed(circuit, NUM_PROBES - 1)
    assert circuit.state is CircuitState.HALF_OPEN
    succeed(circuit)
    assert [s.name for s in states] == ["CLOSED", "OPEN", "HALF_OPEN", "CLOSED"]


def test_one_bad_probe_opens_it_for_another_fifteen_seconds(circuit, clock):
    fail(circuit, FEWEST_TRIES)
    clock.now += OPEN_S
    succeed(circuit, 2)
    fail(circuit)
    clock.now += OPEN_S - 0.01
    assert circuit.state is CircuitState.OPEN


def test_a_late_result_from_before_the_outage_is_no_probe(circuit, clock):
    late = [circuit.admit() for _ in range(5)]
    fail(circuit, FEWEST_TRIES)
    clock.now += OPEN_S
    assert circuit.state is CircuitState.HALF_OPEN
    for admitted in late:
        with admitted:
            admitted.succeeded()
    assert circuit.state is CircuitState.HALF_OPEN


def test_a_cancelled_probe_gives_its_place_back(circuit, clock):
    fail(circuit, FEWEST_TRIES)
    clock.now += OPEN_S
    for _ in range(10):
        with circuit.admit():
            pass  # neither succeeded nor failed
    assert circuit.state is CircuitState.HALF_OPEN
    succeed(circuit, NUM_PROBES)
    assert circuit.state is CircuitState.CLOSED


async def test_whoever_waits_is_let_through_when_it_closes(circuit, clock):
    fail(circuit, FEWEST_TRIES)
    clock.now += OPEN_S
    probes = [circuit.admit() for _ in range(NUM_PROBES)]
    waiting = [asyncio.create_task(circuit.passable(until=clock.now + 600)) for _ in range(100)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    for probe in probes:
        with probe:
            probe.succeeded()
    await asyncio.wait_for(asyncio.gather(*waiting), 1)


async def test_waiting_ends_with_the_deadline(clock):
    circuit = Circuit()
    fail(circuit, FEWEST_TRIES)
    with pytest.raises(Outage):
        await circuit.passable(until=asyncio.get_running_loop().time() + 0.05)
