"""A version is held only once the engine's numbers are the learner's."""

import asyncio

import numpy as np
import pytest
from metric_values import Changes

from rlsd.errors import EngineError, UnfitError, WeightsError
from rlsd.inference.engine import Scores
from rlsd.inference.versions import HeldWeights
from rlsd.telemetry.weights import WeightMeter
from rlsd.weights import FolderStore, Probe

PROBE = (1, 2, 3)


def logprobs_of(version):
    return (-1.0 - 0.01 * version, -2.0)


class Engine:
    """Its weights are a number, and its log-probs follow from it."""

    def __init__(self):
        self.weights = None
        self.installed = []
        self.skips = 0
        """Installations that change nothing."""
        self.noise = 0.0
        self.fails = False
        self.damage = 0.0
        """Of the weights that it has, by an installation that fails."""
        self.may_score = asyncio.Event()
        self.may_score.set()

    async def install(self, folder, version):
        self.installed.append(version)
        if self.fails:
            self.noise = self.damage
            raise WeightsError("weights: the engine did not take them")
        if self.skips:
            self.skips -= 1
        else:
            self.weights = version
        return 0.02

    async def score(self, request):
        await self.may_score.wait()
        assert request.prefix_ids + request.completion_ids == PROBE
        return Scores(logprobs=np.float32(logprobs_of(self.weights)) + self.noise)


@pytest.fixture
def store(tmp_path):
    return FolderStore(tmp_path, "run")


def publish(store, version):
    probe = Probe(token_ids=PROBE, logprobs=logprobs_of(version))
    store.publish(version, step=version, probe=probe, save=lambda _: None)


async def at_least(weights, required):
    await weights.hold(await weights.newest(required))


def held(engine, store, *, tolerance=1e-3):
    return HeldWeights(engine, store, tolerance=tolerance)


async def test_the_newest_version_is_installed_once(store):
    engine = Engine()
    weights = held(engine, store)
    publish(store, 0)
    publish(store, 1)
    await asyncio.gather(*(at_least(weights, 1) for _ in range(3)))
    assert (weights.version, engine.installed) == (1, [1])
    await weights.hold(store.fetch(0))
    assert engine.installed == [1]


async def test_a_version_that_is_not_published_is_an_error_and_the_old_one_stays(store):
    weights = held(Engine(), store)
    publish(store, 0)
    await at_least(weights, 0)
    with pytest.raises(EngineError, match="policy version 2 is required, newest published: 0"):
        await at_least(weights, 2)
    assert weights.version == 0


async def test_a_torn_version_never_reaches_the_engine(store):
    engine = Engine()
    weights = held(engine, store)
    publish(store, 0)
    store.publish(
        1,
        step=1,
        probe=Probe(token_ids=PROBE, logprobs=logprobs_of(1)),
        save=lambda folder: (folder / "a.safetensors").write_bytes(b"x"),
    )
    (store.path(1) / "a.safetensors").write_bytes(b"y")
    await weights.exactly(0)
    with pytest.raises(WeightsError, match="checksum"):
        await at_least(weights, 1)
    assert (weights.version, engine.installed) == (0, [0])


async def test_an_engine_that_missed_an_update_takes_it_at_the_second_attempt(store):
    engine = Engine()
    weights = held(engine, store)
    publish(store, 0)
    await at_least(weights, 0)
    publish(store, 1)
    engine.skips = 1
    await at_least(weights, 1)
    assert (weights.version, engine.weights, engine.installed) == (1, 1, [0, 1, 1])


@pytest.mark.parametrize("tolerance", [1e-3, 1.0])
async def test_an_engine_that_keeps_its_old_weights_is_unfit(store, tolerance):
    """Also when the update changes less than the tolerance: it is still nearer to the old ones."""
    engine = Engine()
    weights = held(engine, store, tolerance=tolerance)
    publish(store, 0)
    await at_least(weights, 0)
    publish(store, 1)
    engine.skips = 9
    with pytest.raises(UnfitError, match=r"weights v1: log-probs .* restart this replica"):
        await at_least(weights, 1)
    assert weights.version == 0


