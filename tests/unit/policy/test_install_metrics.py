"""What an installation in place says of itself, with the example's model."""

import pytest
import torch
from metric_values import Changes
from published_policy import BASE, Policy

from rlsd.errors import WeightsError
from rlsd.policy.loading import install, load_model
from rlsd.telemetry.weights import WeightMeter
from rlsd.weights import WeightStore

METER = WeightMeter("teacher")


def count(changes, phase):
    name = "rlsd_weight_sync_duration_seconds_count"
    return changes(name, service="teacher", phase=phase)


def failed(changes, reason):
    return changes("rlsd_weight_install_failures_total", service="teacher", reason=reason)


def test_the_phases_the_bytes_and_the_failures_are_counted(tmp_path):
    store = WeightStore(tmp_path, "run")
    policy = Policy(store)
    version = policy.publish()
    model = load_model(BASE, device=torch.device("cpu"))
    changes = Changes()
    assert install(model, store, version, tolerance=1e-3, meter=METER) < 1e-3
    assert [count(changes, p) for p in ("verify", "install", "pause")] == [1, 1, 1]
    size = sum(path.stat().st_size for path in store.path(version).iterdir())
    assert changes("rlsd_weight_bytes_total", service="teacher", direction="taken") == size > 1e5

    with pytest.raises(WeightsError, match="log-probs differ"):
        install(model, store, version, tolerance=-1.0, meter=METER)
    assert (failed(changes, "probe"), failed(changes, "damaged")) == (1, 0)
    (store.path(version) / "model.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="checksum"):
        install(model, store, version, tolerance=1e-3, meter=METER)
    assert (failed(changes, "probe"), failed(changes, "damaged")) == (1, 1)
    assert count(changes, "verify") == 2
