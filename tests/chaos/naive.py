"""The control: the usual protocol, in small processes over the same Redis, under the same killer.

Each part is what a careful first version does. A dispatcher keeps a cursor file; a worker adds to
the next stream and then acknowledges, and takes over what has been pending too long; a learner
pops a batch and writes a checkpoint every few steps, with fsync and rename. Its Redis even keeps
its data, with an fsync for each write, while the real system's comes back empty. It still loses
and repeats, because between any two of these actions a process can die.

    python -m tests.chaos.naive ROLE NAME FOLDER PORT TOTAL
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

BATCH = 16
CHECKPOINT_EVERY = 5
_MOST_WAITING = 256
_ABANDONED_MS = 500
_CURSOR_EVERY = 25
_IDLE_S = 1.0
_GROUP = "workers"


def main() -> None:
    """Run one role until killed."""
    role, name, folder, port, total = sys.argv[1:]
    client = redis.Redis(port=int(port), decode_responses=True, socket_timeout=2.0)
    part = {
        "dispatcher": lambda: dispatch(client, Path(folder), int(total)),
        "rollout": lambda: work(client, name, "prompts", "rolled"),
        "verifier": lambda: work(client, name, "rolled", "scored"),
        "learner": lambda: learn(client, Path(folder)),
    }
    part[role]()


def dispatch(client: Any, folder: Path, total: int) -> None:
    """Send the numbers 0 … total-1, from where the cursor file stands."""
    sent = read(folder / "cursor.json", 0)
    while sent < total:
        if patiently(lambda: client.xlen("prompts")) > _MOST_WAITING:
            time.sleep(0.02)
            continue
        patiently(lambda number=sent: client.xadd("prompts", {"id": number}))
        sent += 1
        if sent % _CURSOR_EVERY == 0 or sent == total:
            write(folder / "cursor.json", sent)
    while True:
        time.sleep(1)


def work(client: Any, name: str, source: str, target: str) -> None:
    """Move entries on: add to the next stream, then acknowledge."""
    while True:
        for entry, fields in patiently(lambda: take(client, name, source)):
            time.sleep(0.001)
            patiently(lambda f=fields: client.xadd(target, f))
            patiently(lambda e=entry: client.xack(source, _GROUP, e))
            patiently(lambda e=entry: client.xdel(source, e))


def take(client: Any, name: str, source: str) -> list[tuple[str, dict[str, str]]]:
    """Entries that another worker has left pending, else new ones."""
    try:
        _, abandoned, *_ = client.xautoclaim(source, _GROUP, name, _ABANDONED_MS, count=16)
        if abandoned:
            return [(entry, fields) for entry, fields in abandoned if fields]
        answer = client.xreadgroup(_GROUP, name, {source: ">"}, count=8, block=100)
    except redis.ResponseError as error:
        if "NOGROUP" not in str(error):
            raise
        client.xgroup_create(source, _GROUP, id="0", mkstream=True)
        return []
    return answer[0][1] if answer else []


def learn(client: Any, folder: Path) -> None:
    """Pop a batch, train on it; a checkpoint every few batches, and when there is no more."""
    trained: list[str] = read(folder / "checkpoint.json", [])
    saved, idle_since = len(trained), time.monotonic()
    while True:
        batch = patiently(lambda: client.xrange("scored", count=BATCH))
        if len(batch) == BATCH:
            patiently(lambda b=batch: client.xdel("scored", *(entry for entry, _ in b)))
            time.sleep(0.005)
            trained += [fields["id"] for _, fields in batch]
            idle_since = time.monotonic()
        else:
            time.sleep(0.02)
        is_due = len(trained) - saved >= BATCH * CHECKPOINT_EVERY
        if is_due or (len(trained) > saved and time.monotonic() - idle_since > _IDLE_S):
            write(folder / "checkpoint.json", trained)
            saved = len(trained)


def patiently(call: Callable[[], Any]) -> Any:
    """Repeat a command until Redis answers."""
    while True:
        try:
            return call()
        except (redis.ConnectionError, redis.TimeoutError):
            time.sleep(0.02)


def read(path: Path, default: Any) -> Any:
    """What was written last."""
    return json.loads(path.read_text()) if path.exists() else default


def write(path: Path, value: Any) -> None:
    """Replace a file durably."""
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    with aside.open("w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


if __name__ == "__main__":
    main()
