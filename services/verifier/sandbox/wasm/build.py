"""`python -m services.verifier.sandbox.wasm.build JOB…`: build the component if it is not there."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from wasmtime.component import Component

from services.verifier.sandbox.wasm.component import (
    COMPONENTIZE,
    PACKAGES,
    component_path,
    sources,
)
from services.verifier.sandbox.wasm.engine import make_engine

_APP: Final = """
from services.verifier.sandbox.wasm.guest import library
library.load()
from services.verifier.sandbox.wasm.guest.entry import WitWorld, prepare
prepare({jobs!r})
"""
_COMMAND: Final = "import componentize_py; componentize_py.script()"
_WORLD: Final = "services/verifier/sandbox/wasm/guest/box.wit"
_TIMEOUT_S = 240.0
_NUM_KEPT = 4
"""Components of other versions that stay; each has some 50 MB."""


def build(jobs: Sequence[str], *, timeout_s: float = _TIMEOUT_S) -> Path:
    """The component, complete at its place or not there at all.

    Raises:
        OSError: the folder cannot be written.
        RuntimeError: componentize-py is not there, another version, it fails, or takes longer.
    """
    path = component_path(jobs)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _alone(path.parent):
        if not path.exists():
            _require()
            with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
                compiled = _compiled(_componentized(Path(scratch), jobs, timeout_s=timeout_s))
                made = Path(scratch) / path.name
                made.write_bytes(compiled)
                os.replace(made, path)
            _forget_the_oldest(path)
    return path


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One build at a time: it is heavy, and the second finds what the first has made."""
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _require() -> None:
    try:
        found = importlib.metadata.version("componentize-py")
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found != COMPONENTIZE:
        raise RuntimeError(
            f"needs componentize-py {COMPONENTIZE}, here is {found}; install rlsd[wasm]"
        )


def _componentized(scratch: Path, jobs: Sequence[str], *, timeout_s: float) -> Path:
    """The component as WebAssembly."""
    tree = scratch / "tree"
    for name, source in sources(jobs):
        target = tree / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    for name in PACKAGES:
        _copy_installed(name, tree)
    (tree / "app.py").write_text(_APP.format(jobs=list(jobs)))
    out = scratch / "guest.wasm"
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-c", _COMMAND, "-q", "-d", str(tree / _WORLD), "-w", "box"),
                *("componentize", "app", "-p", str(tree), "-o", str(out)),
            ],
            cwd=tree,
            env={"PATH": os.defpath, "HOME": str(scratch)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"componentize-py has not ended within {timeout_s:.0f} s") from None
    if done.returncode:
        raise RuntimeError(done.stdout.decode(errors="replace").strip()[-2000:])
    return out


def _copy_installed(name: str, tree: Path) -> None:
    """A pure Python module or package of this environment; nothing when it is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        return
    if spec.submodule_search_locations:
        ignore = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(Path(spec.origin).parent, tree / name, ignore=ignore)
    else:
        shutil.copyfile(spec.origin, tree / f"{name}.py")


def _compiled(path: Path) -> bytes:
    return bytes(Component.from_file(make_engine(), str(path)).serialize())


def _forget_the_oldest(newest: Path) -> None:
    others = sorted(newest.parent.glob("guest-*.cwasm"), key=lambda path: path.stat().st_mtime)
    for path in [path for path in others if path != newest][:-_NUM_KEPT]:
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.stdout.write(f"{build(sys.argv[1:])}\n")
