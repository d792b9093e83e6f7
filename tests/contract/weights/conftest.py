"""Both drivers under one interface: a store, its readers, and ways to damage what it holds."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from s3_server import CREDENTIALS, S3Server

from rlsd.weights import FolderStore, WeightStore
from rlsd.weights.bucket import Bucket
from rlsd.weights.s3 import S3Store


@dataclass(frozen=True, kw_only=True)
class Driver:
    """One kind of store."""

    open: Callable[[str, str], WeightStore]
    """By run id and the name of the machine that asks."""
    damage: Callable[[str, Callable[[bytes], bytes]], object]
    """Change the only file of that name that the store holds."""
    remove: Callable[[str], object]
    copy_run: Callable[[str, str], object]
    """Give another run what one has published."""

    def store(self, run: str = "run", machine: str = "here") -> WeightStore:
        return self.open(run, machine)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        yield server


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new one, and credentials for it."""
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    name = f"b-{uuid.uuid4().hex}"
    s3_server.client().create_bucket(Bucket=name)
    return name


def open_s3(
    server: S3Server, bucket: str, local: Path, *, run: str = "run", timeout_s: float = 20.0
) -> S3Store:
    found = Bucket(bucket, endpoint_url=server.url)
    return S3Store(found, f"team/{run}", run, local, timeout_s=timeout_s)


@pytest.fixture(params=["folder", "s3"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
    if request.param == "folder":
        return _folder(tmp_path)
    server: S3Server = request.getfixturevalue("s3_server")
    return _s3(server, request.getfixturevalue("bucket"), tmp_path)


def _folder(folder: Path) -> Driver:
    def only(name: str) -> Path:
        [found] = folder.rglob(name)
        return found

    return Driver(
        open=lambda run, machine: FolderStore(folder / run, run),
        damage=lambda name, change: only(name).write_bytes(change(only(name).read_bytes())),
        remove=lambda name: only(name).unlink(),
        copy_run=lambda one, other: (folder / one).rename(folder / other),
    )


def _s3(server: S3Server, bucket: str, folder: Path) -> Driver:
    client = server.client()

    def remove(name: str) -> None:
        [key] = [k for k in server.keys(bucket) if k.endswith(name)]
        client.delete_object(Bucket=bucket, Key=key)

    def copy_run(one: str, other: str) -> None:
        for key in server.keys(bucket):
            client.copy_object(
                Bucket=bucket,
                Key=key.replace(f"team/{one}/", f"team/{other}/"),
                CopySource={"Bucket": bucket, "Key": key},
            )

    return Driver(
        open=lambda run, machine: open_s3(server, bucket, folder / machine, run=run),
        damage=lambda name, change: server.damage(bucket, name, change),
        remove=remove,
        copy_run=copy_run,
    )
