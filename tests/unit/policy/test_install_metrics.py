"""What an installation in place says of itself, with the example's model."""

import asyncio

import pytest
import torch
from metric_values import Changes
from published_policy import BASE, Policy

from rlsd.errors import ServiceError, WeightsError
from rlsd.policy.loading import install, load_model
from rlsd.telemetry.weights import WeightMeter
from rlsd.weights import Fetched, FolderStore, Manifest, Probe

METER = WeightMeter("teacher")


def count(changes, phase):
    name = "rlsd_weight_sync_duration_seconds_count"
    return changes(name, service="teacher", phase=phase)


def failed(changes, reason):
    return changes("rlsd_weight_install_failures_total", service="teacher", reason=reason)


async def test_the_phases_the_bytes_and_the_failures_are_counted(tmp_path):
    store = FolderStore(tmp_path, "run")
    policy = Policy(store)
    version = policy.publish()
    model = load_model(BASE, device=torch.device("cpu"))
    changes = Changes()

    async def take():
        return await METER.take(asyncio.to_thread(store.fetch, version))

    fetched = await take()
    assert install(model, fetched, tolerance=1e-3, meter=METER) < 1e-3
    phases = ("fetch", "verify", "install", "pause")
    assert [count(changes, p) for p in phases] == [0, 1, 1, 1]  # a folder brings nothing here
    size = sum(path.stat().st_size for path in store.path(version).iterdir())
    assert changes("rlsd_weight_bytes_total", service="teacher", direction="taken") == size > 1e5

    with pytest.raises(WeightsError, match="log-probs differ"):
        install(model, fetched, tolerance=-1.0, meter=METER)
    assert (failed(changes, "probe"), failed(changes, "damaged")) == (1, 0)
    (store.path(version) / "model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="checksum"):
        await take()
    assert (failed(changes, "probe"), failed(changes, "damaged")) == (1, 1)
    assert count(changes, "verify") == 1


async def test_what_was_brought_here_is_timed_and_a_store_that_is_away_is_another_failure():
    changes = Changes()
    manifest = Manifest(
        run_id="run", version=1, step=1, sha256={}, probe=Probe(token_ids=(1,), logprobs=())
    )
    there = Fetched(folder=BASE, manifest=manifest, fetch_s=2.0, verify_s=1.0, num_bytes=9)

    async def fetched():
        return there

    async def away():
        raise ServiceError("weights.url s3://b: cannot read k: no answer in time")

    assert await METER.take(fetched()) is there
    assert [count(changes, p) for p in ("fetch", "verify")] == [1, 1]
    with pytest.raises(ServiceError):
        await METER.take(away())
    assert (failed(changes, "other"), failed(changes, "damaged")) == (1, 0)
