from __future__ import annotations

import pytest

from rlsd.objectives import lambda_at, teacher_version_at


@pytest.mark.parametrize(
    ("key", "options"),
    [
        ("lambda_paper_decay50", {"decay_steps": 50}),
        ("lambda_repo_decay60", {"decay_steps": 60}),
        ("lambda_warmup10_decay50", {"decay_steps": 50, "warmup_steps": 10}),
    ],
)
def test_lambda_matches_the_oracle(key, options, oracle):
    for step, expected in oracle.entries["rlsd_schedule"][key].items():
        assert lambda_at(int(step), lam=0.5, **options) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("key", "sync_every"),
    [
        ("teacher_version_sync10", 10),
        ("teacher_version_sync20", 20),
        ("teacher_version_live", 1),
    ],
)
def test_teacher_version_matches_the_oracle(key, sync_every, oracle):
    for step, expected in oracle.entries["rlsd_schedule"][key].items():
        assert teacher_version_at(int(step), sync_every=sync_every) == expected


def test_lambda_without_decay_is_constant():
    assert [lambda_at(s, lam=0.3, decay_steps=0) for s in (1, 50, 10_000)] == [0.3] * 3


def test_warmup_ends_at_the_full_share_without_decay():
    shares = [lambda_at(s, lam=0.5, decay_steps=0, warmup_steps=2) for s in (1, 2, 3)]
    assert shares == [0.25, 0.5, 0.5]


def test_steps_are_counted_from_one():
    with pytest.raises(ValueError, match="counted from 1"):
        lambda_at(0, lam=0.5, decay_steps=50)
    with pytest.raises(ValueError, match="counted from 1"):
        teacher_version_at(0, sync_every=10)


def test_a_teacher_is_synced_at_least_every_so_often():
    with pytest.raises(ValueError, match="sync_every is 0"):
        teacher_version_at(1, sync_every=0)
