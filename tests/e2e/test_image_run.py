"""A whole run on prompts with images: real services, a tiny random Qwen3-VL, pictures in files."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from tiny_vision_model import IMAGE_ID, run, write_run

from rlsd.batch_log import BatchLog
from rlsd.policy.loading import load_tokenizer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    ("transport", "ranks"), [("redis", 1), pytest.param("grpc", 2, marks=pytest.mark.long)]
)
def test_a_run_trains_on_images_with_equal_log_probs_everywhere(tmp_path, transport, ranks):
    model = write_run(tmp_path)
    done = run(tmp_path, f"run.transport={transport}", f"learner.ranks={ranks}", timeout_s=400)
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
    write_run(tmp_path)
    (tmp_path / "pictures" / "picture0.png").unlink()
    done = run(tmp_path, timeout_s=60)
    assert done.returncode != 0
    assert "picture0.png: there is no such file" in " ".join((done.stdout + done.stderr).split())
