"""When another try is made, and after which pause."""

from __future__ import annotations

import email.utils
from collections.abc import Callable

RETRYABLE_STATUSES = frozenset({408, 425, 429})
_FIRST_PAUSE_S = 0.25
_LONGEST_PAUSE_S = 5.0


def is_retryable(status: int) -> bool:
    """Whether a status says that the same request may succeed later."""
    return status in RETRYABLE_STATUSES or status >= 500


def pause_s(attempt: int, *, retry_after_s: float, random: Callable[[], float]) -> float:
    """Seconds before try number `attempt` + 2: full jitter, and what the server asked for.

    Args:
        attempt: tries made so far less one, from 0.
        random: a number in [0, 1).

    Source: Brooker 2015, "Exponential Backoff and Jitter" (full jitter).
    """
    ceiling = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0**attempt)
    return max(retry_after_s, ceiling * random())


def parse_retry_after(value: str | None, *, now: float) -> float:
    """Seconds that a Retry-After header asks for; 0 without a readable one.

    Args:
        value: seconds, or an HTTP date.
        now: seconds since 1970.
    """
    if value is None:
        return 0.0
    value = value.strip()[:64]
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
        return max(0.0, date.timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0
