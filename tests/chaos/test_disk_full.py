"""A full disk stops the writer and leaves what was there."""

from __future__ import annotations

import os
import subprocess

import pytest
from builders import make_group, make_prompt

from rlsd.batch_log import BatchLog
from rlsd.errors import StorageError
from rlsd.weights import FolderStore, Probe

pytestmark = [pytest.mark.chaos]

PROBE = Probe(token_ids=(1, 2), logprobs=(-0.5,))
SIZE = 256 * 1024


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(tmp_path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this machine refuses to mount a tmpfs")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def publish(store: FolderStore, version: int, size: int) -> None:
    content = bytes([version]) * size
    store.publish(
        version,
        step=version,
        probe=PROBE,
        save=lambda folder: (folder / "model.safetensors").write_bytes(content),
    )


def test_a_publication_that_does_not_fit_leaves_the_old_version_serving(small_disk):
    store = FolderStore(small_disk, "run")
    publish(store, 1, SIZE // 2)
    with pytest.raises(StorageError, match="No space left"):
        publish(store, 2, SIZE)
    assert (store.latest(), store.verify(1).step) == (1, 1)
    assert store.versions() == [1]


def test_once_there_is_room_the_publication_succeeds(small_disk):
    store = FolderStore(small_disk, "run")
    publish(store, 1, SIZE // 2)
    with pytest.raises(StorageError, match="No space left"):
        publish(store, 2, SIZE)
    publish(store, 2, SIZE // 4)
    assert (store.latest(), store.verify(2).step) == (2, 2)


def test_a_batch_that_does_not_fit_is_not_in_the_log_and_is_logged_later(small_disk):
    log = BatchLog(small_disk / "batches", "run")
    first = log.append(1, [make_group(index=0)], previous_sha256="")
    large = make_group(index=1, prompt=make_prompt("?" * SIZE))
    with pytest.raises(StorageError, match="No space left"):
        log.append(2, [large], previous_sha256=first)
    assert log.steps() == [1]
    log.append(2, [make_group(index=1)], previous_sha256=first)
    assert log.read(2, previous_sha256=first).groups[0].index == 1
