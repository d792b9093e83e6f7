"""What a machine keeps of an object store: bounded, shared, and never taken from who uses it."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from s3_server import CREDENTIALS

from rlsd.weights import Probe
from rlsd.weights.bucket import Bucket
from rlsd.weights.cache import Cache
from rlsd.weights.s3 import S3Store

PROBE = Probe(token_ids=(1, 2), logprobs=(-0.5,))


def publish(store, version, content=b"weights"):
    def save(folder):
        (folder / "model.safetensors").write_bytes(content)

    store.publish(version, step=version, probe=PROBE, save=save)


def kept(folder: Path) -> list[int]:
    assert not list(folder.glob(".*"))
    return sorted(int(p.name[1:]) for p in folder.glob("v*"))


@pytest.fixture
def published(remote, tmp_path):
    learner = remote.store(tmp_path / "learner")
    for version in range(6):
        publish(learner, version)
    return learner


def test_what_is_here_is_verified_and_not_brought_again(remote, published, tmp_path):
    reader = remote.store(tmp_path / "reader")
    first, again = reader.fetch(1), remote.store(tmp_path / "reader").fetch(1)
    assert (first.num_bytes, again.num_bytes) == (7, 0)
    assert again.folder == first.folder


def test_what_the_disk_here_has_damaged_is_brought_again(remote, published, tmp_path):
    reader = remote.store(tmp_path / "reader")
    fetched = reader.fetch(1)
    (fetched.folder / "model.safetensors").write_bytes(b"weightz")
    again = reader.fetch(1)
    assert (again.folder / "model.safetensors").read_bytes() == b"weights"
    assert again.num_bytes == 7


def test_a_version_that_was_published_anew_is_brought_anew(remote, published, tmp_path):
    reader = remote.store(tmp_path / "reader")
    reader.fetch(5)
    with remote.server.undisturbed():
        for key in [k for k in remote.all_keys() if "v00000005" in k]:
            remote.server.client().delete_object(Bucket="weights", Key=key)
    publish(published, 5, b"others!")
    assert (reader.fetch(5).folder / "model.safetensors").read_bytes() == b"others!"


def test_only_the_version_before_is_kept_beside_the_newest(remote, published, tmp_path):
    reader = remote.store(tmp_path / "reader")
    for version in range(6):
        reader.fetch(version)
    assert kept(tmp_path / "reader") == [4, 5]


def test_a_version_in_use_stays_until_it_is_let_go(remote, published, tmp_path):
    reader = remote.store(tmp_path / "reader")
    used = reader.fetch(0)
    for version in range(1, 6):
        remote.store(tmp_path / "reader").fetch(version)
    assert kept(tmp_path / "reader") == [0, 4, 5]
    assert (used.folder / "model.safetensors").read_bytes() == b"weights"
    del used
    reader.fetch(5)
    assert kept(tmp_path / "reader") == [4, 5]


def test_many_readers_of_one_machine_end_with_one_whole_copy(remote, published, tmp_path):
    stores = [remote.store(tmp_path / "reader") for _ in range(6)]
    with ThreadPoolExecutor(6) as threads:
        fetched = list(threads.map(lambda store: store.fetch(3), stores))
    assert {(f.folder / "model.safetensors").read_bytes() for f in fetched} == {b"weights"}
    assert kept(tmp_path / "reader") == [3]
    for version in (4, 5, 2, 1):  # whoever's copy it is, all of them hold it
        stores[0].fetch(version)
        assert all((f.folder / "model.safetensors").exists() for f in fetched)


def _use(url, prefix, folder, seconds):
    store = S3Store(Bucket("weights", endpoint_url=url), prefix, "run", folder, timeout_s=20)
    fetched = store.fetch(0)
    (folder.parent / "using").touch()
    time.sleep(seconds)
    assert fetched.folder.is_dir()


@pytest.mark.timeout(60)
def test_another_process_keeps_its_version_as_long_as_it_lives(
    remote, published, tmp_path, monkeypatch
):
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "reader"
    child = multiprocessing.get_context("spawn").Process(
        target=_use, args=(remote.server.url, f"{remote.prefix}/run", folder, 60.0)
    )
    child.start()
    while not (tmp_path / "using").exists():
        assert child.is_alive()
        time.sleep(0.05)
    reader = remote.store(folder)
    for version in range(1, 6):
        reader.fetch(version)
    assert kept(folder) == [0, 4, 5]
    child.kill()
    child.join()
    reader.fetch(5)
    assert kept(folder) == [4, 5]


def test_what_a_dead_process_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    cache = Cache(tmp_path)
    left = tmp_path / ".aside-dead"
    left.mkdir()
    with cache.aside() as writing, Cache(tmp_path).aside():
        assert not left.exists()
        assert writing.folder.is_dir()
