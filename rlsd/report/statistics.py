"""The numbers behind a comparison: means, standard errors, paired differences. Pure.

One rule: a difference counts as beyond noise only when two intervals agree, because a bootstrap
over three seeds is too narrow and a t interval alone trusts a bell curve.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

NUM_RESAMPLES = 10_000
SMALL_NUM_SEEDS = 5
"""Below this many seeds the page says how little an interval is worth."""

# Two-sided 95 % quantiles of Student's t for 1 … 30 degrees of freedom; 1.96 above.
_T95 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


class Evidence(StrEnum):
    """What a paired difference shows."""

    AHEAD = "ahead"
    BEHIND = "behind"
    WITHIN_NOISE = "within noise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A mean over seeds."""

    mean: float
    standard_error: float | None
    """None with fewer than two values."""
    num: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedDifference:
    """First arm minus second arm over the seeds that both have."""

    differences: tuple[float, ...]
    mean: float
    low: float | None
    """Bootstrap 95 % interval; None with one seed."""
    high: float | None
    evidence: Evidence

    @property
    def num_seeds(self) -> int:
        """Pairs."""
        return len(self.differences)


def estimate(values: Sequence[float]) -> Estimate | None:
    """Mean and its standard error (sample deviation over √n); None without values."""
    if not values:
        return None
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(mean=float(np.mean(values)), standard_error=error, num=len(values))


def bootstrap_interval(differences: Sequence[float], *, seed: int = 0) -> tuple[float, float]:
    """Percentile 95 % interval of the mean over resampled seeds; the same for the same input."""
    values = np.asarray(differences, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(len(values), size=(NUM_RESAMPLES, len(values)))
    low, high = np.percentile(values[picks].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def paired_difference(differences: Sequence[float]) -> PairedDifference | None:
    """Mean difference, its interval, and what it shows; None without pairs."""
    if not differences:
        return None
    mean = float(np.mean(differences))
    if len(differences) == 1:
        return PairedDifference(
            differences=tuple(differences),
            mean=mean,
            low=None,
            high=None,
            evidence=Evidence.WITHIN_NOISE,
        )
    low, high = bootstrap_interval(differences)
    half_width = _t_half_width(differences)
    evidence = Evidence.WITHIN_NOISE
    if min(low, mean - half_width) > 0:
        evidence = Evidence.AHEAD
    elif max(high, mean + half_width) < 0:
        evidence = Evidence.BEHIND
    return PairedDifference(
        differences=tuple(differences), mean=mean, low=low, high=high, evidence=evidence
    )


def binomial_error(share: float, num: int) -> float | None:
    """Standard error of a share measured on `num` prompts."""
    return math.sqrt(share * (1 - share) / num) if num > 0 and 0 <= share <= 1 else None


def _t_half_width(differences: Sequence[float]) -> float:
    """Half-width of the paired t interval at 95 %."""
    freedom = len(differences) - 1
    quantile = _T95[freedom - 1] if freedom <= len(_T95) else 1.96
    return quantile * float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
