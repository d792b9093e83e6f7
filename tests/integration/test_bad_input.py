"""What a user gets wrong: one line with the remedy, an exit code, and nothing left behind."""

import json
import os
import socket
import subprocess
import sys

import pytest

CONFIG = "examples/chain/rlsd.toml"


def rlsd(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "rlsd", *arguments],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
        env={**os.environ, **environment},
    )


def assert_refused(result, *words, code=1):
    lines = result.stderr.strip().splitlines()
    assert result.returncode == code, result.stdout + result.stderr
    assert len(lines) == 1, result.stderr
    for word in words:
        assert word in lines[0]


def run_with(tmp_path, *overrides, **environment):
    sets = [x for o in (f'run.dir="{tmp_path}"', *overrides) for x in ("--set", o)]
    return rlsd("run", CONFIG, *sets, **environment)


def test_an_unknown_key_is_named(tmp_path):
    result = run_with(tmp_path, "run.stepz=3")
    assert_refused(result, "run.stepz: unknown key", "did you mean 'steps'?")


def test_an_unknown_method_lists_the_known_ones(tmp_path):
    assert_refused(run_with(tmp_path, "method.name=rlsdd"), "method.name", "'grpo'", "'rlsd'")


def test_a_missing_model_is_named(tmp_path):
    result = run_with(tmp_path, "model.path=examples/nothing")
    assert_refused(result, "model.path 'examples/nothing': no such folder")


def test_a_missing_dataset_is_named(tmp_path):
    result = run_with(tmp_path, "data.train=nothing.jsonl")
    assert_refused(result, "nothing.jsonl")


def test_a_broken_dataset_is_named_with_its_line(tmp_path):
    file = tmp_path / "train.jsonl"
    file.write_text('{"prompt": "p", "reference": "r"}\n{"prompt": \n')
    result = run_with(tmp_path, f"data.train={file}")
    assert_refused(result, f"{file}:")


def test_a_redis_that_is_down_is_said_with_its_address(tmp_path):
    result = run_with(tmp_path, RLSD_REDIS_URL="redis://:secret@127.0.0.1:1/0")
    assert_refused(result, "127.0.0.1:1")
    assert "secret" not in result.stderr


def test_a_run_that_exists_is_not_overwritten(tmp_path):
    (tmp_path / "a" / "batches").mkdir(parents=True)
    result = run_with(tmp_path, 'run.id="a"')
    assert_refused(result, "exists; continue it with --resume")


def test_there_is_nothing_to_resume(tmp_path):
    sets = ["--set", f'run.dir="{tmp_path}"']
    assert_refused(rlsd("run", CONFIG, *sets, "--resume"), "--resume: no run of rlsd.toml")


def test_a_port_in_use_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        bind = f"127.0.0.1:{taken.getsockname()[1]}"
        refused = rlsd("serve", "verifier", "--bind", bind)
        assert_refused(refused, f"--bind {bind}", "in use", code=78)


def test_an_unknown_service_or_command_is_wrong_usage():
    assert rlsd("serve", "cook").returncode == 2
    assert rlsd("dance").returncode == 2


def test_a_line_without_its_keys_is_named(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"kind": "exact", "reference": "x"}\n')
    assert_refused(rlsd("verify", str(file)), f"{file}:1: lacks response")


def test_a_control_that_does_not_exist_is_named():
    result = rlsd("compare", CONFIG, "--methods", "rlsd:shuffled")
    assert_refused(result, "controls are permuted, other-reference")


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_verifier_that_cannot_judge_ends_the_run_and_loses_nothing(tmp_path):
    file = tmp_path / "train.jsonl"
    record = {"prompt": "Question: 1 + 1 = ?", "reference": "2", "verifier": {"kind": "oracle"}}
    file.write_text(json.dumps(record) + "\n")
    result = run_with(tmp_path, f"data.train={file}", 'run.id="a"', "evaluation.limit=2")
    assert result.returncode == 1
    assert "no group of this step has a verdict (unknown verifier kind 'oracle'" in result.stderr
    assert not list((tmp_path / "a" / "batches").glob("*.batch"))


def test_verdicts_of_a_file_come_line_by_line_from_a_real_verifier(tmp_path):
    file = tmp_path / "a.jsonl"
    lines = [
        {"kind": "exact", "response": "7 # 9", "reference": "9", "params": {"after": "#"}},
        {"kind": "math", "response": "\\boxed{1/2}", "reference": "0.5"},
        {"kind": "nothing", "response": "x", "reference": "y"},
    ]
    file.write_text("".join(json.dumps(x) + "\n" for x in lines))
    result = rlsd("verify", str(file))
    verdicts = [json.loads(x) for x in result.stdout.splitlines()]
    assert [v["outcome"] for v in verdicts] == ["scored", "scored", "error"]
    assert [v["score"] for v in verdicts] == [1.0, 1.0, None]
