"""Compile a program inside the sandbox and pack what came of it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from services.verifier.checks.code.boxed.program import read_payload

starts_programs = True
_FOLDER = Path("/tmp/program")


def run(payload: int, channels: list[int]) -> None:
    """Write the source, run the compiler, put the folder into the artifact."""
    order = read_payload(payload)
    _FOLDER.mkdir()
    os.chdir(_FOLDER)
    Path(order["file"]).write_text(order["source"], errors="replace")
    if order["command"]:
        environment = {**os.environ, "GOCACHE": "/tmp/cache", "GOFLAGS": "-mod=mod"}
        done = subprocess.run(order["command"], stdin=subprocess.DEVNULL, env=environment)
        if done.returncode:
            sys.stderr.flush()
            os._exit(1)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(".", arcname=".")
    data = memoryview(packed.getvalue())
    while data:
        data = data[os.write(channels[0], data) :]
    os._exit(0)
