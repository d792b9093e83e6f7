"""A whole run on prompts with images: real services, a tiny random Qwen3-VL, pictures in files."""

import json
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_vision_model import IMAGE_ID, write_model, write_pictures, write_records

from rlsd.batch_log import BatchLog
from rlsd.policy.loading import load_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CONFIG = """
[run]
id = "seen"
dir = "runs"
steps = 3
groups_per_step = 4
transport = "{transport}"

[model]
path = "model"

[data]
train = "records.jsonl"

[method]
name = "rlsd"

[rollout]
group_size = 4
max_tokens = 8

[teacher]
sync_every = 1

[learner]
lr = 1e-3
microbatch_tokens = 512
ranks = {ranks}

[verifier]
kinds = ["regex"]
"""


@pytest.mark.parametrize(("transport", "ranks"), [("redis", 1), ("grpc", 2)])
def test_a_run_trains_on_images_with_equal_log_probs_everywhere(tmp_path, transport, ranks):
    model = write_model(tmp_path / "model")
    pictures = write_pictures(tmp_path / "pictures")
    write_records(tmp_path, pictures, 12, pattern="[a-m]")
    (tmp_path / "run.toml").write_text(CONFIG.format(transport=transport, ranks=ranks))
    command = [sys.executable, "-m", "rlsd", "run", str(tmp_path / "run.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr

    folder = tmp_path / "runs" / "seen"
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["steps"], summary["identity_residual"]) == (3, 0)
    assert summary["outcomes"]["failed"] == {}
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == 3
    assert max(step["rollout_gap_max"] for step in steps) < 1e-4

    first = load_file(model / "model.safetensors")
    last = load_file(folder / "weights" / "v00000003" / "model.safetensors")
    changed = {name for name in first if not np.array_equal(first[name], last[name])}
    assert any("visual" in name for name in changed)
    assert any("language_model" in name for name in changed)

    tokenizer = load_tokenizer(str(model))
    log = BatchLog(folder / "batches", "seen")
    groups = [group for step in (1, 2, 3) for group in log.read(step).groups]
    trained = [group for group in groups if group.outcome == "trained"]
    assert trained
    for group in groups:
        assert (group.prompt_token_ids == IMAGE_ID).sum() >= 4
        assert "Secret" not in tokenizer.decode(group.prompt_token_ids)
    deltas = [
        t.scores.teacher_logprobs - t.scores.student_logprobs
        for group in trained
        for t in group.trajectories
        if t.scores is not None
    ]
    assert deltas
    assert np.isfinite(np.concatenate(deltas)).all()
    assert np.abs(np.concatenate(deltas)).max() > 1e-4


def test_a_run_that_nobody_could_look_at_does_not_start(tmp_path):
    model = write_model(tmp_path / "model")
    write_records(tmp_path, write_pictures(tmp_path / "pictures"), 12, pattern="[a-m]")
    (tmp_path / "run.toml").write_text(CONFIG.format(transport="grpc", ranks=1))
    (tmp_path / "pictures" / "picture0.png").unlink()
    command = [sys.executable, "-m", "rlsd", "run", str(tmp_path / "run.toml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode != 0
    assert "picture0.png: there is no such file" in " ".join((done.stdout + done.stderr).split())
    assert model.is_dir()
