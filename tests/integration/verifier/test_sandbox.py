"""The box itself, with the real kernel: what it stops, how runs end, and what it is when broken."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from rlsd.errors import IsolationError
from services.verifier.checks.code.runs import PROGRAM
from services.verifier.sandbox.choice import open_strongest
from services.verifier.sandbox.client import Sandbox, opened
from services.verifier.sandbox.ending import End, Limits, SandboxError
from services.verifier.sandbox.files import RunFiles
from services.verifier.sandbox.selftest import PROBE, holes
from services.verifier.sandbox.tier import Tier

LIMITS = Limits(wall_s=5.0, memory_bytes=1 << 30, output_bytes=1 << 22)
KERNEL_TIERS = (Tier.T1, Tier.T2)
TIERS = pytest.mark.parametrize("tier", KERNEL_TIERS)


async def _run(sandbox, source, text="", limits=LIMITS):
    with RunFiles({"source": source}, text.encode()) as files:
        ended = await sandbox.run(PROGRAM, files.descriptors, limits)
        return ended, files.output(1 << 24).decode(errors="replace"), files.errors()


def _box(tier, *jobs):
    return opened(Sandbox(tier, (PROGRAM, PROBE, *jobs), max_runs=4))


def _descendants(pid):
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            for child in (task / "children").read_text().split():
                found += _descendants(int(child))
        except OSError:
            continue
    return found


def _wait_for_descendants(pid, number):
    while len(pids := _descendants(pid)) < number:
        time.sleep(0.01)
    return pids


def _wait_until_asleep(pid):
    """Its program runs: a process that is not confined yet is no run."""
    while "nanosleep" not in Path(f"/proc/{pid}/wchan").read_text():
        time.sleep(0.01)


@TIERS
async def test_a_program_reads_prints_and_leaves_with_its_code(tier):
    async with _box(tier) as sandbox:
        ended, output, errors = await _run(sandbox, "print(input()[::-1])\nexit(3)", "abc\n")
        assert (ended.end, ended.exit_code, output, errors) == (End.EXITED, 3, "cba\n", "")
        ended, output, errors = await _run(sandbox, "print('a')\n1/0")
        assert (ended.exit_code, output) == (1, "a\n")
        assert errors.endswith("ZeroDivisionError: division by zero\n")
        ended, *_ = await _run(sandbox, "import ctypes\nctypes.string_at(0)")
        assert (ended.end, ended.exit_code) == (End.SIGNAL, signal.SIGSEGV)


@TIERS
async def test_every_limit_ends_a_run_from_outside(tier):
    short = Limits(wall_s=0.3, memory_bytes=1 << 29, output_bytes=1 << 20)
    endless = [
        "while True: pass",
        "import time\ntime.sleep(99)",
        "import signal\nfor n in range(1, 32):\n  try: signal.signal(n, signal.SIG_IGN)\n"
        "  except (OSError, ValueError): pass\nwhile True: pass",
        "import os, signal, time\ntry: os.kill(os.getpid(), signal.SIGSTOP)\n"
        "except OSError: pass\ntime.sleep(99)",
    ]
    async with _box(tier) as sandbox:
        for source in endless:
            started = time.monotonic()
            ended, *_ = await _run(sandbox, source, limits=short)
            assert ended.end is End.TIME
            assert time.monotonic() - started < 3
        ended, output, _ = await _run(sandbox, "while True: print('x' * 9999)", limits=short)
        assert len(output) == short.output_bytes
        ended, _, errors = await _run(sandbox, "x = bytearray(1 << 30)", limits=short)
        assert errors.endswith("MemoryError\n")
        assert len(_descendants(sandbox.pid)) == (2 if tier is Tier.T1 else 1)


@TIERS
async def test_a_megabyte_is_no_flood(tier):
    async with _box(tier) as sandbox:
        ended, output, _ = await _run(sandbox, "print('x' * 1_000_000)")
        assert (ended.end, len(output)) == (End.EXITED, 1_000_001)


@TIERS
async def test_the_self_test_finds_no_hole(tier):
    async with _box(tier) as sandbox:
        assert await holes(sandbox) == []


BROKEN = {
    "landlock": (
        "confine.landlock.restrict = lambda *_: None",
        {"T1": "a file that Landlock forbids", "T2": "reads a file of the machine"},
    ),
    "seccomp": (
        "confine.filter_system_calls = lambda _: None",
        {"T1": "opens a socket (vsock)", "T2": "opens a socket (inet)"},
    ),
    "limits": (
        "confine._limit = lambda *_, **__: None",
        {"T1": "more memory than its limit", "T2": "more memory than its limit"},
    ),
    "privileges": (
        "confine.drop_capabilities = lambda: None",
        {"T1": "has capabilities", "T2": "has capabilities"},
    ),
    "deadline": (
        "zygote.Zygote._end_the_late = lambda _: None\n"
        "import services.verifier.sandbox.client as client\nclient._GRACE_S = 0.0",
        {"T1": "does not answer", "T2": "does not answer"},
    ),
    "environment": (
        "import os\nos.environ['RLSD_SECRET'] = 'x'",
        {"T1": "RLSD_SECRET", "T2": "RLSD_SECRET"},
    ),
    "scratch": (
        "real = confine.mount\n"
        "confine.mount = lambda s, t, *a: None if t == '/tmp' else real(s, t, *a)",
        {"T1": "a plain program does not run"},
    ),
    "namespaces": (
        "from services.verifier.sandbox import namespaces\n"
        "def refuse(_): raise PermissionError(1, 'no namespaces here')\n"
        "namespaces.unshare = refuse",
        {"T1": "no namespaces here"},
    ),
    "threads": (
        "confine.MAX_PROCESSES = 10_000",
        {"T1": "starts threads without a limit"},
    ),
}


def _break(name, folder, monkeypatch):
    """A job that takes a layer away when the fork server imports it."""
    text = (
        "import sys\nfrom services.verifier.sandbox import confine\n"
        "zygote = sys.modules['__main__']\nstarts_programs = False\n"
    )
    (folder / f"broken_{name}.py").write_text(text + BROKEN[name][0] + "\n")
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    return f"broken_{name}"


@pytest.mark.parametrize(
    ("name", "tier"), [(name, tier) for name, (_, words) in BROKEN.items() for tier in words]
)
async def test_a_box_that_lacks_a_layer_is_found_out(name, tier, tmp_path, monkeypatch):
    monkeypatch.setattr("services.verifier.sandbox.client._GRACE_S", 1.0)
    job = _break(name, tmp_path, monkeypatch)
    words = BROKEN[name][1][tier]
    try:
        async with _box(Tier(tier), job) as sandbox:
            found = "; ".join(await holes(sandbox))
    except SandboxError as error:
        found = str(error)
    assert words in found


async def test_without_namespaces_the_next_tier_is_taken_unless_that_is_too_weak(
    tmp_path, monkeypatch
):
    jobs = (PROGRAM, _break("namespaces", tmp_path, monkeypatch))
    async with open_strongest(jobs, minimum="T2", max_runs=2) as chosen:
        assert chosen.isolation.startswith("T2/")
    with pytest.raises(IsolationError, match="no namespaces here"):
        async with open_strongest(jobs, minimum="T1", max_runs=2):
            pass


async def test_without_seccomp_there_is_no_tier_at_all(tmp_path, monkeypatch):
    jobs = (PROGRAM, _break("seccomp", tmp_path, monkeypatch))
    with pytest.raises(IsolationError, match=r"T1: .*socket.*T2: .*socket") as refusal:
        async with open_strongest(jobs, minimum="T2", max_runs=2):
            pass
    assert refusal.value.exit_code == 78


async def test_runs_share_neither_files_nor_processes():
    async with _box(Tier.T1) as sandbox:
        write = (
            "open('/tmp/left', 'w').write('x')\nimport os\nprint(os.listdir('/tmp'), os.getpid())"
        )
        for _ in range(2):
            ended, output, _ = await _run(sandbox, write)
            assert (ended.exit_code, output) == (0, "['left'] 1\n")


async def test_the_service_and_its_files_are_nowhere_to_be_seen(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    source = f"""
import os
def tries(path):
    try:
        return open(path).read()
    except OSError:
        return ""
