"""What publishing and fetching a version costs: a folder, an object store, and the bare steps.

PYTHONPATH=.:tests python benchmarks/weight_store.py [--out FILE]

One file of random bytes is a version. The object store is moto in a process of its own, on
loopback: it has no network and no disk, so what is compared is what our side adds to the SDK.

| bare | steps |
|---|---|
| publish, folder | write the file, its sha256, fsync |
| publish, s3 | write the file, its sha256, boto3's upload_file |
| fetch, folder | sha256 |
| fetch, s3 | boto3's download_file, sha256 |
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
from boto3.s3.transfer import TransferConfig
from s3_server import CREDENTIALS, S3Server

from rlsd.weights import FolderStore, Probe
from rlsd.weights.bucket import Bucket
from rlsd.weights.manifest import sha256_of
from rlsd.weights.s3 import S3Store

BUCKET = "weights"
NAME = "model.safetensors"
PROBE = Probe(token_ids=(1, 2), logprobs=(-0.5,))
MIB = 2**20


def main() -> None:
    """Measure, in turn, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mib", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    content = os.urandom(arguments.mib * MIB)
    os.environ.update(CREDENTIALS)
    seconds: dict[str, list[float]] = {}
    with _server() as url, tempfile.TemporaryDirectory() as folder:
        client = boto3.client("s3", endpoint_url=url)
        client.create_bucket(Bucket=BUCKET)
        for repeat in range(arguments.repeats):
            place = Path(folder) / str(repeat)
            place.mkdir()
            for what, took in _once(place, content, client, url).items():
                seconds.setdefault(what, []).append(took)
            if arguments.out:
                result = json.dumps(_result(seconds, arguments.mib), indent=1)
                arguments.out.write_text(result + "\n")
            shutil.rmtree(place)
            for entry in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
                client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    print(json.dumps(_result(seconds, arguments.mib), indent=1))


def _once(place: Path, content: bytes, client: Any, url: str) -> dict[str, float]:
    folder = FolderStore(place / "folder", "run")
    bucket = Bucket(BUCKET, endpoint_url=url)
    learner = S3Store(bucket, "run", "run", place / "learner", timeout_s=300)
    reader = S3Store(bucket, "run", "run", place / "reader", timeout_s=300)
    parts = TransferConfig(
        multipart_threshold=32 * MIB, multipart_chunksize=16 * MIB, max_concurrency=8
    )
    bare = place / NAME

    def save(target: Path) -> None:
        (target / NAME).write_bytes(content)

    def write() -> None:
        bare.write_bytes(content)
        sha256_of(bare)

    def write_synced() -> None:
        write()
        with bare.open("rb") as file:
            os.fsync(file.fileno())

    def upload() -> None:
        write()
        client.upload_file(str(bare), BUCKET, "bare", Config=parts)

    def download() -> None:
        client.download_file(BUCKET, "bare", str(place / "down"), Config=parts)
        sha256_of(place / "down")

    found = {
        "folder publish": _timed(lambda: folder.publish(1, step=1, probe=PROBE, save=save)),
        "folder publish, bare": _timed(write_synced),
        "folder fetch": _timed(lambda: folder.fetch(1)),
        "folder fetch, bare": _timed(lambda: sha256_of(bare)),
        "s3 publish": _timed(lambda: learner.publish(1, step=1, probe=PROBE, save=save)),
        "s3 publish, bare": _timed(upload),
        "s3 verify (at a learner's restart)": _timed(lambda: learner.verify(1)),
    }
    started = time.monotonic()
    fetched = reader.fetch(1)
    found["s3 fetch"] = time.monotonic() - started
    assert fetched.num_bytes == len(content)
    found["s3 fetch: fetch_s"], found["s3 fetch: verify_s"] = fetched.fetch_s, fetched.verify_s
    found["s3 fetch, bare"] = _timed(download)
    found["s3 fetch, here already"] = _timed(lambda: reader.fetch(1))
    return found


def _timed(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def _result(seconds: dict[str, list[float]], mib: int) -> dict[str, Any]:
    """Medians, their range, and ours over the bare steps in the same repeat."""
    ratios = {
        what: [a / b for a, b in zip(seconds[what], seconds[f"{what}, bare"], strict=True)]
        for what in ("folder publish", "folder fetch", "s3 publish", "s3 fetch")
    }
    return {
        "mib": mib,
        "repeats": len(seconds["s3 fetch"]),
        "load average": round(os.getloadavg()[0], 1),
        "seconds": {what: _spread(found) for what, found in seconds.items()},
        "over the bare steps": {what: _spread(found) for what, found in ratios.items()},
    }


def _spread(values: list[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "least": round(min(values), 3),
        "most": round(max(values), 3),
    }


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """In a process of its own: its work is not ours."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    yield here.recv()
    process.kill()
    process.join()


def _serve(pipe: Any) -> None:
    import logging

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with S3Server() as server:
        pipe.send(server.url)
        time.sleep(3600)


if __name__ == "__main__":
    main()
