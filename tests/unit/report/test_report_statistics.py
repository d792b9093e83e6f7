"""Means, errors and paired differences against hand-computed values."""

import math

import pytest

from rlsd.report.statistics import (
    Evidence,
    binomial_error,
    bootstrap_interval,
    estimate,
    paired_difference,
)


def test_the_standard_error_divides_by_n_minus_one():
    found = estimate([0.6, 0.7, 0.8])
    assert found.mean == pytest.approx(0.7)
    assert found.standard_error == pytest.approx(0.1 / math.sqrt(3))


def test_one_value_has_no_standard_error_and_none_no_estimate():
    assert estimate([0.5]).standard_error is None
    assert estimate([]) is None


def test_the_bootstrap_gives_the_same_interval_every_time():
    values = [0.1, 0.3, 0.2, 0.25, 0.15]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    low, high = bootstrap_interval(values)
    assert min(values) <= low < 0.2 < high <= max(values)


def test_equal_differences_have_an_interval_of_no_width():
    found = paired_difference([0.2, 0.2, 0.2])
    assert (found.low, found.high) == pytest.approx((0.2, 0.2))
    assert found.evidence is Evidence.AHEAD


@pytest.mark.parametrize(
    ("differences", "evidence"),
    [
        ([0.38, 0.35, 0.42, 0.40, 0.36], Evidence.AHEAD),
        ([-0.38, -0.35, -0.42], Evidence.BEHIND),
        ([0.1, -0.1, 0.05], Evidence.WITHIN_NOISE),
        ([0.6], Evidence.WITHIN_NOISE),
    ],
)
def test_evidence_follows_the_differences(differences, evidence):
    assert paired_difference(differences).evidence is evidence


def test_three_positive_differences_that_scatter_are_not_enough():
    # The bootstrap alone excludes 0 whenever all signs agree; the t interval does not.
    found = paired_difference([0.02, 0.05, 0.25])
    assert found.low > 0
    assert found.evidence is Evidence.WITHIN_NOISE


def test_no_common_seed_gives_no_difference():
    assert paired_difference([]) is None


def test_the_binomial_error_of_half_on_a_hundred_prompts_is_five_points():
    assert binomial_error(0.5, 100) == pytest.approx(0.05)
    assert binomial_error(0.5, 0) is None
