"""A published version that the volume has damaged is refused, and mended by a restart."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from rlsd.weights import FolderStore
from tests.chaos.seeded import Ended, assert_equal_end, train
from tests.chaos.system import num_logged, until

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]

STEPS = "run.steps=6"
FILE = "model.safetensors"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Ended:
    return train(tmp_path_factory.mktemp("undisturbed"), STEPS)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_in_half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def put_the_base_model_there(file: Path) -> None:
    file.write_bytes(Path("examples/chain/base", FILE).read_bytes())


@pytest.mark.parametrize("damage", [flip_a_bit, cut_in_half, put_the_base_model_there])
def test_damaged_weights_are_never_served_and_a_restart_mends_them(damage, undisturbed, tmp_path):
    async def disturb(config, supervisor):
        store = FolderStore(config.run_dir / "weights", config.run.id)
        await until(lambda: num_logged(config) >= 3, timeout_s=120)
        supervisor.signal("rollout-0", signal.SIGSTOP)  # so that it has not read it yet
        version = num_logged(config)
        await until(lambda: store.latest() == version, timeout_s=60)
        damage(store.path(version) / FILE)
        supervisor.signal("rollout-0", signal.SIGCONT)

    run = train(tmp_path, STEPS, disturb=disturb)
    words = [e.words for e in run.exits]
    assert [e.name for e in run.exits] == ["learner"], words
    assert "no group of this step has a verdict (WeightsError: " in words[0]
    assert f"{FILE}: missing or its checksum differs" in words[0]
    assert_equal_end(run, undisturbed)
