"""What is written of a step and of a run."""

import pytest
from builders import make_group

from rlsd.trajectory import GroupOutcome
from services.learner.ledger import Ledger
from services.learner.records import run_summary, step_line

TRAINED = make_group((1.0, 0.0, None, 1.0), index=0, outcome=GroupOutcome.TRAINED)
REJECTED = make_group((0.0, 0.0), index=1, outcome=GroupOutcome.REJECTED, reason="zero_variance")


def test_a_step_has_the_mean_of_its_verdicts_and_the_staleness_of_what_was_trained():
    phases, learned = {"wait": 1.0, "train": 0.5}, {"loss": -0.25}
    line = step_line([TRAINED, REJECTED], phases, learned, learner_version=2)
    assert line["step_s"] == 1.5
    assert line["reward_mean"] == pytest.approx(2 / 5)
    assert line["groups"] == {"trained": 1, "rejected": 1, "failed": 0}
    assert (line["staleness_mean"], line["staleness_max"]) == (2, 2)
    assert line["loss"] == -0.25


def test_a_step_that_is_executed_again_has_no_staleness():
    line = step_line([TRAINED], {}, {}, learner_version=None)
    assert (line["step_s"], line["staleness_mean"], line["staleness_max"]) == (0, 0, 0)


def test_a_summary_counts_a_group_that_was_trained_twice():
    ledger = Ledger()
    ledger.admit([0, 1])
    ledger.resolve(TRAINED)
    ledger.resolve(REJECTED)
    evaluations = [{"greedy_accuracy": 0.1}, {"greedy_accuracy": 0.9}]
    summary = run_summary(ledger, [TRAINED, REJECTED, TRAINED], evaluations)
    assert summary["trained_twice"] == 1
    assert summary["trajectories"] == 8
    assert summary["held_out_accuracy"] == {"start": 0.1, "end": 0.9}
    assert summary["identity_residual"] == 0
    assert summary["outcomes"]["rejected"] == {"zero_variance": 1}
