"""A row of blocks that shows how a number went. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int) -> str:
    """At most `width` blocks, each the mean of its share of the values.

    The scale is 0 to 1, wider where a value lies outside; what is not finite is left out.
    """
    finite = [v for v in values if math.isfinite(v)]
    if not finite or width < 1:
        return ""
    low, high = min(0.0, *finite), max(1.0, *finite)
    num = min(width, len(finite))
    cuts = [len(finite) * n // num for n in range(num + 1)]
    means = [sum(finite[a:b]) / (b - a) for a, b in itertools.pairwise(cuts)]
    return "".join(_BARS[min(7, int((m - low) / (high - low) * 8))] for m in means)
