"""Both drivers under one interface: a store, its readers, and ways to damage what it holds."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from s3_server import CREDENTIALS, Faults, S3Server

from rlsd.weights import FolderStore, WeightStore
from rlsd.weights.bucket import Bucket
from rlsd.weights.s3 import S3Store

BUCKET = "weights"


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


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A bucket on a server that fails as it is told, and a prefix of the test's own."""

    server: S3Server
    bucket: Bucket
    prefix: str

    def store(self, local: Path, *, run: str = "run", timeout_s: float = 20.0) -> S3Store:
        return S3Store(self.bucket, f"{self.prefix}/{run}", run, local, timeout_s=timeout_s)

    def all_keys(self) -> list[str]:
        return self.server.keys(BUCKET, self.prefix)

    def damage(self, name: str, change: Callable[[bytes], bytes]) -> None:
        self.server.damage(BUCKET, self.prefix, name, change)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    with S3Server() as server:
        server.client().create_bucket(Bucket=BUCKET)
        yield server


@pytest.fixture(scope="session")
def bucket(s3_server: S3Server) -> Bucket:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        return Bucket(BUCKET, endpoint_url=s3_server.url)


@pytest.fixture
def remote(s3_server: S3Server, bucket: Bucket) -> Iterator[Remote]:
    yield Remote(server=s3_server, bucket=bucket, prefix=uuid.uuid4().hex)
    s3_server.faults = Faults()


@pytest.fixture(params=["folder", "s3"])
def driver(request: pytest.FixtureRequest, tmp_path: Path) -> Driver:
    if request.param == "folder":
        return _folder(tmp_path)
    return _s3(request.getfixturevalue("remote"), tmp_path)


def _folder(folder: Path) -> Driver:
    def only(name: str) -> Path:
        [found] = folder.rglob(name)
        return found

    return Driver(
        open=lambda run, _: FolderStore(folder / run, run),
        damage=lambda name, change: only(name).write_bytes(change(only(name).read_bytes())),
        remove=lambda name: only(name).unlink(),
        copy_run=lambda one, other: (folder / one).rename(folder / other),
    )


def _s3(remote: Remote, folder: Path) -> Driver:
    client = remote.server.client()

    def remove(name: str) -> None:
        [key] = [k for k in remote.all_keys() if k.endswith(name)]
        client.delete_object(Bucket=BUCKET, Key=key)

    def copy_run(one: str, other: str) -> None:
        for key in remote.all_keys():
            client.copy_object(
                Bucket=BUCKET,
                Key=key.replace(f"/{one}/", f"/{other}/"),
                CopySource={"Bucket": BUCKET, "Key": key},
            )

    return Driver(
        open=lambda run, machine: remote.store(folder / machine, run=run),
        damage=remote.damage,
        remove=remove,
        copy_run=copy_run,
    )
