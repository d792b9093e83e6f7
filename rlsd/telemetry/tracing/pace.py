"""How many traces begin a second, where the environment names no sampler."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

_MOST_A_SECOND = 5.0
_OVER_S = 30.0
_IDS = 1 << 64
"""Of the last bits of a trace id; OpenTelemetry's sampler by ratio looks at no others either."""


class Pace:
    """Admits every trace of a slow run and a share of a fast one's, by their ids.

    The share follows the rate of the last half minute. A smaller share's traces are among those of
    a larger one, and the ids are hashes, so neither the first of a step nor the slow are preferred.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at_s = clock()
        self._begun = 0.0

    def admits(self, trace_id: int) -> bool:
        """Whether this one, which begins now, is traced; about 5 a second are in the long run."""
        now_s = self._clock()
        self._begun = 1 + self._begun * math.exp((self._at_s - now_s) / _OVER_S)
        self._at_s = now_s
        share = min(1.0, _MOST_A_SECOND * _OVER_S / self._begun)
        return trace_id % _IDS < share * _IDS
