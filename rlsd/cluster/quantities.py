"""Quantities as Kubernetes writes them (`250m`, `16Gi`, `8`), and as a reader wants them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

_QUANTITY = re.compile(r"([+-]?[0-9.]+)(?:([eE][+-]?[0-9]+)|([KMGTPE]i|[numkMGTPE]))?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_GIB = Decimal(2**30)


def quantity(given: str | float) -> Decimal:
    """Cores, bytes or pieces.

    Raises:
        ValueError: that is no quantity.
    """
    found = _QUANTITY.fullmatch(str(given))
    if not found:
        raise ValueError(f"{given!r} is no quantity of Kubernetes")
    number, exponent, suffix = found.groups()
    if exponent:
        return Decimal(number + exponent)
    if suffix in _BINARY:
        return Decimal(number) * Decimal(1024 ** int(_BINARY[suffix]))
    return Decimal(number).scaleb(_DECIMAL.get(suffix or "", 0))


def words(resource: str, amount: Decimal) -> str:
    """`4 CPU`, `16 GiB of memory`, `8 nvidia.com/gpu`."""
    match resource.removeprefix("requests.").removeprefix("limits."):
        case "cpu":
            return f"{_short(amount)} CPU"
        case "memory":
            return f"{_short(amount / _GIB)} GiB of memory"
        case "ephemeral-storage":
            return f"{_short(amount / _GIB)} GiB of local disk"
        case "storage":
            return f"{_short(amount / _GIB)} GiB of volumes"
        case other:
            return f"{_short(amount)} {other}"


def all_words(amounts: Mapping[str, Decimal], *, without: tuple[str, ...] = ()) -> str:
    """Devices first, then CPU and memory."""
    order = sorted(amounts, key=lambda r: ("/" not in r, r))
    return ", ".join(words(r, amounts[r]) for r in order if r not in without and amounts[r])


def _short(amount: Decimal) -> str:
    text = f"{amount:.1f}"
    return text.removesuffix(".0")
