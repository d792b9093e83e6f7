"""Nothing lost, nothing trained twice, whatever dies; and a control that fails."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tests.chaos.control import control
from tests.chaos.run import problems

RESULT = Path("benchmarks/results/chaos_long.json")


@pytest.fixture
def sound() -> dict:
    return json.loads(RESULT.read_text())


def test_the_long_run_is_as_it_should_be(sound):
    assert problems(sound, kills=120) == []


@pytest.mark.parametrize(
    "spoiled",
    [
        {"kills": 119},
        {"kills_by_service": {"rollout": 120}},
        {"steps_in_fault_phase": 3},
        {"lost": 1},
        {"trained_twice": 1},
        {"residual": 1},
        {"failed": {"EngineError": 1}},
        {"faults": ["metrics.jsonl lacks steps [3]"]},
        {"replay_identical": False},
        {"re_executed_steps_max": 6},
        {"leftover_processes": ["python"]},
        {"control": {"lost": 0, "trained_twice": 1}},
        {"control": {"lost": 1, "trained_twice": 0}},
    ],
    ids=str,
)
def test_every_departure_is_told(sound, spoiled):
    assert len(problems({**sound, **spoiled}, kills=120)) == 1


@pytest.mark.chaos
@pytest.mark.timeout(120)
def test_the_usual_protocol_is_exact_while_nothing_dies(tmp_path):
    usual = asyncio.run(control(tmp_path, kills=0, seed=0))
    assert (usual.lost, usual.trained_twice) == (0, 0)
