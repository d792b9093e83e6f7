"""`rlsd doctor`: what this machine has and lacks, in words."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from rlsd.config import VerifierSection
from rlsd.errors import StreamError
from rlsd.finding import Finding
from rlsd.local.processes import service_command
from rlsd.streams.embedded import find_server


def doctor_command() -> None:
    """Print the findings; exit code 1 when something needed is missing."""
    print_findings(list(examine()), Console(highlight=False, markup=False))


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """A line each below their groups, a remedy below what lacks; exit code 1 as above."""
    width = min(max(len(f.what) for f in findings), _MOST_WHAT) + 2
    for group in dict.fromkeys(f.group for f in findings):
        if group:
            console.print(f"\n{group}", style="bold")
        for finding in findings:
            if finding.group == group:
                _print(finding, width, console)
    missing = sum(1 for f in findings if f.remedy and f.is_needed)
    if missing:
        things = "1 needed thing is" if missing == 1 else f"{missing} needed things are"
        console.print(f"\n{things} missing")
        raise SystemExit(1)
    console.print("\nnothing that is needed is missing")


def _print(finding: Finding, width: int, console: Console) -> None:
    """The remedy has the whole width, since it may be a command."""
    if not finding.remedy:
        mark, style = "ok", "green"
    elif finding.is_needed:
        mark, style = "MISSING", "bold red"
    else:
        mark, style = "-", "yellow"
    hanging = " " * (_MARK + width)
    first, *further = textwrap.wrap(
        f"{finding.what:<{width - 1}} {finding.state}",
        width=max(console.width - _MARK, 40),
        subsequent_indent=" " * width,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    console.print(Text.assemble((f"{mark:<{_MARK}}", style), first))
    for line in further:
        console.print(f"{hanging}{line.strip()}")
    remedy = textwrap.wrap(
        finding.remedy, width=max(console.width - _MARK - 2, 40), break_on_hyphens=False
    )
    for number, line in enumerate(remedy):
        console.print(f"{'':<{_MARK}}{'  ' if number else '→ '}{line}")


def examine() -> Iterator[Finding]:
    """Look at everything that local mode uses."""
    yield Finding(what="Python", state=sys.version.split()[0])
    cores = os.cpu_count() or 1
    yield Finding(
        what="CPU cores",
        state=str(cores),
        remedy="" if cores >= 2 else "two or more let generation and learning overlap",
        is_needed=False,
    )
    for module, extra in _NEEDED.items():
        yield _module(module, extra, is_needed=True)
    for module, extra in _OPTIONAL.items():
        yield _module(module, extra, is_needed=False)
    yield _redis()
    yield from _sandbox()
    yield _gpu()
    yield _disk()


_SELF_TEST_S = 120.0
_MARK = len("MISSING  ")
_MOST_WHAT = 30
_NEEDED = {
    "torch": "local",
    "transformers": "local",
    "fastapi": "verifier",
    "math_verify": "verifier",
}
_OPTIONAL = {"vllm": "vllm", "sglang": "sglang", "ray": "ray", "datasets": "datasets"}


def _module(module: str, extra: str, *, is_needed: bool) -> Finding:
    if importlib.util.find_spec(module):
        return Finding(what=module, state="installed")
    return Finding(
        what=module,
        state="not installed",
        remedy=f"pip install 'rlsd[{extra}]'",
        is_needed=is_needed,
    )


def _redis() -> Finding:
    if url := os.environ.get("RLSD_REDIS_URL"):
        return Finding(what="Redis", state=f"RLSD_REDIS_URL is set ({url.rpartition('@')[2]})")
    try:
        return Finding(what="Redis", state=f"private server: {find_server().name}")
    except StreamError as error:
        return Finding(what="Redis", state="no server found", remedy=str(error))


def _sandbox() -> Iterator[Finding]:
    """What confines the programs that a policy writes, as the verifier itself proves it."""
    command = [*service_command("verifier"), "--self-test"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SELF_TEST_S)
    except subprocess.TimeoutExpired:
        remedy = f"`{' '.join(command)}` does not end within {_SELF_TEST_S:.0f} s; run it by hand"
        yield Finding(what="sandbox", state="not known", remedy=remedy, is_needed=False)
        return
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        yield Finding(what="sandbox", state="none: no code", remedy=last, is_needed=False)
        return
    found = json.loads(done.stdout)
    state = f"{found['tier']}, {found['memory']}"
    remedy = ""
    if found["passed_over"]:
        accepted = VerifierSection().min_isolation >= found["tier"]
        accept = "" if accepted else f'verifier.min_isolation = "{found["tier"]}" accepts it; '
        remedy = f"{accept}languages beside Python need T1 ({found['passed_over']})"
    yield Finding(what="sandbox", state=state, remedy=remedy, is_needed=False)
    if remedy:
        return
    missing = {language: programs for language, programs in found["missing"].items() if programs}
    present = ["python", *(language for language in found["missing"] if language not in missing)]
    lacks = (f"{', '.join(programs)} for {language}" for language, programs in missing.items())
    remedy = f"install into /usr/bin: {'; '.join(lacks)}" if missing else ""
    yield Finding(what="languages", state=", ".join(present), remedy=remedy, is_needed=False)


def _gpu() -> Finding:
    if shutil.which("nvidia-smi"):
        return Finding(what="GPU", state="NVIDIA driver found")
    return Finding(
        what="GPU", state="none", remedy="small models train on the CPU", is_needed=False
    )


def _disk() -> Finding:
    free_gib = shutil.disk_usage(".").free / 2**30
    return Finding(
        what="disk",
        state=f"{free_gib:.0f} GiB free here",
        remedy="" if free_gib > 2 else "a run keeps weights, checkpoints and its batch log here",
    )
