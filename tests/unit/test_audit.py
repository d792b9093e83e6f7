"""Each lie that a run's folder could tell, and the check that names it."""

import json
from dataclasses import replace

import pytest
from builders import make_group, make_trajectory

from rlsd.audit import audit
from rlsd.batch_log import BatchLog
from rlsd.cli.audit import weights_check
from rlsd.errors import ConfigError
from rlsd.trajectory import GroupOutcome, Verdict, VerdictOutcome

TRAINED = {"outcome": GroupOutcome.TRAINED}
REJECTED = {"outcome": GroupOutcome.REJECTED, "reason": "zero_variance"}
FAILED = {"outcome": GroupOutcome.FAILED, "reason": "EngineError: on fire"}
STEPS = (
    (make_group(index=0, **TRAINED), make_group(index=1, **REJECTED)),
    (make_group(index=2, **FAILED), make_group(index=3, **TRAINED)),
)


class RunFolder:
    """A folder as the learner leaves it, with whatever changes a test wants."""

    def __init__(self, path):
        self.path = path

    def write(self, steps=STEPS, **changes):
        sha256 = ""
        for number, groups in enumerate(steps, start=1):
            log = BatchLog(self.path / "batches", "run")
            sha256 = log.append(number, groups, previous_sha256=sha256)
        outcomes = {
            "admitted": 4,
            "trained": 2,
            "rejected": {"zero_variance": 1},
            "failed": {"EngineError": 1},
            "in_flight": 0,
        }
        summary = {
            "steps": 2,
            "trajectories": 8,
            "trained_twice": 0,
            "identity_residual": 0,
            "verdicts": {"scored": 16},
            "interrupted": False,
        }
        outcomes |= {k: v for k, v in changes.items() if k in outcomes}
        summary |= {k: v for k, v in changes.items() if k in summary}
        (self.path / "summary.json").write_text(json.dumps({**summary, "outcomes": outcomes}))
        return sha256

    def checkpoint(self, step, sha256):
        folder = self.path / "checkpoints" / f"{step:08d}"
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"step": step, "batch_sha256": sha256}))

    def found(self):
        return {check.name: check.found for check in audit(self.path, "run").checks}

    def off(self):
        return audit(self.path, "run").off


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


def test_a_sound_run_holds_and_its_identity_is_spelled_out(folder):
    folder.checkpoint(2, folder.write())
    assert folder.off() == []
    identity = "4 admitted = 2 trained + 1 rejected + 1 failed + 0 in flight"
    assert folder.found()["identity"] == identity


def test_a_changed_file_breaks_the_chain_and_nothing_else_is_guessed(folder):
    folder.write()
    path = folder.path / "batches" / "00000001.batch"
    path.write_bytes(path.read_bytes().replace(b"2 + 2", b"2 + 3"))
    assert folder.off() == ["chain"]
    assert "00000002.batch" in folder.found()["chain"]


def test_a_missing_file_breaks_the_chain(folder):
    folder.write()
    (folder.path / "batches" / "00000001.batch").unlink()
    assert folder.off() == ["chain"]


def test_a_log_of_another_run_breaks_the_chain(folder):
    folder.write()
    assert audit(folder.path, "another").off == ["chain"]


def test_a_changed_last_file_is_caught_by_the_checkpoint(folder):
    folder.write()
    folder.checkpoint(2, "0" * 64)
    assert folder.off() == ["checkpoints"]


def test_a_group_that_is_trained_twice_is_named(folder):
    steps = (STEPS[0], (make_group(index=0, **TRAINED), STEPS[1][0]))
    folder.write(steps=steps)
    assert {"outcomes", "trained once"} <= set(folder.off())
    assert folder.found()["trained once"] == "g00000000 again at step 2"
    assert folder.found()["outcomes"] == "g00000000 has two, at steps 1 and 2"


def test_a_group_with_two_different_outcomes_is_named(folder):
    folder.write(steps=(STEPS[0], (make_group(index=1, **TRAINED), STEPS[1][1])))
    assert "g00000001 has two, at steps 1 and 2" in folder.found()["outcomes"]


