"""What learner, rollout and teacher may rely on, whichever store the weights are in."""

import os
import re

import pytest

from rlsd.errors import StorageError, WeightsError
from rlsd.weights import Probe

PROBE = Probe(token_ids=(1, 2), logprobs=(-0.5,))
FILES = {"config.json": b"{}", "model.safetensors": b"weights" * 1000}


def publish(store, version, content=FILES["model.safetensors"]):
    def save(folder):
        for name, bytes_ in (FILES | {"model.safetensors": content}).items():
            (folder / name).write_bytes(bytes_)

    store.publish(version, step=version, probe=PROBE, save=save)


def flip_a_bit(content):
    return content[:10] + bytes([content[10] ^ 1]) + content[11:]


def cut_in_half(content):
    return content[: len(content) // 2]


def test_nothing_is_published_at_first(driver):
    store = driver.store()
    assert (store.latest(), store.versions()) == (None, [])


def test_a_reader_on_another_machine_gets_the_files_the_manifest_and_what_they_cost(driver):
    publish(driver.store(), 3)
    reader = driver.store(machine="there")
    assert (reader.latest(), reader.versions()) == (3, [3])
    fetched = reader.fetch(3)
    for name, content in FILES.items():
        assert (fetched.folder / name).read_bytes() == content
    assert (fetched.manifest.step, fetched.manifest.probe) == (3, PROBE)
    assert set(fetched.manifest.sha256) == set(FILES)
    assert fetched.fetch_s >= 0
    assert fetched.verify_s > 0
    assert fetched.num_bytes in (0, sum(map(len, FILES.values())))


def test_the_latest_is_the_highest_of_those_that_are_there(driver):
    store = driver.store()
    for version in (2, 11, 9):
        publish(store, version)
    assert (store.latest(), store.versions()) == (11, [2, 9, 11])


@pytest.mark.parametrize("change", [flip_a_bit, cut_in_half])
def test_damaged_weights_are_refused_by_all_and_publishing_again_mends_them(driver, change):
    store = driver.store()
    publish(store, 1)
    driver.damage("model.safetensors", change)
    for ask in (store.verify, driver.store(machine="there").fetch):
        with pytest.raises(WeightsError, match="missing or its checksum differs"):
            ask(1)
    publish(store, 1)
    assert store.verify(1).version == 1
    assert driver.store(machine="there").fetch(1).folder.is_dir()


def test_damaged_weights_may_be_mended_by_others(driver):
    """A step that was trained again need not give the same bits on every device."""
    store = driver.store()
    publish(store, 1)
    driver.damage("model.safetensors", flip_a_bit)
    publish(store, 1, b"trained again")
    fetched = driver.store(machine="there").fetch(1)
    assert (fetched.folder / "model.safetensors").read_bytes() == b"trained again"


def test_a_file_that_is_gone_is_refused(driver):
    publish(driver.store(), 1)
    driver.remove("config.json")
    for ask in (driver.store().verify, driver.store(machine="there").fetch):
        with pytest.raises(WeightsError, match=r"config\.json.*missing or its checksum differs"):
            ask(1)


def test_without_its_manifest_a_version_is_not_there(driver):
    publish(driver.store(), 1)
    driver.remove("MANIFEST.json")
    store = driver.store(machine="there")
    assert store.versions() == []
    for ask in (store.verify, store.fetch):
        with pytest.raises(WeightsError, match=r"v00000001.*no readable manifest"):
            ask(1)


@pytest.mark.parametrize(
    "change", [lambda c: c[:40], lambda _: b"[]", lambda c: c.replace(b"config.json", b"../evil")]
)
def test_a_manifest_that_is_torn_or_names_strange_files_is_refused(driver, change):
    publish(driver.store(), 1)
    driver.damage("MANIFEST.json", change)
    for ask in (driver.store().verify, driver.store(machine="there").fetch):
        with pytest.raises(WeightsError, match="no readable manifest"):
            ask(1)


def test_another_runs_version_is_refused(driver):
    publish(driver.store("run"), 1)
    driver.copy_run("run", "other")
    for ask in (driver.store("other").verify, driver.store("other", "there").fetch):
        with pytest.raises(WeightsError, match="written by run 'run' as version 1, wanted 'other'"):
            ask(1)


def test_a_failed_publication_leaves_those_before_and_no_trace(driver):
    store = driver.store()
    publish(store, 1)

    def fail(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(StorageError, match=r"cannot be written \(disk full\)"):
        store.publish(2, step=2, probe=PROBE, save=fail)
    assert store.versions() == [1]
    store.verify(1)
    publish(store, 2)
    assert store.versions() == [1, 2]


def test_the_same_content_is_published_twice_without_harm(driver):
    publish(driver.store(), 1)
    publish(driver.store(machine="there"), 1)
    assert driver.store().verify(1).version == 1


def test_retention_keeps_what_is_named_and_the_newest(driver):
    store = driver.store()
    for version in range(5):
        publish(store, version)
    store.retain({1})
    assert store.versions() == [1, 4]
    for version in (1, 4):
        store.verify(version)


def test_what_a_reader_has_stays_when_the_version_is_retired(driver):
    store, reader = driver.store(), driver.store(machine="there")
    publish(store, 1)
    fetched = reader.fetch(1)
    descriptor = os.open(fetched.folder / "model.safetensors", os.O_RDONLY)
    publish(store, 2)
    store.retain({2})
    assert re.search("v00000001", str(fetched.folder))
    assert os.read(descriptor, 7) == b"weights"
    os.close(descriptor)