for path in ({str(secret)!r}, "/etc/passwd", "/proc/{os.getpid()}/environ", "/proc/self/environ"):
    print(repr(tries(path)))
print(sorted(os.environ))
"""
    for tier in KERNEL_TIERS:
        async with _box(tier) as sandbox:
            _, output, _ = await _run(sandbox, source)
        *read, names = output.splitlines()
        assert read == ["''"] * 4
        assert "REDIS" not in names
        assert "PYTHONPATH" not in names


async def test_a_run_killed_from_outside_says_so():
    async with _box(Tier.T2) as sandbox:
        run = asyncio.ensure_future(_run(sandbox, "import time\ntime.sleep(60)"))
        pids = await asyncio.to_thread(_wait_for_descendants, sandbox.pid, 2)
        await asyncio.to_thread(_wait_until_asleep, pids[-1])
        os.kill(pids[-1], signal.SIGKILL)
        ended, *_ = await run
        assert ended.end is End.OUTSIDE


@TIERS
async def test_a_fork_server_that_dies_takes_its_runs_along_and_is_replaced(tier):
    async with _box(tier) as sandbox:
        run = asyncio.ensure_future(_run(sandbox, "import time\ntime.sleep(60)"))
        num_before = 3 if tier is Tier.T1 else 2
        pids = await asyncio.to_thread(_wait_for_descendants, sandbox.pid, num_before)
        os.kill(sandbox.pid, signal.SIGKILL)
        with pytest.raises(SandboxError):
            await run
        for _ in range(100):
            if not any(map(_is_alive, pids)):
                break
            await asyncio.sleep(0.02)
        assert not any(map(_is_alive, pids))
        _, output, _ = await _run(sandbox, "print(1)")
        assert output == "1\n"


async def test_no_run_is_left_when_the_fork_server_dies_while_it_forks():
    """A child that has not yet asked for its parent's death would never hear of it."""
    for attempt in range(25):
        async with _box(Tier.T2) as sandbox:
            runs = [
                asyncio.ensure_future(_run(sandbox, "import time\ntime.sleep(60)"))
                for _ in range(4)
            ]
            await asyncio.sleep(0.0005 * attempt)
            os.kill(sandbox.pid, signal.SIGKILL)
            await asyncio.wait(runs)
            assert all(run.exception() for run in runs)
    for _ in range(100):
        if not (left := _fork_servers_without_parent()):
            break
        await asyncio.sleep(0.02)
    assert not left


def _fork_servers_without_parent():
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (folder / "cmdline").read_bytes()
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if b"sandbox.zygote\0T2" in command and parent == "1" and state not in "ZX":
                found.append(int(folder.name))
    return found


@TIERS
async def test_a_cancelled_run_is_ended(tier):
    async with _box(tier) as sandbox:
        num_idle = len(_descendants(sandbox.pid))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await _run(sandbox, "import time\ntime.sleep(60)")
        for _ in range(100):
            if len(_descendants(sandbox.pid)) == num_idle:
                break
            await asyncio.sleep(0.02)
        assert len(_descendants(sandbox.pid)) == num_idle


def _is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
