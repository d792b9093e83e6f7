"""A run whose weights go through an object store, and what the store's faults do to it."""

from __future__ import annotations

import uuid

import pytest
from s3_server import CREDENTIALS, S3Server

from rlsd.config import load
from tests.chaos.account import audit, replay_is_identical
from tests.chaos.seeded import Ended, assert_equal_end, train
from tests.chaos.system import num_logged, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STEPS = "run.steps=10"
BUCKET = "weights"


@pytest.fixture(scope="module")
def server():
    with pytest.MonkeyPatch.context() as patch, S3Server() as server:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        server.client().create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture(scope="module")
def with_a_folder(tmp_path_factory) -> Ended:
    return train(tmp_path_factory.mktemp("folder"), STEPS)


@pytest.fixture
def settings(server) -> tuple[str, ...]:
    url = f"s3://{BUCKET}/{uuid.uuid4().hex}"
    return (STEPS, f'weights.url="{url}"', f'weights.endpoint_url="{server.url}"')


def config_of(folder):
    return load(folder / "chaos" / "config.json")


def test_it_ends_in_the_same_weights_as_with_a_folder(with_a_folder, settings, tmp_path):
    run = train(tmp_path, *settings)
    assert run.exits == []
    assert_equal_end(run, with_a_folder)
    assert replay_is_identical(tmp_path / "chaos" / "config.json")


@pytest.mark.long
def test_a_store_that_is_away_for_a_while_delays_it_and_changes_nothing(
    with_a_folder, settings, server, tmp_path
):
    async def disturb(config, supervisor):
        await until(lambda: num_logged(config) >= 3, timeout_s=120)
        server.go_away()
        await until(lambda: "weight store unreachable" in logs(tmp_path), timeout_s=60)
        server.come_back()

    run = train(tmp_path, *settings, disturb=disturb)
    assert run.exits == []
    assert_equal_end(run, with_a_folder)


def test_weights_that_the_store_has_damaged_are_mended_by_a_restart(
    with_a_folder, settings, server, tmp_path
):
    damaged = []

    def damage(method, path):
        """Before anybody can have read it: its manifest is on its way."""
        if method == "PUT" and path.endswith("v00000003/MANIFEST.json") and not damaged:
            damaged.append(path)
            place = path.removeprefix(f"/{BUCKET}/").removesuffix("MANIFEST.json")
            server.damage(BUCKET, place, "model.safetensors", lambda c: c[:-1] + bytes([c[-1] ^ 1]))
        return 0.0

    server.faults.delay_s = damage
    run = train(tmp_path, *settings)
    assert damaged
    assert [e.name for e in run.exits] == ["learner"]
    assert "missing or its checksum differs" in run.exits[0].words
    assert_equal_end(run, with_a_folder)


def test_a_learner_whose_folder_was_lost_refuses_the_weights_that_are_left(
    settings, server, tmp_path
):
    first = train(tmp_path / "first", *settings[1:], "run.steps=2")
    assert first.exits == []
    lost: list[str] = []

    async def disturb(config, supervisor):
        def refused() -> bool:
            lost.extend(e.words for e in supervisor.exits if e.name == "learner")
            return bool(lost)

        await until(refused, timeout_s=120)
        supervisor.finished.set()

    with pytest.raises(FileNotFoundError):  # it never got to a summary
        train(tmp_path / "second", *settings[1:], "run.steps=2", disturb=disturb)
    assert "version 2 is published and the batch log ends at step 0" in lost[0]
    assert audit(config_of(tmp_path / "first")).failed == {}


def logs(folder) -> str:
    found = (folder / "chaos" / "logs").glob("*.log")
    return "".join(path.read_text(errors="replace") for path in found)
