"""The component of tier 3 on this machine: found by its key, or built, which takes some 15 s.

It holds CPython, the standard library, the jobs, and pytest where that is installed, compiled for
this architecture. The key is a checksum of all that goes in.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from services.verifier.sandbox.ending import SandboxError

FOLDER: Final = "RLSD_WASM_DIR"
"""Environment variable: where components are kept; else in the user's cache."""
COMPONENTIZE: Final = "0.25.1"
"""The version of componentize-py that builds them: it brings the interpreter."""
PACKAGES: Final = ("pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging", "pygments")
"""What tests may import beside the standard library."""
_BUILD: Final = "services.verifier.sandbox.wasm.build"
_BUILD_TIMEOUT_S = 300.0
_KEPT_ENVIRONMENT = ("PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "HOME", "PATH", FOLDER)
_ROOT: Final = Path(__file__).resolve().parents[4]
_WRITABLE_BY_OTHERS: Final = 0o022

log = logging.getLogger(__name__)


async def find_component(jobs: Sequence[str]) -> Path:
    """The component with these jobs; built when it is not there, and that is logged.

    Raises:
        SandboxError: the extra `wasm` is not installed, or the component cannot be had.
    """
    if importlib.util.find_spec("wasmtime") is None:
        raise SandboxError("wasmtime is not installed; install rlsd[wasm]")
    path = component_path(jobs)
    if not path.exists():
        log.warning("component is built", extra={"path": str(path)})
        await _built(jobs)
    refuse_strangers(path)
    return path


def component_path(jobs: Sequence[str]) -> Path:
    """Where the component with these jobs is, or has to be."""
    return folder() / f"guest-{_key(jobs)}.cwasm"


def folder() -> Path:
    """Of components."""
    if named := os.environ.get(FOLDER):
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "rlsd" / "wasm"


def refuse_strangers(path: Path) -> None:
    """Compiled code is trusted as a program is: raises SandboxError when others may write it."""
    try:
        for part in (path, path.parent):
            found = part.stat()
            if found.st_uid not in (0, os.geteuid()) or found.st_mode & _WRITABLE_BY_OTHERS:
                raise SandboxError(
                    f"{part} can be written by others; chmod go-w it, or set {FOLDER}"
                )
    except OSError as cause:
        raise SandboxError(f"{path}: {cause.strerror}") from cause


def sources(jobs: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """What is copied into the component: each file's place in it, and the file."""
    here = "services/verifier/sandbox"
    wanted = {f"{here}/paths.py", f"{here}/wasm/probe.py"}
    wanted |= {str(p.relative_to(_ROOT)) for p in (_ROOT / here / "wasm/guest").iterdir()}
    for job in jobs:
        package = _ROOT.joinpath(*job.split(".")[:-1])
        if "wasm" not in package.parts:
            wanted |= {str(p.relative_to(_ROOT)) for p in package.glob("*.py")}
    for name in sorted(wanted):
        if name.endswith((".py", ".wit")):
            yield name, _ROOT / name


def _key(jobs: Sequence[str]) -> str:
    parts = [platform.machine(), COMPONENTIZE, *map(_version, ("wasmtime", "pytest")), *jobs]
    digest = hashlib.sha256(json.dumps(parts).encode())
    for name, path in (*sources(jobs), *_own()):
        digest.update(json.dumps([name, path.read_text()]).encode())
    return digest.hexdigest()[:16]


def _own() -> list[tuple[str, Path]]:
    """How it is compiled."""
    return [(name, Path(__file__).with_name(name)) for name in ("build.py", "engine.py")]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


async def _built(jobs: Sequence[str]) -> None:
    environment = {k: os.environ[k] for k in _KEPT_ENVIRONMENT if k in os.environ}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", _BUILD, *jobs),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    try:
        async with asyncio.timeout(_BUILD_TIMEOUT_S):
            _, errors = await process.communicate()
    except TimeoutError:
        raise SandboxError(f"its component is not built within {_BUILD_TIMEOUT_S:.0f} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        last = errors.decode(errors="replace").strip().rpartition("\n")[2]
        raise SandboxError(f"its component cannot be built: {last[-300:]}")