def test_a_group_without_an_outcome_is_named(folder):
    folder.write(steps=(STEPS[0], (STEPS[1][0], make_group(index=3))))
    assert "g00000003 is logged at step 2 without an outcome" in folder.found()["outcomes"]


def test_an_error_that_carries_a_reward_into_training_is_named(folder):
    verdict = Verdict(outcome=VerdictOutcome.TIMEOUT, reward=1.0)
    members = (
        *(make_trajectory(m, reward=r) for m, r in enumerate((1.0, 0.0))),
        replace(make_trajectory(2), verdict=verdict),
    )
    paid = make_group(index=3, trajectories=members, **TRAINED)
    folder.write(steps=(STEPS[0], (STEPS[1][0], paid)))
    assert folder.found()["verdicts"] == "g00000003/2: timeout carries reward 1"


def test_a_group_trained_on_one_verdict_is_named(folder):
    lonely = make_group(rewards=(1.0, None, None), index=3, **TRAINED)
    folder.write(steps=(STEPS[0], (STEPS[1][0], lonely)))
    assert "g00000003 is trained on fewer than two" in folder.found()["verdicts"]


def test_an_index_that_was_never_logged_is_named(folder):
    folder.write(steps=(STEPS[0], (STEPS[1][0],)), trained=1, trajectories=4)
    assert {"indices", "identity"} <= set(folder.off())
    assert folder.found()["indices"] == "3 missing, 0 were still out"
    assert folder.found()["identity"].endswith("residual 1")


def test_a_summary_that_says_otherwise_is_held_against_the_log(folder):
    folder.write(rejected={"stale": 1})
    assert folder.off() == ["summary"]
    assert folder.found()["summary"].startswith("rejected: it says {'stale': 1}, the log {'zero")


def test_groups_that_were_out_when_the_run_was_stopped_are_no_gap(folder):
    folder.write(admitted=6, in_flight=2, interrupted=True)
    assert folder.off() == []


def test_groups_rejected_early_by_an_interrupted_run_are_no_lie(folder):
    folder.write(admitted=5, rejected={"zero_variance": 2}, interrupted=True)
    assert folder.off() == []


def test_the_same_figures_of_a_run_that_ended_are_one(folder):
    folder.write(admitted=5, rejected={"zero_variance": 2})
    assert folder.off() == ["indices", "identity", "summary"]


def test_a_run_that_went_on_is_compared_up_to_its_summary(folder):
    folder.write(steps=(*STEPS, (make_group(index=4, **TRAINED),)))
    assert folder.off() == []
    assert folder.found()["summary"] == "summary.json agrees; the run went on for 1 steps"


def test_a_running_run_has_no_summary_to_compare_with(folder):
    folder.write()
    (folder.path / "summary.json").unlink()
    assert folder.off() == []
    assert folder.found()["summary"] == "none yet; 4 groups have their outcome"


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="give the folder of a run"):
        audit(tmp_path, "run")


def test_the_audit_is_plain_json(folder):
    folder.write()
    assert json.loads(json.dumps(audit(folder.path, "run").as_json()))["ok"] is True


@pytest.mark.parametrize(
    ("changes", "is_ok", "words"),
    [
        ({}, True, "5 steps from the base model give version 5 to the bit"),
        ({"from_step": 2, "steps": 3}, True, "3 steps from checkpoint 2"),
        ({"is_equal": False}, False, "other weights than version 5"),
        ({"unscored_rows": 1}, False, "1 rows without a scored verdict"),
    ],
)
def test_a_replay_is_put_in_words(changes, is_ok, words):
    replayed = {
        "version": 5,
        "from_step": 0,
        "steps": 5,
        "is_equal": True,
        "probe_difference": 1e-6,
        "unscored_rows": 0,
    }
    check = weights_check(replayed | changes)
    assert (check.name, check.is_ok) == ("weights", is_ok)
    assert words in check.found