async def test_an_engine_whose_numbers_are_not_numbers_is_unfit(store):
    engine = Engine()
    engine.noise = float("nan")
    publish(store, 0)
    with pytest.raises(UnfitError, match="nan nats"):
        await at_least(held(engine, store), 0)


async def test_noise_larger_than_the_update_is_no_reason_to_stop(store):
    engine = Engine()
    engine.noise = -0.02
    weights = held(engine, store, tolerance=0.05)
    for version in range(3):
        publish(store, version)
        await at_least(weights, version)
    assert weights.version == 2


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [(0.0, WeightsError, "did not take them$"), (0.5, UnfitError, "and v0 is damaged: log-probs")],
)
async def test_a_failed_installation_must_leave_the_old_weights(store, damage, error, message):
    engine = Engine()
    weights = held(engine, store)
    publish(store, 0)
    await at_least(weights, 0)
    publish(store, 1)
    engine.fails, engine.damage = True, damage
    with pytest.raises(error, match=message):
        await at_least(weights, 1)
    assert weights.version == 0


async def test_what_was_drawn_during_an_update_waits_for_its_confirmation(store):
    engine = Engine()
    weights = held(engine, store)
    publish(store, 0)
    await at_least(weights, 0)
    publish(store, 1)
    engine.may_score.clear()
    fetched = await weights.newest(1)
    updating = asyncio.ensure_future(weights.hold(fetched))
    proving = asyncio.ensure_future(weights.prove({0, 1}))
    await asyncio.sleep(0.05)
    assert not proving.done()
    engine.may_score.set()
    await asyncio.gather(updating, proving)


async def test_what_was_drawn_under_weights_that_were_not_confirmed_is_an_error(store):
    engine = Engine()
    weights = held(engine, store)
    publish(store, 0)
    await at_least(weights, 0)
    publish(store, 1)
    engine.skips = 9
    with pytest.raises(UnfitError):
        await at_least(weights, 1)
    with pytest.raises(EngineError, match="weights v1, which the probe did not confirm"):
        await weights.prove({0, 1})


async def test_a_teacher_goes_back_to_an_older_version(store):
    engine = Engine()
    weights = held(engine, store)
    for version in range(3):
        publish(store, version)
    await weights.exactly(2)
    await weights.exactly(1)
    assert (weights.version, engine.weights) == (1, 1)


def metered(engine, store):
    return HeldWeights(engine, store, tolerance=1e-3, meter=WeightMeter("rollout"))


def phases(changes):
    name = "rlsd_weight_sync_duration_seconds"
    return {
        phase: changes(f"{name}_count", service="rollout", phase=phase)
        for phase in ("verify", "install", "pause")
    }


def failures(changes):
    reasons = ("damaged", "probe", "engine", "other")
    name = "rlsd_weight_install_failures_total"
    found = {r: changes(name, service="rollout", reason=r) for r in reasons}
    return {r: n for r, n in found.items() if n}


async def test_an_installation_is_measured_by_phase_and_in_bytes(store):
    weights, changes = metered(Engine(), store), Changes()
    publish(store, 0)
    await at_least(weights, 0)
    assert phases(changes) == {"verify": 1, "install": 1, "pause": 1}
    pause = changes("rlsd_weight_sync_duration_seconds_sum", service="rollout", phase="pause")
    assert pause == pytest.approx(0.02), "what the engine says"
    size = (store.path(0) / "MANIFEST.json").stat().st_size
    assert changes("rlsd_weight_bytes_total", service="rollout", direction="taken") == size
    assert failures(changes) == {}


async def test_why_a_version_could_not_be_installed_is_counted(store):
    engine = Engine()
    weights, changes = metered(engine, store), Changes()
    publish(store, 0)
    await at_least(weights, 0)
    publish(store, 1)
    engine.fails = True
    with pytest.raises(WeightsError):
        await at_least(weights, 1)
    assert failures(changes) == {"engine": 1}
    engine.fails, engine.skips = False, 9
    with pytest.raises(UnfitError):
        await at_least(weights, 1)
    assert failures(changes) == {"engine": 1, "probe": 2}, "each try"
    (store.path(1) / "MANIFEST.json").write_text("{")
    with pytest.raises(WeightsError):
        await at_least(weights, 1)
    assert failures(changes) == {"engine": 1, "probe": 2, "damaged": 1}
