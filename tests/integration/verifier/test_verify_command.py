import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

RIGHT = {"kind": "exact", "response": "4", "reference": "4"}


def _command(*arguments):
    return [sys.executable, "-m", "rlsd", "verify", *map(str, arguments)]


def _run(*arguments):
    return subprocess.run(_command(*arguments), capture_output=True, timeout=100, check=False)


def _write(path, items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return path


def _nested(depth):
    return {"a": _nested(depth - 1)} if depth else 1


def _read(output):
    return [json.loads(line) for line in output.splitlines()]


def test_every_line_has_a_verdict_in_the_order_of_the_file(tmp_path):
    items = [
        {"id": "right", "kind": "math", "response": r"so \boxed{2x}", "reference": "x+x"},
        {**RIGHT, "response": "5"},
        {"id": 7, "kind": "choice", "response": "(B)", "reference": "B", "params": {}},
        {"id": "unknown", "kind": "sorcery", "response": "x"},
        {"id": "no reference", "kind": "math", "response": "3"},
        {**RIGHT, "id": "a number", "reference": 4, "params": None},
        {**RIGHT, "id": "wrong params", "params": {"afer": "#"}},
        {"id": "NUL", "kind": "exact", "response": "a\0b", "reference": "a\0b"},
        {"id": "half", "kind": "exact", "response": "\ud83d", "reference": "x"},
        {"id": "half reference", "kind": "exact", "response": "x", "reference": "\ud83d"},
        {"id": "half params", "kind": "exact", "response": "x", "params": {"after": "\ud83d"}},
        {"id": "huge number", "kind": "exact", "response": "x", "params": {"after": 10**400}},
        {"id": "deep params", "kind": "exact", "response": "x", "params": {"after": _nested(60)}},
        {"id": "no number", "kind": "exact", "response": "x", "params": {"after": float("nan")}},
        {"id": "long", "kind": "exact", "response": "x" * 5_000_000, "reference": "y"},
        {"id": "long math", "kind": "math", "response": "x" * 5_000_000, "reference": "y"},
    ]
    result = _run(_write(tmp_path / "in.jsonl", items))
    assert (result.returncode, result.stderr) == (0, b"")
    lines = _read(result.stdout)
    assert [(line["id"], line["outcome"], line["passed"]) for line in lines] == [
        ("right", "scored", True),
        (2, "scored", False),
        (7, "scored", True),
        ("unknown", "error", None),
        ("no reference", "error", None),
        ("a number", "scored", True),
        ("wrong params", "error", None),
        ("NUL", "scored", True),
        ("half", "scored", False),
        ("half reference", "error", None),
        ("half params", "error", None),
        ("huge number", "error", None),
        ("deep params", "error", None),
        ("no number", "error", None),
        ("long", "scored", False),
        ("long math", "scored", False),
    ]
    assert all(
        list(line) == ["id", "outcome", "score", "passed", "detail", "duration_s"] for line in lines
    )
    assert all((line["score"] is None) is (line["passed"] is None) for line in lines)
    assert "unknown verifier kind 'sorcery'" in lines[3]["detail"]


def test_the_verdicts_go_to_a_file_and_the_counts_to_people(tmp_path):
    source = _write(tmp_path / "in.jsonl", [RIGHT, RIGHT, {**RIGHT, "kind": "[red]\x1b[1m"}])
    out = tmp_path / "out.jsonl"
    result = _run(source, "--out", out, "--set", "verifier.timeout_s=2.5")
    assert (result.returncode, result.stdout) == (0, b"")
    assert [line["passed"] for line in _read(out.read_text())] == [True, True, None]
    summary = result.stderr.decode()
    assert "3 verdicts in" in summary
    assert "[red]?[1m" in summary
    assert "\x1b" not in summary


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"kind": "exact"}\n', ":1: lacks response; add it"),
        (b'{"id": 1}\n', ":1: lacks kind and response; add it"),
        (b'\n{"kind": 3, "response": ""}\n', ":2: kind is '3'; give the name of a kind"),
        (b'{"kind": "a", "response": "", "params": []}', ":1: params is '[]'; give an object"),
        (b"[]\n", ":1: not a JSON object; write one object a line"),
        (b"{\n", ":1: not JSON"),
        (b'{"kind": "exact", "response": "\xff"}\n', ":1: not UTF-8 (byte 31); save it as UTF-8"),
        (b"[" * 100_000, ":1: nested too deep to be read"),
    ],
)
def test_a_wrong_line_is_named_before_anything_is_checked(tmp_path, content, message):
    path = tmp_path / "in.jsonl"
    path.write_bytes(content)
    result = _run(path)
    assert (result.returncode, result.stdout) == (1, b"")
    (line,) = result.stderr.decode().splitlines()
    assert line.startswith(f"rlsd: {path}{message}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.jsonl"], "missing.jsonl: cannot be read (No such file or directory)"),
        (["in.jsonl", "--out", "."], "--out .: cannot be written (Is a directory)"),
        (["in.jsonl", "--out", "in.jsonl"], "--out in.jsonl: is the file that is read"),
        (["in.jsonl", "--set", "verifier.timout_s=1"], "did you mean 'timeout_s'?"),
        (["in.jsonl", "--set", "run.id=x"], "without --config only verifier.KEY=VALUE"),
    ],
)
def test_wrong_usage_is_one_line_at_once(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    _write(Path("in.jsonl"), [RIGHT])
    started = time.monotonic()
    result = _run(*arguments)
    assert time.monotonic() - started < 20
    assert (result.returncode, result.stdout) == (1, b"")
    (line,) = result.stderr.decode().splitlines()
    assert message in line


def test_a_reader_that_has_enough_is_no_error(tmp_path):
    path = _write(tmp_path / "in.jsonl", [RIGHT] * 2000)
    with subprocess.Popen(
        _command(path), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert json.loads(process.stdout.readline())["passed"] is True
        process.stdout.close()
        assert process.stderr.read() == b""


@pytest.mark.slow
def test_a_service_that_is_killed_in_the_middle_costs_no_line(tmp_path):
    items = [{**RIGHT, "id": n, "response": str(n), "reference": str(n)} for n in range(2000)]
    source, out = _write(tmp_path / "in.jsonl", items), tmp_path / "out.jsonl"
    with subprocess.Popen(_command(source, "--out", out), stderr=subprocess.PIPE) as process:
        for after in (100, 800):
            while not out.exists() or out.read_bytes().count(b"\n") < after:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.005)
            os.kill(_service_of(process.pid), signal.SIGKILL)
        process.communicate(timeout=100)
    lines = _read(out.read_text())
    assert process.returncode == 0
    assert [line["id"] for line in lines] == list(range(2000))
    assert all(line["passed"] is True for line in lines)


def _service_of(pid):
    while True:
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parent = stat.read_text().rpartition(")")[2].split()[1]
                is_service = b"services.verifier" in (stat.parent / "cmdline").read_bytes()
                if parent == str(pid) and is_service:
                    return int(stat.parent.name)
        time.sleep(0.005)
