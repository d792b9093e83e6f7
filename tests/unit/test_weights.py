import json

import pytest

from rlsd.errors import StorageError, WeightsError
from rlsd.weights import Probe, WeightStore

PROBE = Probe(token_ids=(1, 2), logprobs=(-0.5,))


@pytest.fixture
def store(tmp_path):
    return WeightStore(tmp_path, "run")


def publish(store, version, content=b"weights"):
    store.publish(
        version,
        step=version,
        probe=PROBE,
        save=lambda folder: (folder / "model.safetensors").write_bytes(content),
    )


def test_nothing_is_published_at_first(store):
    assert store.latest() is None
    assert store.versions() == []


def test_a_published_version_verifies_and_is_the_latest(store):
    publish(store, 3)
    assert store.latest() == 3
    assert store.verify(3).probe == PROBE


def test_a_changed_byte_is_refused(store):
    publish(store, 1)
    (store.path(1) / "model.safetensors").write_bytes(b"weightz")
    with pytest.raises(WeightsError, match="checksum differs"):
        store.verify(1)


def test_a_version_without_its_manifest_is_refused(store):
    publish(store, 1)
    (store.path(1) / "MANIFEST.json").unlink()
    with pytest.raises(WeightsError, match="no readable manifest"):
        store.verify(1)
    assert store.versions() == []


def test_a_torn_manifest_is_refused(store):
    publish(store, 1)
    manifest = store.path(1) / "MANIFEST.json"
    manifest.write_text(manifest.read_text()[:40])
    with pytest.raises(WeightsError, match="no readable manifest"):
        store.verify(1)


def test_another_runs_version_is_refused(store, tmp_path):
    publish(store, 1)
    with pytest.raises(WeightsError, match="written by run 'run'"):
        WeightStore(tmp_path, "other").verify(1)


def test_a_failed_publication_leaves_the_one_before(store):
    publish(store, 1)

    def fail(folder):
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(StorageError, match=r"v00000002: cannot be written \(disk full\)"):
        store.publish(2, step=2, probe=PROBE, save=fail)
    assert (store.latest(), store.versions()) == (1, [1])
    store.verify(1)


def test_retention_keeps_what_is_named_and_the_newest(store):
    for version in range(5):
        publish(store, version)
    store.retain({1})
    assert store.versions() == [1, 4]


def test_publishing_a_version_again_replaces_it(store):
    publish(store, 1)
    publish(store, 1, b"other")
    assert json.loads((store.path(1) / "MANIFEST.json").read_text())["version"] == 1
    store.verify(1)
